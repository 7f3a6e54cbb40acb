import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from trainer import model as llama
from trainer.generate import BATCH, Sampling, choose, generate
from visent.errors import UserError


@pytest.fixture
def params(model):
    """Weights large enough that scores are far apart."""
    return jax.tree.map(lambda x: x * 20 if x.ndim > 1 else x, llama.init(model, 1))


def prompts_of(count, length, seed=0):
    return np.random.default_rng(seed).integers(0, 64, (count, length)).astype(np.uint16)


@pytest.mark.parametrize("length", [0, 1, 7])
def test_cached_decoding_takes_the_same_codes_as_running_everything_again(model, params, length):
    prompts = prompts_of(2, length)
    found = generate(params, model, prompts, 12, Sampling(temperature=0.0))
    codes = np.pad(prompts, ((0, 0), (0, 12))).astype(np.int32)

    @jax.jit
    def all_scores(codes):
        merged = nnx.merge(llama.definition(model), params)
        return merged.logits(merged(llama.shift(model, codes)))[..., : model.codebook_size]

    for at in range(length, length + 12):
        codes[:, at] = np.argmax(all_scores(codes)[:, at], axis=-1)
    np.testing.assert_array_equal(found, codes[:, length:])
    assert len(np.unique(found)) > 1


def test_a_sample_does_not_depend_on_how_many_are_asked_for(model, params):
    prompts, how = prompts_of(BATCH + 2, 5), Sampling(seed=3)
    everything = generate(params, model, prompts, 10, how)
    np.testing.assert_array_equal(generate(params, model, prompts[:1], 10, how), everything[:1])
    np.testing.assert_array_equal(generate(params, model, prompts[:3], 10, how), everything[:3])


def test_samples_of_one_prompt_differ_and_repeat_with_the_seed(model, params):
    prompts = np.repeat(prompts_of(1, 5), 3, axis=0)
    a, b, other = (generate(params, model, prompts, 16, Sampling(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, other)
    assert not np.array_equal(a[0], a[1])


def test_the_begin_token_is_never_generated(model, params):
    params["head"]["kernel"] = params["head"]["kernel"].at[:, model.begin].set(0)
    hidden = nnx.merge(llama.definition(model), params)(jnp.zeros((1, 1), jnp.int32))
    params["head"]["kernel"] = params["head"]["kernel"].at[:, model.begin].set(hidden[0, 0] * 100)
    assert generate(params, model, prompts_of(4, 2), 20, Sampling(temperature=5.0)).max() < model.codebook_size


def test_top_k_draws_among_the_likeliest_in_proportion():
    scores = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.3]))
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(choose(jnp.tile(scores, (4000, 1)), keys, 2, jnp.float32(1.0)))
    share = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(share, [0, 4 / 7, 0, 3 / 7], atol=0.03)


def test_a_low_temperature_sharpens():
    scores = jnp.tile(jnp.array([0.0, 1.0, 0.5]), (1000, 1))
    keys = jax.random.split(jax.random.key(0), 1000)
    warm, cold = (float((choose(scores, keys, 3, jnp.float32(t)) == 1).mean()) for t in (1.0, 0.1))
    assert warm < 0.6 < 0.98 < cold


@pytest.mark.parametrize("wrong", [{"top_k": 0}, {"temperature": -1.0}, {"temperature": float("nan")}])
def test_impossible_sampling_is_refused(wrong):
    with pytest.raises(UserError, match="expected"):
        Sampling(**wrong)
