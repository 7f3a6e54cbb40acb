"""The picture as if in normal light, by the Illumination Adaptive Transformer (Cui et al. 2022, arXiv:2205.14871)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from pipelines.annotate.canvas import canvas_side, inside, placed, taken
from pipelines.annotate.models import ModelFile
from tokenizer.checkpoints.tensors import read_safetensors
from tokenizer.devices import on_all_devices
from visent.errors import UserError

FILES = (
    ModelFile(
        name="iat_lol_v1.safetensors",
        about="best_Epoch_lol_v1.pth of cuiziteng/Illumination-Adaptive-Transformer, written as safetensors",
    ),
)
BLOCKS = 3  # in each of the two local branches
HEADS = 4  # of the attention
BATCH = 4  # pictures on each device
PARAMETERS = 161

Tensors = Mapping[str, Array]


class IAT:
    """A light network, trained on LOL: a pixel is scaled and shifted, then all colours mixed and raised to a power."""

    exact = False

    def __init__(self, tensors: Mapping[str, np.ndarray], side: int) -> None:
        self._side = side
        weights = {name: jnp.asarray(values) for name, values in tensors.items()}
        self._brightened, self.batch_size = on_all_devices(_brightened, (weights,), BATCH)

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 4"]:
        """Puts the picture on the canvas; the fourth channel tells where it is."""
        return np.dstack([placed(image, self._side), inside(image.shape, self._side).astype(np.uint8)])

    def run(self, inputs: UInt8[np.ndarray, "n s s 4"]) -> Float[np.ndarray, "n s s 3"]:
        """Returns the bright pictures in [0, 1]."""
        return np.asarray(self._brightened(inputs))

    def draw(self, output: Float[np.ndarray, "s s 3"], image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the bright picture."""
        bright: np.ndarray = np.rint(255 * np.clip(taken(output, image.shape[:2]), 0, 1)).astype(np.uint8)
        return bright


def load(files: Sequence[Path], size: int) -> IAT:
    """Reads the weights as PyTorch names them.

    Raises: `UserError` when they are of another network.
    """
    tensors = {name: np.asarray(values, np.float32) for name, values in read_safetensors(files[0]).items()}
    if len(tensors) != PARAMETERS or "global_net.generator.attn.q" not in tensors:
        raise UserError(f"{files[0]} holds {len(tensors)} tensors that are no IAT of {PARAMETERS}; fetch it again")
    return IAT(tensors, canvas_side(size))


def _brightened(tensors: Tensors, pictures: UInt8[Array, "n s s 4"]) -> Float[Array, "n s s 3"]:
    """Section 3: an image signal processor run on the picture, its parameters from a local and a global branch."""
    dark, inside = pictures[..., :3].astype(jnp.float32) / 255, pictures[..., 3] > 0
    local, whole = _below(tensors, "local_net"), _below(tensors, "global_net")
    features = jax.nn.leaky_relu(_convolved(local, "conv1", dark), 0.2)
    factor, offset = features, features
    for block in range(BLOCKS):
        factor = _block(_below(local, f"mul_blocks.{block}"), factor)
        offset = _block(_below(local, f"add_blocks.{block}"), offset)
    factor = jax.nn.relu(_convolved(local, "mul_end.0", factor + features))
    offset = jnp.tanh(_convolved(local, "add_end.0", offset + features))
    gamma, colours = _global(whole, dark, inside)
    mixed = jnp.einsum("nhwc,ndc->nhwd", dark * factor + offset, colours)
    return jnp.clip(mixed, 1e-8, 1.0) ** gamma[:, None, None, None]


def _below(tensors: Tensors, prefix: str) -> dict[str, Array]:
    return {name[len(prefix) + 1 :]: values for name, values in tensors.items() if name.startswith(prefix + ".")}


def _convolved(tensors: Tensors, name: str, x: Float[Array, "n h w c"], stride: int = 1) -> Float[Array, "n a b d"]:
    kernel, bias = jnp.transpose(tensors[f"{name}.weight"], (2, 3, 1, 0)), tensors[f"{name}.bias"]
    around = kernel.shape[0] // 2
    if kernel.shape[2] < x.shape[-1]:
        return _by_channel(kernel[:, :, 0], x) + bias
    edges = [(around, around)] * 2
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), edges, dimension_numbers=axes) + bias


def _by_channel(kernel: Float[Array, "k k c"], x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Convolves each channel with its own kernel, as a sum of shifted pictures: XLA's own way is far slower on CPUs."""
    side, (height, width) = len(kernel), x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2), (0, 0)))
    places = [(i, j) for i in range(side) for j in range(side)]
    return sum((padded[:, i : i + height, j : j + width] * kernel[i, j] for i, j in places), jnp.zeros_like(x))


def _linear(tensors: Tensors, name: str, x: Float[Array, "*n c"]) -> Float[Array, "*n d"]:
    return x @ tensors[f"{name}.weight"].T + tensors.get(f"{name}.bias", 0.0)


def _gelu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return jax.nn.gelu(x, approximate=False)


def _block(tensors: Tensors, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """A transformer's block whose attention is a 5 x 5 convolution and whose norm mixes and scales channels."""
    x += _convolved(tensors, "pos_embed", x)
    y = _convolved(tensors, "conv1", _mixed(tensors, "norm1", x))
    x += tensors["gamma_1"][:, :, 0, 0] * _convolved(tensors, "conv2", _convolved(tensors, "attn", y))
    y = _gelu(_convolved(tensors, "mlp.fc1", _mixed(tensors, "norm2", x)))
    return x + tensors["gamma_2"][:, :, 0, 0] * _convolved(tensors, "mlp.fc2", y)


def _mixed(tensors: Tensors, name: str, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    return (x @ tensors[f"{name}.color"].T) * tensors[f"{name}.alpha"] + tensors[f"{name}.beta"]


def _global(
    tensors: Tensors, dark: Float[Array, "n s s 3"], inside: Bool[Array, "n s s"]
) -> tuple[Float[Array, "n"], Float[Array, "n 3 3"]]:
    """Ten learnt queries ask the picture for the power and the colour matrix."""
    x = _gelu(_normed(tensors, "conv_large.proj.1", _convolved(tensors, "conv_large.proj.0", dark, 2)))
    x = _normed(tensors, "conv_large.proj.4", _convolved(tensors, "conv_large.proj.3", x, 2))
    block = _below(tensors, "generator")
    x += _convolved(block, "pos_embed", x)
    tokens = _layer_norm(block, "norm1", x.reshape(len(x), -1, x.shape[-1]))
    answers = _asked(_below(block, "attn"), tokens, inside[:, ::4, ::4].reshape(len(x), -1))
    hidden = _gelu(_linear(block, "mlp.fc1", _layer_norm(block, "norm2", answers)))
    answers += _linear(block, "mlp.fc2", hidden)
    gamma = _linear(tensors, "gamma_linear", answers[:, 0])[:, 0] + tensors["gamma_base"]
    colours = _linear(tensors, "color_linear", answers[:, 1:]).reshape(-1, 3, 3) + tensors["color_base"]
    return gamma, colours


def _asked(tensors: Tensors, x: Float[Array, "n t c"], inside: Bool[Array, "n t"]) -> Float[Array, "n 10 c"]:
    """Attention over the tokens of the picture, and not over what fills the canvas."""
    n, tokens, width = x.shape
    keys, values = (_linear(tensors, name, x).reshape(n, tokens, HEADS, -1) for name in ("k", "v"))
    queries = tensors["q"][0].reshape(-1, HEADS, width // HEADS)
    scores = jnp.einsum("qhc,nthc->nhqt", queries, keys) * (width // HEADS) ** -0.5
    weights = jax.nn.softmax(scores, where=inside[:, None, None])
    found = jnp.einsum("nhqt,nthc->nqhc", weights, values)
    return _linear(tensors, "proj", found.reshape(n, -1, width))


def _normed(tensors: Tensors, name: str, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Batch normalization with the statistics of training."""
    mean, variance, weight, bias = (
        tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / jnp.sqrt(variance + 1e-5) * weight + bias


def _layer_norm(tensors: Tensors, name: str, x: Float[Array, "n t c"]) -> Float[Array, "n t c"]:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]
