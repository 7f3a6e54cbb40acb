"""Resizes pictures as the publishers of networks do; another way of doing it moves a Fréchet distance by whole points.

Parmar et al., "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", 2021.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32


def bilinear_as_tensorflow_1(images: Float32[jax.Array, "*n h w c"], size: int) -> Float32[jax.Array, "*n s s c"]:
    """Resizes to a square as `tf.compat.v1.image.resize_bilinear` does: ResizeBilinear without `half_pixel_centers`.

    Output pixel i lies at i * h / s of the input, so that the picture moves by less than a pixel, and nothing is
    averaged when it gets smaller. Images of that size stay as they are.
    """
    for axis in (-3, -2):
        length = images.shape[axis]
        if length == size:
            continue
        place = np.arange(size, dtype=np.float32) * np.float32(length / size)
        before = np.minimum(place.astype(np.int32), length - 1)
        after = np.minimum(before + 1, length - 1)
        share = (place - before).reshape((-1,) + (1,) * (-axis - 1))
        first = jnp.take(images, before, axis=axis)
        images = first + (jnp.take(images, after, axis=axis) - first) * share
    return images


def bilinear_antialiased(images: Float32[jax.Array, "*n h w c"], size: int) -> Float32[jax.Array, "*n s s c"]:
    """Resizes to a square as Pillow's BILINEAR does, without its rounding: what gets smaller is averaged."""
    shape = (*images.shape[:-3], size, size, images.shape[-1])
    return jax.image.resize(images, shape, "linear", antialias=True)
