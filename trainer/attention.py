"""Causal attention for whole sentences: JAX's own on accelerators, and in blocks of queries on CPU.

XLA on CPU forms all context x context scores, also those that the causal mask throws away. Blocks skip most of these
and stay in the cache: 3.6 times faster at context 1024 on two cores (forward and backward).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BLOCK = 128  # queries; at most MOST_BLOCKS of them, since each is compiled on its own
MOST_BLOCKS = 16


def causal_attention(
    q: Float[Array, "b t h k"], k: Float[Array, "b t h k"], v: Float[Array, "b t h k"]
) -> Float[Array, "b t h k"]:
    """Returns softmax(q k^T / sqrt(head width)) v, where a position sees itself and those before it."""
    if jax.default_backend() == "cpu":
        return blocked_attention(q, k, v)
    return jax.nn.dot_product_attention(q, k, v, is_causal=True)


def blocked_attention(
    q: Float[Array, "b t h k"], k: Float[Array, "b t h k"], v: Float[Array, "b t h k"]
) -> Float[Array, "b t h k"]:
    """Attends block by block of queries, each to the keys up to its own end."""
    length = q.shape[1]
    block = max(BLOCK, -(-length // MOST_BLOCKS))
    parts = [(start, min(start + block, length)) for start in range(0, length, block)]
    return jnp.concatenate([_attend(q[:, start:end], k[:, :end], v[:, :end]) for start, end in parts], axis=1)


def _attend(
    q: Float[Array, "b s h k"], k: Float[Array, "b t h k"], v: Float[Array, "b t h k"]
) -> Float[Array, "b s h k"]:
    """Attends with the last queries of a sentence to all of its keys."""
    past = k.shape[1] - q.shape[1]
    scores = jnp.einsum("bshk,bthk->bhst", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    seen = jnp.arange(k.shape[1]) <= past + jnp.arange(q.shape[1])[:, None]
    weights = jax.nn.softmax(jnp.where(seen, scores, -1e30), axis=-1)
    return jnp.einsum("bhst,bthk->bshk", weights.astype(v.dtype), v)
