"""The PatchGAN discriminator (Isola et al. 2017, arXiv:1611.07004) and its losses in VQGAN (arXiv:2012.09841)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

MOST_WEIGHT = 1e4  # of the adaptive weight, where the reconstruction's gradient is far above the discriminator's


class PatchGAN(nnx.Module):
    """Images to one logit for each patch: high for real ones. `layers` halve the sides, each doubles the width."""

    def __init__(self, channels: int, layers: int, dtype: Any, rngs: nnx.Rngs) -> None:
        widths = [3] + [channels * min(2**i, 8) for i in range(layers + 1)] + [1]
        strides = [2] * layers + [1, 1]
        draw = nnx.initializers.normal(0.02)
        self.convs = nnx.List(
            [
                nnx.Conv(a, b, (4, 4), strides, padding=1, kernel_init=draw, dtype=dtype, rngs=rngs)
                for a, b, strides in zip(widths[:-1], widths[1:], strides, strict=True)
            ]
        )
        self.norms = nnx.List([BatchNorm(width) for width in widths[2:-1]])

    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n ph pw"]:
        """Returns logits in float32; images in [0, 1]."""
        x = self.convs[0](2 * images - 1)
        for conv, norm in zip(self.convs[1:-1], self.norms, strict=True):
            x = norm(conv(nnx.leaky_relu(x, 0.2)))
        return self.convs[-1](nnx.leaky_relu(x, 0.2))[..., 0].astype(jnp.float32)


class BatchNorm(nnx.Module):
    """Normalises by the batch at hand, always: the discriminator is never used outside training."""

    def __init__(self, channels: int) -> None:
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Returns the same type; mean and variance are float32."""
        y = x.astype(jnp.float32)
        mean, variance = jnp.mean(y, axis=(0, 1, 2)), jnp.var(y, axis=(0, 1, 2))
        return ((y - mean) * jax.lax.rsqrt(variance + 1e-5) * self.scale[...] + self.bias[...]).astype(x.dtype)


def hinge(real: Float[Array, "n h w"], made: Float[Array, "n h w"]) -> Float[Array, ""]:
    """Returns the discriminator's loss: real patches above 1, made ones below -1."""
    return 0.5 * (jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + made)))


def adaptive_weight(reconstruction: Any, adversarial: Any) -> Float[Array, ""]:
    """Returns the factor that makes both gradients of the decoder's last layer equally long (VQGAN, eq. 7)."""
    ratio = optax.global_norm(reconstruction) / (optax.global_norm(adversarial) + 1e-6)
    return jnp.clip(ratio, 0.0, MOST_WEIGHT)


def smallest_side(layers: int) -> int:
    """Returns the fewest pixels on each side that leave a patch."""
    return 3 * int(2**layers)
