import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from trainer import decoding
from trainer import model as llama
from trainer.config import ComputeConfig
from trainer.generate import CPU_BATCH, ROOM, Draw, Sampling, choose, generate, lengths, likeliest
from visent.errors import UserError


@pytest.fixture(scope="module")
def params(model):
    """Weights large enough that scores are far apart."""
    return jax.tree.map(lambda x: x * 20 if x.ndim > 1 else x, llama.init(model, 1))


def prompts_of(count, length, seed=0):
    return np.random.default_rng(seed).integers(0, 64, (count, length)).astype(np.uint16)


def greedy_without_cache(params, model, prompts, new):
    """The likeliest codes, each found by running the whole sentence again."""
    length = prompts.shape[1]
    codes = np.pad(prompts, ((0, 0), (0, new))).astype(np.int32)

    @jax.jit
    def all_scores(codes):
        merged = nnx.merge(llama.definition(model), params)
        return merged.logits(merged.before(codes))[..., : model.codebook_size]

    for at in range(length, length + new):
        codes[:, at] = np.argmax(all_scores(codes)[:, at], axis=-1)
    return codes[:, length:]


@pytest.mark.parametrize("length", [0, 7])
def test_cached_decoding_takes_the_same_codes_as_running_everything_again(model, params, length):
    prompts = prompts_of(2, length)
    found = generate(params, model, prompts, 12, Sampling(temperature=0.0))
    np.testing.assert_array_equal(found, greedy_without_cache(params, model, prompts, 12))
    assert len(np.unique(found)) > 1


def test_a_cache_that_grows_on_the_way_takes_the_same_codes(model, params):
    prompts = prompts_of(1, ROOM - 3)
    assert len(lengths(ROOM - 2, ROOM + 9)) > 1
    found = generate(params, model, prompts, ROOM + 9, Sampling(temperature=0.0))
    np.testing.assert_array_equal(found, greedy_without_cache(params, model, prompts, ROOM + 9))


def test_a_model_without_a_begin_token_starts_from_its_prompt_and_needs_one(model, params):
    bare = dataclasses.replace(model, begins_with=None)
    prompts = prompts_of(2, 5)
    found = generate(params, bare, prompts, 6, Sampling(temperature=0.0))
    np.testing.assert_array_equal(found, greedy_without_cache(params, bare, prompts, 6))
    with pytest.raises(UserError, match="at least one image as prompt"):
        generate(params, bare, prompts_of(1, 0), 2, Sampling())


@pytest.mark.parametrize(("start", "new"), [(1, 256), (257, 256), (1281, 2816), (4, 1), (128, 129), (127, 2)])
def test_the_cache_grows_to_what_is_needed_in_few_steps(start, new):
    found = lengths(start, new)
    assert len(found) <= 5
    assert all(a < b for a, b in zip([start, *found], found, strict=False))
    assert (found or [start])[-1] == start + new - 1


def test_a_sample_does_not_depend_on_how_many_are_asked_for(model, params):
    prompts, how = prompts_of(CPU_BATCH + 2, 5), Sampling(seed=3)
    everything = generate(params, model, prompts, 10, how)
    np.testing.assert_array_equal(generate(params, model, prompts[:1], 10, how), everything[:1])
    np.testing.assert_array_equal(generate(params, model, prompts[:3], 10, how), everything[:3])


def test_a_sample_does_not_depend_on_the_batch_it_is_decoded_in(model, params):
    prompts, how, seen = prompts_of(5, 5), Sampling(seed=3), []
    one = generate(params, model, prompts, 10, how, seen.append, batch=1)
    np.testing.assert_array_equal(generate(params, model, prompts, 10, how, seen.append, batch=3), one)
    assert seen == [1] * 5 + [3, 2]


ON_A_MESH = """
import sys, jax, numpy as np
from trainer import model as llama
from trainer.config import ComputeConfig, ModelConfig
from trainer.generate import Sampling, generate
from trainer.mesh import layout, make_mesh

model = ModelConfig(name="mini", hidden=32, mlp=48, heads=2, layers=2, codebook_size=64)
params = jax.tree.map(lambda x: x * 20 if x.ndim > 1 else x, llama.init(model, 1))
prompts = np.arange(25, dtype=np.uint16).reshape(5, 5)
found = [generate(params, model, prompts, 10, Sampling(), batch=2, devices=jax.devices()[:n]) for n in (1, 3)]
mesh = make_mesh(ComputeConfig(data=2, fsdp=2, tensor=2))
with jax.set_mesh(mesh):
    found.append(generate(jax.device_put(params, layout(mesh, params)), model, prompts, 10, Sampling(), batch=2))
np.save(sys.argv[1], found)
"""


@pytest.mark.slow
def test_parameters_on_a_mesh_and_batches_on_several_devices_give_the_same_samples(model, params, tmp_path):
    prompts = np.arange(25, dtype=np.uint16).reshape(5, 5)
    expected = generate(params, model, prompts, 10, Sampling(), batch=2)
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-c", ON_A_MESH, str(tmp_path / "found.npy")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], env=os.environ | flags)
    for found in np.load(tmp_path / "found.npy"):
        np.testing.assert_array_equal(found, expected)


def test_the_cache_is_written_in_place(model, params):
    compute = ComputeConfig(precision="float32", attention="blocked", remat="none")
    weights = jax.jit(decoding.prepare, static_argnums=0)(llama.definition(model, compute), params)
    cache = ((jnp.zeros((2, model.heads, 2048, model.head_dim)),) * 2,) * model.layers

    @functools.partial(jax.jit, donate_argnums=1)
    def many(weights, cache):
        def more(carry, position):
            scores, cache = decoding.step(model, weights, *carry[:1], position, carry[1])
            return (jnp.argmax(scores, axis=-1).astype(jnp.int32), cache), None

        return jax.lax.scan(more, (jnp.zeros(2, jnp.int32), cache), jnp.arange(8))[0]

    needed = many.lower(weights, cache).compile().memory_analysis().temp_size_in_bytes
    assert needed < cache[0][0].nbytes  # not even the keys of one layer are copied


def test_samples_of_one_prompt_differ_and_repeat_with_the_seed(model, params):
    prompts = np.repeat(prompts_of(1, 5), 3, axis=0)
    a, b, other = (generate(params, model, prompts, 10, Sampling(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, other)
    assert not np.array_equal(a[0], a[1])


def test_special_tokens_are_never_generated(model, params):
    aimed = jax.tree.map(lambda x: x, params)
    aimed["head"]["kernel"] = params["head"]["kernel"].at[:, model.begin].set(0)
    hidden = nnx.merge(llama.definition(model), aimed)(jnp.zeros((1, 1), jnp.int32))
    aimed["head"]["kernel"] = aimed["head"]["kernel"].at[:, model.begin].set(hidden[0, 0] * 100)
    assert generate(aimed, model, prompts_of(4, 5), 10, Sampling(temperature=5.0)).max() < model.codebook_size


def test_bfloat16_scores_are_those_of_the_whole_model_within_rounding(model, params):
    compute = ComputeConfig(precision="bfloat16", remat="none")
    cast = llama.cast(params, compute, trained=False)
    tokens = jnp.asarray(prompts_of(2, 9).astype(np.int32))

    @jax.jit
    def both(cast):
        whole = nnx.merge(llama.definition(model, compute), cast)
        weights = decoding.prepare(llama.definition(model, compute), cast)
        _, cache = decoding.prefill(whole, tokens[:, :8])
        scores, _ = decoding.step(model, weights, tokens[:, 8], jnp.int32(8), decoding.grown(cache, 12))
        return scores, whole.logits(whole(tokens))[:, 8, : model.codebook_size]

    scores, expected = both(cast)
    np.testing.assert_allclose(scores, expected, atol=0.05 * float(jnp.abs(expected).max()))


def draw_of(rows, top_k, temperature=1.0, seed=0):
    return Draw(jax.random.split(jax.random.key(seed), rows), jnp.int32(top_k), jnp.float32(temperature))


def test_top_k_draws_among_the_likeliest_in_proportion():
    scores = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.3]))
    drawn = np.asarray(choose(jnp.tile(scores, (4000, 1)), draw_of(4000, 2), jnp.int32(0)))
    share = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(share, [0, 4 / 7, 0, 3 / 7], atol=0.03)


def test_a_low_temperature_sharpens_and_none_takes_the_likeliest():
    scores = jnp.tile(jnp.array([0.0, 1.0, 0.5]), (1000, 1))
    warm, cold, none = (float((choose(scores, draw_of(1000, 3, t), jnp.int32(0)) == 1).mean()) for t in (1.0, 0.1, 0.0))
    assert warm < 0.6 < 0.98 < cold < none == 1


@pytest.mark.parametrize(("count", "bits"), [(1, 1), (2, 4), (100, 1), (100, 4), (4095, 1), (4096, 4), (5000, 1)])
def test_the_likeliest_are_those_that_sorting_finds(count, bits):
    random = np.random.default_rng(count)
    scores = (random.standard_normal((3, 4096)) * [[1e-4], [1.0], [1e6]]).astype(np.float32)
    scores[0, :7] = [0.0, -0.0, np.inf, -np.inf, 1e-42, -1e-42, 3.4e38]
    found = np.asarray(jax.jit(likeliest, static_argnums=2)(scores, jnp.int32(count), bits))
    least = np.sort(scores, axis=-1)[:, ::-1][:, min(count, 4096) - 1 : min(count, 4096)]
    np.testing.assert_array_equal(found & (scores != 0), (scores >= least) & (scores != 0))


@pytest.mark.parametrize("wrong", [{"top_k": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"seed": -1}])
def test_impossible_sampling_is_refused(wrong):
    with pytest.raises(UserError, match="expected"):
        Sampling(**wrong)


def test_an_empty_batch_is_refused(model, params):
    with pytest.raises(UserError, match="--batch is 0"):
        generate(params, model, prompts_of(1, 1), 1, Sampling(), batch=0)
