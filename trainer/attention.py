"""Causal attention for whole sentences, by the kernel that a run has chosen.

cudnn    flash attention of cuDNN, on NVIDIA GPUs
splash   flash attention in Pallas, on TPUs
blocked  `blockwise_attention`: the same in plain XLA, anywhere; on two CPU cores 2 to 3 times faster than xla
xla      all context x context scores at once, as JAX's definition has them
"""

import jax
from jaxtyping import Array, Float

from trainer.blockwise import blockwise_attention
from trainer.config import ComputeConfig, Kernel
from trainer.kernels import cudnn_attention, obstacle, splash_attention

BY_BACKEND: dict[str, Kernel] = {"gpu": "cudnn", "tpu": "splash", "cpu": "blocked"}  # others: xla
_CPU_BLOCK, _OTHER_BLOCK = 128, 512  # positions: what stays in a CPU's cache, what fills an accelerator


def preferred_kernel() -> Kernel:
    """Returns the kernel that `auto` asks for on this backend."""
    return BY_BACKEND.get(jax.default_backend(), "xla")


def causal_attention(
    q: Float[Array, "b t h k"],
    k: Float[Array, "b t h k"],
    v: Float[Array, "b t h k"],
    compute: ComputeConfig,
) -> Float[Array, "b t h k"]:
    """Returns softmax(q k^T / sqrt(head width)) v, where a position sees itself and those before it.

    `auto` that no run has settled (`choosing.choose_kernel` tries kernels and tells) is what this backend prefers,
    or xla where that kernel does not take these types.
    """
    kernel = compute.attention
    if kernel == "auto":
        kernel = preferred_kernel()
        kernel = "xla" if obstacle(kernel, q.dtype) else kernel
    if kernel == "cudnn":
        return cudnn_attention(q, k, v)
    if kernel == "splash":
        return splash_attention(q, k, v)
    if kernel == "blocked":
        block = compute.block_tokens or (_CPU_BLOCK if jax.default_backend() == "cpu" else _OTHER_BLOCK)
        return blockwise_attention(q, k, v, block)
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="xla")
