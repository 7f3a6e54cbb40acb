import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from trainer import model as llama
from trainer.batches import Batch
from trainer.config import StageConfig
from trainer.losses import sentence_sums
from trainer.mesh import make_mesh
from trainer.optimizer import decayed, learning_rate
from trainer.step import begin_stage, init_state, make_step


@pytest.fixture
def stage():
    return StageConfig(steps=100, batch_sentences=2, learning_rate=1e-3, final_learning_rate=1e-4, warmup_steps=10)


def test_the_rate_rises_linearly_then_follows_half_a_cosine(stage):
    rates = [float(learning_rate(stage, step)) for step in range(101)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) * 1e-4, rtol=1e-5)
    assert rates[10] == pytest.approx(1e-3)
    assert rates[55] == pytest.approx(5.5e-4)
    assert rates[100] == pytest.approx(1e-4)
    assert np.all(np.diff(rates[10:]) < 0)


def test_without_warmup_the_first_step_has_the_full_rate(stage):
    assert float(learning_rate(dataclasses.replace(stage, warmup_steps=0), 0)) == pytest.approx(1e-3)


def test_norms_alone_are_not_decayed(model):
    params = llama.init(model, 0)
    found = {jax.tree_util.keystr(path): decay for path, decay in jax.tree_util.tree_leaves_with_path(decayed(params))}
    assert {path for path, decay in found.items() if not decay} == {
        "['norm']['scale']",
        "['layers']['attention_norm']['scale']",
        "['layers']['mlp_norm']['scale']",
    }


def test_a_step_is_optaxs_adamw_with_clipping(config):
    """The oracle is optax's own AdamW with the same mask, on the gradient of the mean loss."""
    stage = dataclasses.replace(config.stages["images"], clip_norm=0.05)
    state = init_state(config)
    params = jax.tree.map(jnp.copy, state.params)
    codes = np.random.default_rng(0).integers(0, 64, (8, 16)).astype(np.uint16)
    step = make_step(config, stage, 0, 1, make_mesh(config.compute))

    @jax.jit
    @jax.grad
    def gradient_of(params):
        model = nnx.merge(llama.definition(config.model), params)
        return sentence_sums(model, jnp.asarray(codes, jnp.int32), 10**6).loss.sum() / codes.size

    oracle = optax.chain(
        optax.clip_by_global_norm(0.05),
        optax.adamw(lambda n: learning_rate(stage, n), 0.9, 0.95, weight_decay=0.1, mask=decayed),
    )
    oracle_state, update = oracle.init(params), jax.jit(oracle.update)
    for _ in range(3):
        state, metrics = step(state, Batch(codes, np.zeros(8, np.int32)))
        updates, oracle_state = update(gradient_of(params), oracle_state, params)
        params = optax.apply_updates(params, updates)
        assert float(metrics.gradient_norm) > 0.05
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), state.params, params)


def test_moments_pass_to_the_next_stage_unless_it_resets_them(config):
    stage = config.stages["sequences"]
    state = init_state(config)
    state = state._replace(moments=jax.tree.map(lambda x: x + 1, state.moments))
    assert begin_stage(state, stage) is state
    fresh = begin_stage(state, dataclasses.replace(stage, reset_moments=True))
    assert all(not np.any(x) for x in jax.tree.leaves(fresh.moments))
    assert fresh.params is state.params
