"""The Inception-v3 of 2015-12-05, which every published FID and Inception Score is made with, in plain JAX.

It is not the Inception of torchvision, Keras or TF-Slim. What the frozen graph does that those do not (pytorch-fid,
`inception.py`): average pooling leaves padding out of its means, the last block takes the largest of a window in place
of the mean, there are 1,008 outputs, and the score takes them without their bias (Salimans et al. 2016; ADM).

Pictures of any size are resized as the graph itself does (TensorFlow 1's ResizeBilinear on values of 0 to 255) and
scaled by (x - 128) / 128. That is the protocol of ADM (Dhariwal & Nichol 2021), which LVM-Lite's FID and IS follow, and
what torch-fidelity does. pytorch-fid itself resizes by torch (half-pixel centres) and scales by 2x - 1: the same
weights, but figures that differ in the first decimals.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from trainer.networks import layers
from trainer.networks.resizing import resized

SIZE = 299
FEATURES, CLASSES = 2048, 1008


@dataclass(frozen=True)
class Conv:
    """A convolution with batch normalisation and ReLU."""

    name: str
    channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: Literal["SAME", "VALID"] = "SAME"


@dataclass(frozen=True)
class Pool:
    """3 x 3 pooling."""

    kind: Literal["max", "average"]
    stride: int = 1
    padding: Literal["SAME", "VALID"] = "SAME"


@dataclass(frozen=True)
class Branches:
    """Ways through a block; their channels are joined in this order. Names of what is inside begin with its own."""

    name: str
    ways: "tuple[tuple[Step, ...], ...]"


Step = Conv | Pool | Branches
ONE, THREE, FIVE, ROW, COLUMN = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)
AVERAGE, LARGEST = Pool("average"), Pool("max")
HALVE = Pool("max", 2, "VALID")


def _a(name: str, pooled: int) -> Branches:
    double = (Conv("branch3x3dbl_1", 64, ONE), Conv("branch3x3dbl_2", 96, THREE), Conv("branch3x3dbl_3", 96, THREE))
    return Branches(
        name,
        (
            (Conv("branch1x1", 64, ONE),),
            (Conv("branch5x5_1", 48, ONE), Conv("branch5x5_2", 64, FIVE)),
            double,
            (AVERAGE, Conv("branch_pool", pooled, ONE)),
        ),
    )


def _b(name: str) -> Branches:
    end = Conv("branch3x3dbl_3", 96, THREE, 2, "VALID")
    double = (Conv("branch3x3dbl_1", 64, ONE), Conv("branch3x3dbl_2", 96, THREE), end)
    return Branches(name, ((Conv("branch3x3", 384, THREE, 2, "VALID"),), double, (HALVE,)))


def _c(name: str, inner: int) -> Branches:
    first = (Conv("branch7x7_1", inner, ONE), Conv("branch7x7_2", inner, ROW), Conv("branch7x7_3", 192, COLUMN))
    kernels = (ONE, COLUMN, ROW, COLUMN, ROW)
    channels = (inner, inner, inner, inner, 192)
    second = tuple(
        Conv(f"branch7x7dbl_{number}", count, kernel)
        for number, (count, kernel) in enumerate(zip(channels, kernels, strict=True), 1)
    )
    return Branches(name, ((Conv("branch1x1", 192, ONE),), first, second, (AVERAGE, Conv("branch_pool", 192, ONE))))


def _d(name: str) -> Branches:
    first = (Conv("branch3x3_1", 192, ONE), Conv("branch3x3_2", 320, THREE, 2, "VALID"))
    end = Conv("branch7x7x3_4", 192, THREE, 2, "VALID")
    row, column = Conv("branch7x7x3_2", 192, ROW), Conv("branch7x7x3_3", 192, COLUMN)
    return Branches(name, (first, (Conv("branch7x7x3_1", 192, ONE), row, column, end), (HALVE,)))


def _e(name: str, pool: Pool) -> Branches:
    def fork(way: str, last: str) -> Branches:
        return Branches("", ((Conv(f"{way}_{last}a", 384, (1, 3)),), (Conv(f"{way}_{last}b", 384, (3, 1)),)))

    double = (Conv("branch3x3dbl_1", 448, ONE), Conv("branch3x3dbl_2", 384, THREE), fork("branch3x3dbl", "3"))
    return Branches(
        name,
        (
            (Conv("branch1x1", 320, ONE),),
            (Conv("branch3x3_1", 384, ONE), fork("branch3x3", "2")),
            double,
            (pool, Conv("branch_pool", 192, ONE)),
        ),
    )


NETWORK: tuple[Step, ...] = (
    Conv("Conv2d_1a_3x3", 32, THREE, 2, "VALID"),
    Conv("Conv2d_2a_3x3", 32, THREE, 1, "VALID"),
    Conv("Conv2d_2b_3x3", 64, THREE),
    HALVE,
    Conv("Conv2d_3b_1x1", 80, ONE),
    Conv("Conv2d_4a_3x3", 192, THREE, 1, "VALID"),
    HALVE,
    _a("Mixed_5b", 32), _a("Mixed_5c", 64), _a("Mixed_5d", 64),
    _b("Mixed_6a"),
    _c("Mixed_6b", 128), _c("Mixed_6c", 160), _c("Mixed_6d", 160), _c("Mixed_6e", 192),
    _d("Mixed_7a"),
    _e("Mixed_7b", AVERAGE), _e("Mixed_7c", LARGEST),
)  # fmt: skip


def layers_of(steps: tuple[Step, ...], inputs: int, inside: str = "") -> tuple[int, dict[str, tuple[int, Conv]]]:
    """Returns the channels that come out, and each convolution by its full name with the channels that go in."""
    found: dict[str, tuple[int, Conv]] = {}
    for step in steps:
        if isinstance(step, Conv):
            found[inside + step.name] = (inputs, step)
            inputs = step.channels
        elif isinstance(step, Branches):
            ways = [layers_of(way, inputs, _inside(inside, step)) for way in step.ways]
            inputs = sum(channels for channels, _ in ways)
            found |= {name: layer for _, named in ways for name, layer in named.items()}
    return inputs, found


def _inside(inside: str, step: Branches) -> str:
    return f"{inside}{step.name}." if step.name else inside


def describe(weights: dict[str, jax.Array], pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns pool_3, float32[n 2048], and the probabilities of the Inception Score, float32[n 1008]."""
    images = (resized(pixels.astype(jnp.float32), (SIZE, SIZE), "top-left") - 128) / 128
    features = jnp.mean(_forward(NETWORK, weights, images), axis=(1, 2))
    return features, layers.softmax(layers.matmul(features, weights["classes"]))


def _forward(steps: tuple[Step, ...], weights: dict[str, jax.Array], images: jax.Array, inside: str = "") -> jax.Array:
    for step in steps:
        if isinstance(step, Conv):
            kernel, bias = (weights[f"{inside}{step.name}.{part}"] for part in ("kernel", "bias"))
            images = jax.nn.relu(layers.convolve(images, kernel, step.stride, step.padding) + bias)
        elif isinstance(step, Pool) and step.kind == "max":
            images = layers.max_pool(images, 3, step.stride, step.padding)
        elif isinstance(step, Pool):
            images = layers.average_pool(images, 3)
        else:
            ways = [_forward(way, weights, images, _inside(inside, step)) for way in step.ways]
            images = jnp.concatenate(ways, axis=-1)
    return images
