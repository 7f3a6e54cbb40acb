"""The network: the papers' shape, folding, quantization, and agreement with diffusers' VQModel."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.testing import TINY
from tokenizer.vqgan import F16_8192, SMALL, VQGAN, VQGANConfig, fold, nearest_code, unfold
from visent.errors import UserError


def shapes(config: VQGANConfig) -> dict[str, tuple[int, ...]]:
    model = nnx.eval_shape(lambda: VQGAN(config, nnx.Rngs(0)))
    return {".".join(map(str, path)): value.shape for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param))}


def test_the_papers_network_has_277_tensors_and_146244675_parameters() -> None:
    found = shapes(F16_8192)
    assert len(found) == 277
    assert sum(map(math.prod, found.values())) == 146_244_675
    assert found["codebook"] == (8192, 64)
    assert (F16_8192.downsampling, F16_8192.grid) == (16, 16)


def test_the_small_network_fits_in_twelve_megabytes_of_float16() -> None:
    assert sum(map(math.prod, shapes(SMALL).values())) * 2 < 12_000_000
    assert (SMALL.downsampling, SMALL.grid) == (16, 16)


@pytest.mark.parametrize(("count", "squares", "patch"), [(1, 1, 1), (2, 3, 1), (3, 2, 4)])
def test_unfold_undoes_fold_and_keeps_squares_together(count: int, squares: int, patch: int) -> None:
    x = np.random.default_rng(0).random((count, squares * patch, squares * patch, 3), np.float32)
    folded = fold(jnp.asarray(x), patch)
    assert folded.shape == (count, squares, squares, 3 * patch**2)
    np.testing.assert_array_equal(folded[0, -1, -1], x[0, -patch:, -patch:].reshape(-1))
    np.testing.assert_array_equal(unfold(folded, patch), x)


@given(st.integers(0, 1000))
def test_the_nearest_code_has_the_least_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    latents, codebook = rng.normal(size=(2, 3, 5)), rng.normal(size=(33, 5))
    distances = ((latents[..., None, :] - codebook) ** 2).sum(-1)
    found = nearest_code(jnp.asarray(latents, jnp.float32), jnp.asarray(codebook, jnp.float32))
    np.testing.assert_array_equal(found, distances.argmin(-1))


def test_attention_of_every_kind_takes_part() -> None:
    """The taming networks have it; with it the output differs and every parameter gets a gradient."""
    config = dataclasses.replace(TINY, channel_mult=(1,), patch_size=8, attn_resolutions=(4,), mid_attention=True)
    x = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))

    @nnx.jit
    def gradient() -> nnx.State:
        model = VQGAN(config, nnx.Rngs(0))
        return nnx.grad(lambda m: jnp.mean((m.reconstruct(m.latents(x)) - x) ** 2))(model)

    grads = gradient()
    flat = {".".join(map(str, path)): value for path, value in nnx.to_flat_state(grads)}
    attention = {name: value for name, value in flat.items() if "attention" in name}
    assert len(attention) == 10 * (2 + 1 + 1)  # two middles, one encoder level, one decoder level
    silent = [name for name, value in attention.items() if not jnp.any(value[...]) and not name.endswith("k.bias")]
    assert silent == []  # a key's bias shifts all scores alike, so it alone may have none


@pytest.mark.parametrize(
    ("change", "message"),
    [({"image_size": 30}, "no multiple of 8"), ({"norm_groups": 3}, "no multiple of norm_groups 3")],
)
def test_an_impossible_shape_is_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TINY, **change)


def test_a_config_of_another_kind_is_refused() -> None:
    with pytest.raises(UserError, match="config of a VQGAN"):
        VQGANConfig.from_json({"layers": 3})
