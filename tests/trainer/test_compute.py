"""How the model is computed: in which types, what is kept for the backward pass; and that results stay the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from trainer import choosing, estimates, numerics
from trainer import model as llama
from trainer.choosing import choose_remat
from trainer.config import ComputeConfig, ModelConfig, StageConfig
from trainer.losses import sentence_sums
from trainer.mesh import make_mesh

WAYS = [("dots", 0), ("full", 0), ("none", 8), ("full", 8)]
DEEP = ModelConfig(name="deep", hidden=64, mlp=256, heads=2, layers=6, codebook_size=64)


def gradient_of(model, compute, codes):
    """The function from parameters to the gradient of the loss, as the step computes it."""
    graph = llama.definition(model, compute)

    def loss(params):
        merged = nnx.merge(graph, llama.cast(params, compute))
        return sentence_sums(merged, codes, compute.loss_chunk_tokens).loss.sum()

    return jax.grad(loss)


@pytest.fixture(scope="module")
def codes():
    return jnp.asarray(np.random.default_rng(0).integers(0, 64, (2, 20)), jnp.int32)


@pytest.fixture(scope="module")
def expected(codes, model):
    compute = ComputeConfig(precision="float32", attention="xla", remat="none")
    return jax.jit(gradient_of(model, compute, codes))(llama.init(model, 0))


@pytest.mark.parametrize(("remat", "block"), WAYS)
def test_what_is_computed_again_changes_no_gradient(model, codes, expected, remat, block):
    """Blocks of 8 positions do not divide the context of 20."""
    compute = ComputeConfig(precision="float32", remat=remat, block_tokens=block)
    found = jax.jit(gradient_of(model, compute, codes))(llama.init(model, 0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)


def test_each_way_needs_less_memory_than_the_one_before():
    """Bytes that XLA plans for a step of six layers: kept activations and work."""
    codes = jnp.zeros((2, 512), jnp.int32)
    shapes = jax.eval_shape(lambda: llama.init(DEEP, 0))

    def bytes_of(remat, block):
        compute = ComputeConfig(precision="float32", remat=remat, block_tokens=block, loss_chunk_tokens=128)
        compiled = jax.jit(gradient_of(DEEP, compute, codes)).lower(shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    none, dots, full, blocks = bytes_of("none", 0), bytes_of("dots", 0), bytes_of("full", 0), bytes_of("full", 64)
    assert none > 1.1 * dots > 1.1 * 1.5 * full
    assert full > 1.3 * blocks


def scans_over_layers(jaxpr, layers):
    return [e for e in jaxpr.eqns if e.primitive.name == "scan" and e.params["length"] == layers]


@pytest.mark.parametrize(("remat", "kept"), [("none", 11), ("dots", 8), ("full", 1)])
def test_a_bfloat16_model_keeps_no_float32_copy_of_an_activation(remat, kept):
    """All that the layers hand to the backward pass: bfloat16, but for the sums of attention's weights."""
    compute = ComputeConfig(precision="bfloat16", remat=remat)
    tokens = jnp.zeros((2, 256), jnp.int32)
    jaxpr = jax.make_jaxpr(gradient_of(DEEP, compute, tokens))(llama.init(DEEP, 0)).jaxpr
    forward, backward = scans_over_layers(jaxpr, DEEP.layers)
    stacked = [v.aval for v in forward.outvars if v.aval.shape[:1] == (DEEP.layers,)]
    wide = [x.shape for x in stacked if x.dtype == jnp.float32]
    assert len(stacked) - len(wide) == kept
    assert all(np.prod(shape) == DEEP.layers * 2 * 256 * DEEP.heads for shape in wide)
    assert backward.params["reverse"]


def test_layers_are_compiled_once_whatever_their_number():
    def text(layers):
        model = dataclasses.replace(DEEP, layers=layers)
        compute = ComputeConfig(precision="bfloat16", remat="dots")
        shapes = jax.eval_shape(lambda: llama.init(model, 0))
        return jax.jit(gradient_of(model, compute, jnp.zeros((1, 32), jnp.int32))).lower(shapes).as_text()

    two, nine = text(2), text(9)
    assert two.count("dot_general") == nine.count("dot_general")
    assert two.count("stablehlo.while") == nine.count("stablehlo.while")


@pytest.mark.parametrize("block", [0, 64])
@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_a_step_with_splash_lowers_for_tpus(remat, block):
    """The whole gradient; nothing in it has the size of all scores."""
    compute = ComputeConfig(precision="bfloat16", remat=remat, block_tokens=block, attention="splash")
    step = jax.jit(gradient_of(DEEP, compute, jnp.zeros((1, 384), jnp.int32)))
    text = jax.export.export(step, platforms=["tpu"])(jax.eval_shape(lambda: llama.init(DEEP, 0))).mlir_module()
    kernels = {"none": 3, "dots": 3, "full": 4}[remat]  # forward, twice where it is computed again, and two backward
    assert text.count("@tpu_custom_call") == kernels
    assert "384x384x" not in text


def test_norms_of_bfloat16_are_those_of_float32_rounded_once():
    x = (jax.random.normal(jax.random.key(0), (4, 512)) * 30 + 100).astype(jnp.bfloat16)
    scale = 1 + jax.random.normal(jax.random.key(1), (512,)) / 1000  # bfloat16 has no number between 1 and 1.0078
    wide = np.asarray(x, np.float64)
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6) * np.asarray(scale, np.float64)
    found = numerics.rms_norm(x, scale, 1e-6)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=2**-8)


def test_rotation_of_late_positions_is_exact_to_one_rounding(model):
    x = jax.random.normal(jax.random.key(0), (1, 1, 2, 16)).astype(jnp.bfloat16)
    position = jnp.array([16_383])
    found = llama.rotate(x, llama.rope(model, position))
    angles = 16_383.0 * 10_000.0 ** (-np.arange(8) / 8)
    low, high = np.split(np.asarray(x, np.float64), 2, -1)
    expected = np.concatenate((low * np.cos(angles) - high * np.sin(angles),
                               high * np.cos(angles) + low * np.sin(angles)), -1)  # fmt: skip
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, atol=0.02)


def test_scores_are_not_rounded_to_bfloat16():
    hidden = jnp.full((1, 3), 1, jnp.bfloat16)
    matrix = jnp.array([[256.0], [1.0], [1.0]])  # 258 lies between bfloat16's 258 +- 2, 257 does not
    assert numerics.scores(hidden[:, :2], matrix[:2]) == 257.0
    assert numerics.scores(hidden, matrix).dtype == jnp.float32


def test_gradient_of_scores_is_that_of_the_product():
    hidden, matrix = jax.random.normal(jax.random.key(0), (2, 3, 8)), jax.random.normal(jax.random.key(1), (8, 5))
    change = jax.random.normal(jax.random.key(2), (2, 3, 5))
    found, plain = (jax.vjp(f, hidden, matrix)[1](change) for f in (numerics.scores, jnp.matmul))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, plain)


def test_gradients_of_a_frequent_code_are_added_up_in_float32(model):
    """A thousand times the same code: in bfloat16 the sum would stop at 256."""
    compute = ComputeConfig(precision="bfloat16")
    graph, params = llama.definition(model, compute), llama.init(model, 0)
    codes = jnp.full((10, 100), 5)
    run = jax.grad(lambda p: nnx.merge(graph, llama.cast(p, compute)).embedding(codes).astype(jnp.float32).sum())
    np.testing.assert_array_equal(run(params)["embedding"]["embedding"][5], np.full(model.hidden, 1000.0))


def test_weights_that_are_not_trained_are_cast_whole(model):
    compute, params = ComputeConfig(precision="bfloat16"), llama.init(model, 0)
    trained, frozen = llama.cast(params, compute), llama.cast(params, compute, trained=False)
    assert trained["head"]["kernel"].dtype == trained["embedding"]["embedding"].dtype == jnp.float32
    assert frozen["head"]["kernel"].dtype == frozen["embedding"]["embedding"].dtype == jnp.bfloat16
    assert trained["layers"]["gate"]["kernel"].dtype == frozen["layers"]["gate"]["kernel"].dtype == jnp.bfloat16
    assert trained["norm"]["scale"].dtype == frozen["norm"]["scale"].dtype == jnp.float32


def test_remat_follows_the_memory_of_a_device(monkeypatch):
    """Each way that fits is taken; where none is estimated to fit, the one that needs least."""
    stage = StageConfig(steps=1, batch_sentences=64, learning_rate=1.0, final_learning_rate=1.0, context=1024)
    compute = ComputeConfig(attention="blocked")
    mesh = make_mesh(compute)
    plain = estimates.settled(compute, "cpu")
    for remat in ("none", "dots", "full"):
        needs = estimates.memory(DEEP, dataclasses.replace(plain, remat=remat), stage, mesh.shape).total
        monkeypatch.setattr(choosing, "_device_bytes", lambda mesh, needs=needs: int(needs / estimates.SPARE) + 1)
        choice = choose_remat(DEEP, compute, stage, mesh)
        assert choice.compute == dataclasses.replace(compute, remat=remat)
        assert "GiB of each device" in choice.line
    monkeypatch.setattr(choosing, "_device_bytes", lambda mesh: 1)
    assert choose_remat(DEEP, compute, stage, mesh).compute.remat == "full"
    monkeypatch.undo()
    assert choose_remat(DEEP, compute, stage, mesh) == (dataclasses.replace(compute, remat="none"), "remat: none")
