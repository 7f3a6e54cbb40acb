"""The precisions of a tokenizer: what they change, what they leave, and how they are named."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tokenizer.load import load
from tokenizer.precision import PRECISIONS, precision
from tokenizer.testing import TINY, random_model, tiny_tokenizer_dir
from tokenizer.vqgan import VQGAN
from visent.errors import UserError

# Of two levels, wide enough for Winograd's method, so that the precisions and their tails differ.
WIDE = dataclasses.replace(TINY, channels=64, norm_groups=16, mid_attention=True)


@pytest.fixture(scope="module")
def model() -> VQGAN:
    return random_model(WIDE, 0)


@pytest.fixture(scope="module")
def images() -> jax.Array:
    smooth: jax.Array = jax.image.resize(jax.random.uniform(jax.random.key(0), (8, 8, 8, 3)), (8, 32, 32, 3), "linear")
    return smooth


@pytest.fixture(scope="module")
def errors(model: VQGAN, images: jax.Array) -> dict[str, float]:
    """Distance of each precision's features from float32's as a part of their size."""
    latents = {name: np.float64(nnx.jit(VQGAN.latents)(model.at(name), images)) for name in PRECISIONS}
    size = np.linalg.norm(latents["float32"])
    return {name: float(np.linalg.norm(z - latents["float32"]) / size) for name, z in latents.items()}


def test_fewer_bits_are_less_exact(errors: dict[str, float]) -> None:
    assert errors["float32"] == 0
    assert 0 < errors["bf16x3"] < 1e-4 < errors["tf32"] < errors["bfloat16-tail32"] < errors["bfloat16"] < 0.1


def test_float32_gives_the_features_that_training_computes(model: VQGAN, images: jax.Array) -> None:
    trained, used = (nnx.jit(VQGAN.latents)(network, images) for network in (model, model.at("float32")))
    np.testing.assert_allclose(trained, used, atol=2e-5 * float(jnp.abs(used).max()))


def test_features_and_pictures_are_float32_in_every_precision(model: VQGAN, images: jax.Array) -> None:
    for name in PRECISIONS:
        network = model.at(name)
        latents = nnx.eval_shape(VQGAN.latents, network, images)
        assert latents.dtype == jnp.float32
        assert nnx.eval_shape(VQGAN.reconstruct, network, latents).dtype == jnp.float32


def test_bfloat16_stays_in_bfloat16_until_the_tail(model: VQGAN, images: jax.Array) -> None:
    for name, tail in (("bfloat16", jnp.bfloat16), ("bfloat16-tail32", jnp.float32)):
        encoder = model.at(name).encoder
        x = nnx.eval_shape(lambda layer, x: layer(x), encoder.conv_in, jnp.zeros((1, 8, 8, 48)))
        assert x.dtype == jnp.bfloat16
        assert nnx.eval_shape(lambda layer, x: layer(x), encoder.levels[0], x).dtype == jnp.bfloat16
        assert nnx.eval_shape(lambda layer, x: layer(x), encoder.levels[-1], jnp.zeros((1, 4, 4, 64))).dtype == tail


def test_another_precision_leaves_the_network_it_came_from_as_it_was(model: VQGAN) -> None:
    other = model.at("bfloat16")
    assert model.encoder.conv_in.products is None
    assert other.encoder.conv_in.products == "bfloat16"
    np.testing.assert_array_equal(other.encoder.conv_in.kernel[...], model.encoder.conv_in.kernel[...])


def test_every_precision_has_its_own_fingerprint_and_mostly_the_same_tokens(tmp_path: Path) -> None:
    folder = tiny_tokenizer_dir(tmp_path)
    squares = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    tokenizers = {name: load(folder, precision=name) for name in PRECISIONS}
    assert len({tokenizer.card.fingerprint for tokenizer in tokenizers.values()}) == len(PRECISIONS)
    assert load(folder).card.fingerprint == tokenizers["float32"].card.fingerprint
    exact = tokenizers["float32"].encode(squares)
    agreement = {name: (tokenizer.encode(squares) == exact).mean() for name, tokenizer in tokenizers.items()}
    assert agreement["bf16x3"] > 0.998
    assert agreement["tf32"] > 0.98
    assert 0.8 < agreement["bfloat16"] < 1


def test_an_unknown_precision_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'bfloat16'"):
        precision("bfloat")
    with pytest.raises(UserError, match="unknown precision 'fp32'"):
        random_model(TINY, 0).at("fp32")
