"""Convolutions in each precision and by Winograd's method, and the norm, against their definitions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.convolution import WIDE, GroupNorm, convolve
from tokenizer.winograd import STRIP, convolve_3x3, strip_rows


def by_definition(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Same-size convolution in float64 with numpy alone."""
    high, wide = x.shape[1:3]
    size = kernel.shape[0]
    border = size // 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (border, border), (border, border), (0, 0)))
    return np.asarray(
        sum(
            padded[:, i : i + high, j : j + wide] @ kernel[i, j].astype(np.float64)
            for i in range(size)
            for j in range(size)
        )
    )


def operands(shape: tuple[int, int, int, int], out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(np.float32)
    return x, rng.normal(0, (9 * shape[-1]) ** -0.5, (3, 3, shape[-1], out)).astype(np.float32)


@settings(max_examples=12)
@given(
    st.integers(1, 3), st.integers(1, 13), st.integers(1, 13), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99)
)
def test_winograds_method_gives_the_convolution_at_any_size(n: int, h: int, w: int, c: int, d: int, seed: int) -> None:
    x, kernel = operands((n, h, w, c), d, seed)
    np.testing.assert_allclose(convolve_3x3(jnp.asarray(x), jnp.asarray(kernel)), by_definition(x, kernel), atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 64, 64, 128), (1, 34, 64, 256), (1, 6, 512, 300)])
def test_winograds_method_in_several_strips_is_as_exact_as_the_direct_one(shape: tuple[int, int, int, int]) -> None:
    assert strip_rows(*shape[1:]) < shape[1]
    x, kernel = operands(shape, 16, 0)
    exact = by_definition(x, kernel)
    direct = jax.lax.conv_general_dilated(
        jnp.asarray(x), jnp.asarray(kernel), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    ours = np.abs(jax.jit(convolve_3x3)(x, kernel) - exact)
    assert ours.max() < 1e-5
    assert np.sqrt((ours**2).mean()) < 3 * np.sqrt(((direct - exact) ** 2).mean())


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 1024))
def test_strips_divide_the_image_and_fit(half_height: int, half_width: int, channels: int) -> None:
    height, width = 2 * half_height, 2 * half_width
    rows = strip_rows(height, width, channels)
    assert rows % 2 == 0
    assert height % rows == 0
    assert rows == 2 or rows // 2 * half_width * channels <= STRIP


def test_a_wide_convolution_of_an_image_does_not_depend_on_its_neighbours() -> None:
    x, kernel = operands((5, 16, 16, WIDE), WIDE, 0)
    together = jax.jit(convolve_3x3)(x, kernel)
    for i in range(5):
        np.testing.assert_array_equal(jax.jit(convolve_3x3)(x[i : i + 1], kernel)[0], together[i])


ERRORS = {"float32": 1e-6, "bf16x3": 2e-5, "tf32": 1e-3, "bfloat16": 1e-2}  # relative, of factors of 24, 16, 11, 8 bits


@pytest.mark.parametrize("channels", [8, WIDE])
@pytest.mark.parametrize("size", [1, 3])
def test_each_precision_is_as_exact_as_its_factors(channels: int, size: int) -> None:
    x, kernel = operands((2, 8, 8, channels), WIDE, 1)
    kernel = kernel[:size, :size]
    exact = by_definition(x, kernel)
    found = {}
    for products in ERRORS:
        y = jax.jit(convolve, static_argnums=(2, 3, 4))(x, kernel, 1, "SAME", products)
        assert y.dtype == (jnp.bfloat16 if products == "bfloat16" else jnp.float32)
        found[products] = np.linalg.norm(np.float64(y) - exact) / np.linalg.norm(exact)
        assert ERRORS[products] / 50 < found[products] < ERRORS[products] or products == "float32"
    assert found["float32"] < ERRORS["float32"]
    assert list(found.values()) == sorted(found.values())


@pytest.mark.parametrize("products", list(ERRORS))
def test_a_strided_convolution_pads_right_and_below(products: str) -> None:
    x, kernel = operands((1, 8, 8, WIDE), WIDE, 2)
    y = jax.jit(convolve, static_argnums=(2, 3, 4))(x, kernel, 2, ((0, 1), (0, 1)), products)
    exact = by_definition(x, kernel)[:, 1::2, 1::2]
    np.testing.assert_allclose(np.float64(y), exact, atol=0.05)
    assert y.shape == exact.shape


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_norm_is_flaxs_and_exact_for_features_far_from_zero(offset: float) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2, 8, 8, 64)) + offset).astype(np.float32)
    norm = GroupNorm(64, num_groups=16, epsilon=1e-6, rngs=nnx.Rngs(0))
    scale, bias = rng.normal(size=(2, 64)).astype(np.float32)
    norm.scale, norm.bias = nnx.Param(jnp.asarray(scale)), nnx.Param(jnp.asarray(bias))
    groups = x.astype(np.float64).reshape(2, 64, 16, 4)
    centred = groups - groups.mean((1, 3), keepdims=True)
    exact = (centred / np.sqrt((centred**2).mean((1, 3), keepdims=True) + 1e-6)).reshape(x.shape)
    exact = exact * scale + bias
    tolerance = 2e-6 if not offset else 5e-3
    np.testing.assert_allclose(norm(jnp.asarray(x)), exact, atol=tolerance)
    flax = nnx.GroupNorm.__call__(norm, jnp.asarray(x))
    assert np.abs(norm(jnp.asarray(x)) - exact).max() <= 2 * np.abs(flax - exact).max()


def test_the_norm_keeps_the_dtype_that_training_asks_for() -> None:
    norm = GroupNorm(8, num_groups=2, rngs=nnx.Rngs(0))
    x = jnp.ones((1, 2, 2, 8), jnp.bfloat16)
    assert norm(x).dtype == jnp.float32
    norm.dtype = jnp.dtype("bfloat16")
    assert norm(x).dtype == jnp.bfloat16
