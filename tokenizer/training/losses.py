"""Losses of a reconstruction, apart from networks that judge it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from tokenizer.training.config import TrainConfig

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def pixel_loss(images: Float[Array, "n h w 3"], made: Float[Array, "n h w 3"], config: TrainConfig) -> Float[Array, ""]:
    """Returns the weighted mean of squared, absolute and coarse colour errors."""
    error = made - images
    loss = config.l2_weight * jnp.mean(error**2) + config.l1_weight * jnp.mean(jnp.abs(error))
    if config.chroma_weight:
        loss += config.chroma_weight * jnp.mean(coarse_chroma(error) ** 2)
    return config.pixel_weight * loss


def coarse_chroma(images: Float[Array, "n h w 3"]) -> Float[Array, "n ch cw 3"]:
    """Returns the colour without the brightness, averaged over squares of 8 x 8 pixels."""
    n, h, w, _ = images.shape
    means = images.reshape(n, h // 8, 8, w // 8, 8, 3).mean(axis=(2, 4))
    return means - (means @ jnp.array(LUMA))[..., None]


def psnr(images: Float[Array, "n h w 3"], made: Float[Array, "n h w 3"]) -> Float[Array, ""]:
    """Returns the peak signal-to-noise ratio of the whole batch in dB."""
    return -10 * jnp.log10(jnp.mean((made - images) ** 2))
