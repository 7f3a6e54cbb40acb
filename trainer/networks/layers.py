"""Layers that networks share, on float32[n h w c]; convolutions are exact where devices round them by default."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = Any  # jax.Array, float32[n h w c] for pictures


def convolve(images: Array, kernel: Array, stride: int = 1, padding: str = "SAME") -> Array:
    """Convolves with a kernel [h w in out]; "SAME" is TensorFlow's, which pads more on the right and below."""
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,  # TPUs would round to bfloat16, GPUs to TF32: a Fréchet distance sees that
    )


def convolve_channels(images: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolves each channel with its own kernel [h w 1 c], padded as "SAME".

    As a sum of shifted images, which XLA makes one loop of: on processors its own convolution by channels is slow.
    """
    size = kernel.shape[0]
    outs = [-(-length // stride) for length in images.shape[1:3]]
    lacks = [max((out - 1) * stride + size - length, 0) for out, length in zip(outs, images.shape[1:3], strict=True)]
    padded = jnp.pad(images, ((0, 0), *((lack // 2, lack - lack // 2) for lack in lacks), (0, 0)))
    total = jnp.zeros((len(images), *outs, images.shape[-1]), images.dtype)
    for row, column in itertools.product(range(size), repeat=2):
        shifted = padded[:, row:, column:][:, ::stride, ::stride][:, : outs[0], : outs[1]]
        total += shifted * kernel[row, column, 0]
    return total


def matmul(features: Array, matrix: Array) -> Array:
    """Multiplies in whole float32."""
    return jnp.matmul(features, matrix, precision=lax.Precision.HIGHEST)


def max_pool(images: Array, size: int, stride: int, padding: str) -> Array:
    """Returns the largest of each window; what pads is smaller than anything."""
    return lax.reduce_window(images, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), padding)


def average_pool(images: Array, size: int, padding: str = "SAME") -> Array:
    """Returns the means of windows at every pixel; what pads counts for nothing, as in TensorFlow."""
    window, steps = (1, size, size, 1), (1, 1, 1, 1)
    sums = lax.reduce_window(images, 0.0, lax.add, window, steps, padding)
    return sums / _counts(images.shape[1:3], size, padding)


def _counts(shape: Sequence[int], size: int, padding: str) -> np.ndarray:
    """Returns float32[h w 1], the pixels in each window; by numpy, as XLA would fold it for minutes."""
    if padding == "VALID":
        return np.full((1, 1, 1), size * size, np.float32)
    before = (size - 1) // 2
    along = [
        np.minimum(np.arange(length) + size - before, length) - np.maximum(np.arange(length) - before, 0)
        for length in shape
    ]
    counts: np.ndarray = np.multiply.outer(along[0], along[1]).astype(np.float32)[..., None]
    return counts


def folded(
    kernel: np.ndarray, scale: np.ndarray | float, shift: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Puts batch normalisation into the convolution before it: returns its kernel [h w in out] and its bias [out]."""
    factor = np.float64(scale) / np.sqrt(variance.astype(np.float64) + eps)
    return (kernel * factor).astype(np.float32), (shift - mean * factor).astype(np.float32)


def softmax(logits: Array) -> Array:
    """Returns probabilities."""
    return jax.nn.softmax(logits, axis=-1)
