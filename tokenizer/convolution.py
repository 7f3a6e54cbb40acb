"""The convolutions and norms of the network: what multiplies in a given precision, and the fast way on a CPU."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tokenizer.precision import Products
from tokenizer.winograd import convolve_3x3

WIDE = 64  # channels from which Winograd's fewer products outweigh its sums


class Conv(nnx.Conv):
    """A convolution that multiplies as `products` says; None: as XLA does by default, which is for training."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.products: Products | None = None

    def __call__(self, inputs: Float[Array, "n h w c"], out_sharding: Any = None) -> Float[Array, "n h2 w2 d"]:
        """Returns float32 features, or bfloat16 where the products are."""
        if self.products is None:
            return super().__call__(inputs, out_sharding)
        assert isinstance(self.strides, int)
        assert self.bias is not None
        y = convolve(inputs, self.kernel[...], self.strides, self.padding, self.products)
        return y + self.bias[...].astype(y.dtype)


def convolve(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c d"], stride: int, padding: Any, products: Products
) -> Float[Array, "n h2 w2 d"]:
    """Convolves in one of the precisions, summing in float32.

    XLA has no algorithms for convolutions, so the factors are made what they should be: on a GPU, float32 factors that
    hold bfloat16 or TF32 numbers multiply without loss in its TF32 units, and on a CPU any do.
    """
    backend, dtype = jax.default_backend(), jnp.bfloat16 if products == "bfloat16" else jnp.float32
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    if products == "tf32" and backend == "cpu":
        x, kernel = (jax.lax.reduce_precision(a, exponent_bits=8, mantissa_bits=10) for a in (x, kernel))
    if products == "bf16x3" and backend != "tpu":  # a TPU does this by itself in precision HIGH
        (x_high, x_low), (k_high, k_low) = _two_bfloat16(x), _two_bfloat16(kernel)
        x = jnp.concatenate([x_high, x_high, x_low], axis=-1)
        kernel = jnp.concatenate([k_high, k_low, k_high], axis=2)
    if backend == "cpu":
        return _on_cpu(x.astype(jnp.float32), kernel.astype(jnp.float32), stride, padding).astype(dtype)
    precision = jax.lax.Precision.HIGHEST if products == "float32" else jax.lax.Precision.HIGH
    return _direct(x, kernel, stride, padding, precision)


def _two_bfloat16(x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Splits into the nearest bfloat16 number and that of the rest, both kept as float32."""
    round_ = functools.partial(jax.lax.reduce_precision, exponent_bits=8, mantissa_bits=7)
    high = round_(x)
    return high, round_(x - high)


def _on_cpu(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c d"], stride: int, padding: Any
) -> Float[Array, "n h2 w2 d"]:
    if kernel.shape[:2] == (3, 3) and stride == 1 and padding == "SAME" and min(kernel.shape[2:]) >= WIDE:
        return convolve_3x3(x, kernel)
    return _direct(x, kernel, stride, padding, jax.lax.Precision.HIGHEST)


def _direct(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "k k c d"],
    stride: int,
    padding: Any,
    precision: jax.lax.Precision,
) -> Float[Array, "n h2 w2 d"]:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=numbers, precision=precision
    )


class GroupNorm(nnx.GroupNorm):
    """Flax's norm with the sums of each channel taken first: several times as fast on a CPU.

    Sums are float32, in one pass: variance is the mean of squares less the square of the mean.
    """

    def __call__(self, x: Float[Array, "n h w c"], *, mask: Array | None = None) -> Float[Array, "n h w c"]:
        """Returns float32 features, or those of the norm's dtype where it has one; a mask is for Flax's norm alone."""
        assert mask is None
        assert self.scale is not None
        assert self.bias is not None
        wide = x.astype(jnp.float32)
        size = math.prod(x.shape[1:3]) * self.group_size

        def mean(values: Float[Array, "n h w c"]) -> Float[Array, "n c"]:
            groups = values.sum((1, 2)).reshape(-1, self.num_groups, self.group_size).sum(-1) / size
            return jnp.repeat(groups, self.group_size, axis=-1)

        means = mean(wide)
        variances = jnp.maximum(mean(wide * wide) - means * means, 0)
        factors = jax.lax.rsqrt(variances + self.epsilon) * self.scale[...]
        y = wide * factors[:, None, None] + (self.bias[...] - means * factors)[:, None, None]
        return y if self.dtype is None else y.astype(self.dtype)
