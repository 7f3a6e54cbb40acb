"""The attention kernels of GPUs and TPUs, and what each of them cannot do.

A head's width that a kernel does not take is filled up with zeros, which change neither scores nor results.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from trainer.config import Kernel
from trainer.mesh import BATCH

CUDNN_WIDTH = 8  # a head's width must be a multiple (cuDNN's fused attention)
SPLASH_WIDTH = 64  # half a TPU register's lanes
SPLASH_BLOCKS = (512, 256, 128)  # positions; the largest that divides the context
_BACKENDS: dict[Kernel, tuple[str, str]] = {"cudnn": ("gpu", "GPUs"), "splash": ("tpu", "TPUs")}


def obstacle(kernel: Kernel, dtype: Any, backend: str | None = None) -> str | None:
    """Returns why a kernel cannot compute in `dtype` here, or None; `backend` is JAX's own by default."""
    backend = backend or jax.default_backend()
    wanted, name = _BACKENDS.get(kernel, (backend, ""))
    if wanted != backend:
        return f"{kernel} attention runs on {name}, this is a {backend.upper()}"
    if kernel == "cudnn" and np.dtype(dtype).itemsize != 2:
        return f"cudnn attention computes in bfloat16, this run in {np.dtype(dtype).name}"
    return None


def cudnn_attention(
    q: Float[Array, "b t h k"], k: Float[Array, "b t h k"], v: Float[Array, "b t h k"]
) -> Float[Array, "b t h k"]:
    """Attends causally through cuDNN's flash attention: no mask exists, and blocks above the diagonal are skipped."""
    width = q.shape[-1]
    filled = (_fill_width(x, CUDNN_WIDTH) for x in (q, k, v))
    return jax.nn.dot_product_attention(*filled, scale=width**-0.5, is_causal=True, implementation="cudnn")[..., :width]


def splash_attention(
    q: Float[Array, "b t h k"], k: Float[Array, "b t h k"], v: Float[Array, "b t h k"], *, interpret: bool = False
) -> Float[Array, "b t h k"]:
    """Attends causally through the splash kernel, on a mesh each device with its own sentences and heads.

    A context that 128 does not divide is filled up with positions after its end, which none of its own sees.
    `interpret` computes the kernel's program without a TPU, slowly.
    """
    length, width = q.shape[1], q.shape[-1]
    room = ((0, 0), (0, -length % SPLASH_BLOCKS[-1]), (0, 0), (0, -width % SPLASH_WIDTH))
    # The kernel does not divide by the square root of the width.
    parts = [jnp.pad(x, room).swapaxes(1, 2) for x in (q * jnp.asarray(width**-0.5, q.dtype), k, v)]
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        found = _splash(*parts, interpret=interpret)
    else:
        # Only a compiler's own operations are split over devices by themselves.
        spec = _spec(mesh.shape, q.shape)
        run: Any = jax.shard_map(
            lambda *own: _splash(*own, interpret=interpret), in_specs=(spec,) * 3, out_specs=spec, check_vma=False
        )
        found = run(*parts)
    return found.swapaxes(1, 2)[:, :length, :, :width]


def _spec(mesh: Any, shape: tuple[int, ...]) -> Any:
    """Returns how `[b h t k]` is split: batches and heads, where they divide."""
    batch = BATCH if shape[0] % (mesh["data"] * mesh["fsdp"]) == 0 else None
    return P(batch, "tensor" if shape[2] % mesh["tensor"] == 0 else None)  # type: ignore[no-untyped-call]


def _splash(
    q: Float[Array, "b h t k"], k: Float[Array, "b h t k"], v: Float[Array, "b h t k"], *, interpret: bool
) -> Float[Array, "b h t k"]:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    heads, length = q.shape[1:3]
    size = next(block for block in SPLASH_BLOCKS if length % block == 0)
    blocks = splash.BlockSizes(
        block_q=size,
        block_kv=size,
        block_kv_compute=size,
        block_q_dkv=size,
        block_kv_dkv=size,
        block_kv_dkv_compute=size,
        block_q_dq=size,
        block_kv_dq=size,
    )
    mask = splash.MultiHeadMask([splash.CausalMask((length, length)) for _ in range(heads)])
    kernel = splash.make_splash_mha(mask, block_sizes=blocks, head_shards=1, q_seq_shards=1, interpret=interpret)
    found: Array = jax.vmap(kernel)(q, k, v)
    return found.astype(q.dtype)


def _fill_width(x: Float[Array, "b t h k"], multiple: int) -> Float[Array, "b t h filled"]:
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, -x.shape[-1] % multiple)))
