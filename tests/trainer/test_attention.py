"""Every kernel of attention against the definition; what cannot run without a GPU or TPU is lowered or interpreted."""

import dataclasses
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

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

ROOT = Path(__file__).resolve().parents[2]


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


ON_EIGHT = """
import dataclasses, json, re
from functools import partial
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from trainer import kernels, mesh as meshes, model as llama
from trainer.attention import causal_attention
from trainer.choosing import probe
from trainer.config import ComputeConfig, ModelConfig

given = jax.random.normal(jax.random.key(0), (3, 4, 128, 4, 64))
definition = jax.nn.dot_product_attention(*given, is_causal=True)
model = ModelConfig(name="mini", hidden=32, mlp=48, heads=4, layers=2, codebook_size=64)
codes = jnp.asarray(np.random.default_rng(0).integers(0, 64, (4, 20)), jnp.int32)
found = []
for fsdp, tensor in ((2, 2), (1, 4)):
    compute = ComputeConfig(fsdp=fsdp, tensor=tensor, attention="blocked", precision="float32")
    mesh = meshes.make_mesh(compute)
    lies = jax.sharding.NamedSharding(mesh, jax.P(meshes.BATCH, None, "tensor"))
    with jax.set_mesh(mesh):
        splash = jax.jit(partial(kernels.splash_attention, interpret=True), out_shardings=lies)(*given)
        blocked = jax.jit(jax.grad(lambda *a: causal_attention(*a, compute).sum(), (0, 1, 2)), in_shardings=(lies,) * 3)
        program = blocked.lower(*(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in given)).compile().as_text()

        def gradient(way):
            graph = llama.definition(model, way)
            return jax.jit(jax.grad(lambda p: jnp.square(nnx.merge(graph, llama.cast(p, way))(codes)).sum()))

        params = jax.device_put(llama.init(model, 0), meshes.layout(mesh, llama.init(model, 0)))
        laid = jax.ShapeDtypeStruct((4, 20), jnp.int32, sharding=meshes.over_batch(mesh))
        run = lambda p, codes: nnx.merge(llama.definition(model, compute), p)(codes)
        looked_up = jax.jit(jax.grad(lambda p, codes: jnp.square(run(p, codes)).sum())).lower(params, laid).compile()
        plain = gradient(dataclasses.replace(compute, remat="none"))(params)
        again = gradient(dataclasses.replace(compute, remat="full", block_tokens=8))(params)
    found.append({
        "splash": float(jnp.abs(splash - definition).max()),
        "codes_gathered": len(re.findall(r"= s32\\[\\S+ all-gather", looked_up.as_text())),
        "probe": probe(compute, 16, 40, mesh),
        "exchanges": sum(program.count(name) for name in ("all-gather(", "all-reduce(", "all-to-all(", "permute(")),
        "blocks": max(float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (plain, again)))),
    })
print(json.dumps(found))
"""


@pytest.mark.slow
def test_on_eight_devices_each_attends_with_its_own_sentences_and_heads():
    """Splash (interpreted) and blocks give the definition's result, blocks without any exchange between devices."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-c", ON_EIGHT]
    done = subprocess.run(run, env=os.environ | flags, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout):
        assert found["splash"] < 1e-5
        assert found["probe"] < 1e-5
        assert found["exchanges"] == 0
        assert found["codes_gathered"] == 0  # devices look their own sentences up, in the whole table
        assert found["blocks"] < 1e-4
