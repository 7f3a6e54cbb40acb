"""Every kernel of attention against the definition; what cannot run without a GPU or TPU is lowered or interpreted."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainer import choosing, kernels
from trainer.attention import causal_attention
from trainer.blockwise import blockwise_attention
from trainer.choosing import choose_kernel, probe
from trainer.config import ComputeConfig
from trainer.mesh import make_mesh
from visent.errors import UserError


def definition(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="xla")


def check(attend, shape, atol):
    """Holds results and gradients of `attend` against the definition."""

    @partial(jax.jit, static_argnums=0)
    def both(attend, q, k, v, change):
        found, back = jax.vjp(attend, q, k, v)
        return found, *back(change)

    given = jax.random.normal(jax.random.key(0), (4, *shape))
    for a, b in zip(both(attend, *given), both(definition, *given), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


@pytest.mark.parametrize(("length", "block"), [(1, 4), (12, 4), (13, 5), (40, 64), (100, 32)])
def test_attention_by_blocks_is_the_definition_with_its_gradient(length, block):
    check(partial(blockwise_attention, block=block), (2, length, 3, 8), 2e-5)


def test_attention_by_blocks_never_holds_all_scores():
    q = jnp.zeros((1, 1000, 1, 4))
    grad = jax.grad(lambda q: blockwise_attention(q, q, q, 100).sum())
    text = str(jax.make_jaxpr(grad)(q))
    assert "f32[1,1,100,100]" in text
    assert "1000,1000" not in text


@pytest.mark.parametrize(("length", "width"), [(256, 64), (200, 100)])
def test_interpreted_splash_is_the_definition_with_its_gradient(length, width):
    """Also where the context does not divide into blocks and the heads are as wide as the 3B model's."""
    check(partial(kernels.splash_attention, interpret=True), (1, length, 2, width), 2e-5)


@pytest.mark.parametrize(("length", "width"), [(256, 128), (4096, 100)])
def test_splash_lowers_for_tpus(length, width):
    shape = jax.ShapeDtypeStruct((1, length, 2, width), jnp.bfloat16)
    grad = jax.grad(lambda q, k, v: kernels.splash_attention(q, k, v).astype(jnp.float32).sum(), argnums=(0, 1, 2))
    text = jax.export.export(jax.jit(grad), platforms=["tpu"])(shape, shape, shape).mlir_module()
    assert text.count("tpu_custom_call") >= 3  # forward, and the two of the backward pass
    assert f"{length}x{length}x" not in text


def test_cudnn_gets_heads_of_a_width_that_it_takes_the_true_scale_and_no_mask(monkeypatch):
    """Heads of the 3B model, 100 wide; the call goes to JAX's own implementation, as cuDNN is not at hand."""
    calls = []

    def call(q, k, v, **settings):
        calls.append((q.shape, settings))
        return original(q, k, v, **{**settings, "implementation": "xla"})

    original = jax.nn.dot_product_attention
    monkeypatch.setattr(kernels.jax.nn, "dot_product_attention", call)
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 16, 2, 100))
    found = kernels.cudnn_attention(q, k, v)
    assert calls == [((1, 16, 2, 104), {"scale": 0.1, "is_causal": True, "implementation": "cudnn"})]
    np.testing.assert_allclose(found, original(q, k, v, is_causal=True), atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "dtype", "backend", "reason"),
    [
        ("cudnn", "bfloat16", "gpu", None),
        ("cudnn", "float32", "gpu", "computes in bfloat16, this run in float32"),
        ("cudnn", "bfloat16", "tpu", "runs on GPUs, this is a TPU"),
        ("splash", "float32", "tpu", None),
        ("splash", "bfloat16", "cpu", "runs on TPUs, this is a CPU"),
        ("xla", "float32", "cpu", None),
        ("blocked", "bfloat16", "gpu", None),
    ],
)
def test_what_a_kernel_cannot_do_is_known_before_it_runs(kernel, dtype, backend, reason):
    found = kernels.obstacle(kernel, dtype, backend)
    assert found == reason or reason in found


@pytest.mark.parametrize("kernel", ["blocked", "xla"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_probe_finds_kernels_that_work_near_the_definition(kernel, precision):
    compute = ComputeConfig(attention=kernel, precision=precision)
    error = probe(compute, 16, 40, make_mesh(compute))
    assert error < (1e-5 if precision == "float32" else 0.01)


def test_a_probe_finds_a_wrong_mask(monkeypatch):
    def sees_all(q, k, v, compute):
        return jax.nn.dot_product_attention(q, k, v)

    monkeypatch.setattr(choosing, "causal_attention", sees_all)
    assert probe(ComputeConfig(), 16, 40, make_mesh(ComputeConfig())) > 0.1


def test_auto_is_blocks_on_cpu(model):
    choice = choose_kernel(model, ComputeConfig(), 16, make_mesh(ComputeConfig()))
    assert choice.compute == ComputeConfig(attention="blocked")
    assert choice.line == "attention: blocked"


def test_auto_falls_back_to_xla_and_says_why(model, monkeypatch):
    """As on a GPU whose cuDNN is missing: the real call fails here, for that reason."""
    monkeypatch.setattr(choosing, "preferred_kernel", lambda: "cudnn")
    monkeypatch.setattr(choosing, "obstacle", lambda *_: None)
    compute = ComputeConfig(precision="bfloat16")
    choice = choose_kernel(model, compute, 16, make_mesh(compute))
    assert choice.compute.attention == "xla"
    assert "cuDNN is not detected" in choice.line


def test_a_kernel_asked_for_by_name_is_not_replaced(model):
    compute = ComputeConfig(attention="splash")
    with pytest.raises(UserError, match=r"runs on TPUs, this is a CPU.*compute\.attention=xla"):
        choose_kernel(model, compute, 16, make_mesh(compute))


def test_attention_follows_the_configuration(monkeypatch):
    q = jnp.ones((1, 300, 1, 4))
    texts = {
        kernel: str(jax.make_jaxpr(partial(causal_attention, compute=ComputeConfig(attention=kernel)))(q, q, q))
        for kernel in ("auto", "blocked", "xla")
    }
    assert texts["auto"] == texts["blocked"]
    assert "300,300]" in texts["xla"]
    assert "300,300]" not in texts["blocked"]
    smaller = dataclasses.replace(ComputeConfig(), block_tokens=10)
    assert "f32[1,1,10,10]" in str(jax.make_jaxpr(partial(causal_attention, compute=smaller))(q, q, q))
