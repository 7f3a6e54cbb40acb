"""How a run is computed where its configuration says `auto`.

The kernel of attention is tried on the devices at hand; what the backward pass computes again follows from their
memory.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from trainer import hosts
from trainer import mesh as meshes
from trainer.attention import causal_attention, preferred_kernel
from trainer.config import ComputeConfig, Kernel, ModelConfig, StageConfig
from trainer.estimates import cheapest_remat, memory, settled
from trainer.kernels import obstacle
from trainer.model import dtype_of
from visent.errors import UserError

_PROBED = ("cudnn", "splash")  # the others are the definition, or XLA's own operations
_MOST_POSITIONS = 4096  # of a probe: the plain definition holds all scores of a head
_TOLERANCE = 0.02  # of a result's norm: bfloat16 is within 0.005, a wrong mask or scale far outside


class Choice(NamedTuple):
    """A configuration without this `auto`, and what to tell the user."""

    compute: ComputeConfig
    line: str


def choose_kernel(model: ModelConfig, compute: ComputeConfig, context: int, mesh: Mesh) -> Choice:
    """Names the kernel of attention: the one asked for, or with `auto` the backend's, and xla if that does not work.

    Kernels that are not plain XLA are run on a few heads of the run's width and context, forward and backward, and
    held against the definition.

    Raises:
        UserError: the kernel was asked for by name and does not work here, or does not work on all hosts.
    """
    asked: Kernel = preferred_kernel() if compute.attention == "auto" else compute.attention
    reason = obstacle(asked, dtype_of(compute)) or _failure(asked, model, compute, context, mesh)
    if reason is not None and compute.attention != "auto":
        raise UserError(
            f"compute.attention is {asked!r} and {reason}: leave it out, or use --set compute.attention=xla"
        )
    kernel: Kernel = asked if reason is None else "xla"
    hosts.agree({"compute": {"attention": kernel}})  # a host may have found that its devices lack a kernel
    line = f"attention: {kernel}" + (f", which needs more memory and time, since {reason}" if reason else "")
    return Choice(dataclasses.replace(compute, attention=kernel), line)


def _failure(kernel: Kernel, model: ModelConfig, compute: ComputeConfig, context: int, mesh: Mesh) -> str | None:
    """Returns why a kernel cannot be used, after trying it, or None."""
    if kernel not in _PROBED:
        return None
    try:
        error = probe(dataclasses.replace(compute, attention=kernel), model.head_dim, context, mesh)
    except Exception as problem:  # whatever a driver, compiler or library finds
        text = str(problem).strip()
        return f"{kernel} attention fails here ({text.splitlines()[0][:200] if text else type(problem).__name__})"
    if error <= _TOLERANCE:
        return None
    return f"{kernel} attention is off by {error:.2g} of the definition's norm, more than {_TOLERANCE}"


def probe(compute: ComputeConfig, head_dim: int, context: int, mesh: Mesh) -> float:
    """Returns the largest relative error of the kernel's result and gradients against the definition in float32."""
    shape = (meshes.batch_parts(mesh), min(context, _MOST_POSITIONS), mesh.shape["tensor"], head_dim)
    with jax.set_mesh(mesh):
        return float(jax.jit(partial(_errors, compute, shape), out_shardings=meshes.replicated(mesh))())


def _errors(compute: ComputeConfig, shape: tuple[int, ...]) -> Float[Array, ""]:
    given = jax.random.normal(jax.random.key(0), (4, *shape)).astype(dtype_of(compute))
    q, k, v, change = (meshes.constrain(x, meshes.BATCH, None, "tensor") for x in given)
    found, backward = jax.vjp(lambda q, k, v: causal_attention(q, k, v, compute), q, k, v)
    wide = [x.astype(jnp.float32) for x in (q, k, v, change)]
    with jax.default_matmul_precision("highest"):
        expected, plain = jax.vjp(_definition, *wide[:3])
        pairs = zip((found, *backward(change)), (expected, *plain(wide[3])), strict=True)
        return jnp.max(jnp.stack([_distance(a, b) for a, b in pairs]))


def _definition(q: Array, k: Array, v: Array) -> Any:
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="xla")


def _distance(a: Array, b: Array) -> Float[Array, ""]:
    away = jnp.linalg.norm((a.astype(jnp.float32) - b).ravel()) / jnp.linalg.norm(b.ravel())
    return jnp.where(jnp.isfinite(away), away, jnp.inf)


def choose_remat(model: ModelConfig, compute: ComputeConfig, stage: StageConfig, mesh: Mesh, beside: int = 0) -> Choice:
    """Names what the backward pass computes again: with `auto` as little as a device's memory is estimated to allow.

    Where the memory is not known (on a CPU), nothing. `beside` are bytes of each device that a teacher takes.
    """
    if compute.remat != "auto":
        return Choice(compute, f"remat: {compute.remat}")
    (limit,) = hosts.from_first([_device_bytes(mesh)])
    plain = settled(compute, jax.default_backend())
    remat: Any = cheapest_remat(model, plain, stage, mesh.shape, max(limit - beside, 1) if limit else None)
    line = f"remat: {remat}"
    if limit:
        needs = memory(model, dataclasses.replace(plain, remat=remat), stage, mesh.shape).total + beside
        line += f", for about {needs / 2**30:.1f} of {limit / 2**30:.1f} GiB of each device"
    return Choice(dataclasses.replace(compute, remat=remat), line)


def _device_bytes(mesh: Mesh) -> int:
    """Returns what a program may use of one device, 0 where that is not known."""
    return int((mesh.local_devices[0].memory_stats() or {}).get("bytes_limit", 0))
