"""Causal attention block by block, with no context x context array in either pass, in plain XLA.

The attention of the blockwise parallel transformer (Liu and Abbeel 2023): a running softmax over blocks of keys for
each block of queries. Blocks that the causal mask empties are not visited; the backward pass computes the weights again
from the kept sums (as Dao et al. 2022).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_NEVER = -1e30


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def blockwise_attention(
    q: Float[Array, "b t h k"], k: Float[Array, "b t h k"], v: Float[Array, "b t h k"], block: int
) -> Float[Array, "b t h k"]:
    """Returns softmax(q k^T / sqrt(head width)) v, where a position sees itself and those before it.

    At most `block` x `block` scores of each head exist at once. A context that does not divide is filled up with a few
    positions after its end, which none of its own sees.
    """
    return _forward(q, k, v, block)[0]


Blocks = Float[Array, "n b h c k"]


def _split(x: Float[Array, "b t h k"], block: int) -> Blocks:
    length = x.shape[1]
    block = -(-length // -(-length // block))  # the smallest that makes no more blocks
    x = jnp.pad(x, ((0, 0), (0, -length % block), (0, 0), (0, 0)))
    return x.reshape(x.shape[0], -1, block, *x.shape[2:]).transpose(1, 0, 3, 2, 4)


def _join(x: Blocks, length: int) -> Float[Array, "b t h k"]:
    joined = x.transpose(1, 0, 3, 2, 4)
    return joined.reshape(joined.shape[0], -1, *joined.shape[3:])[:, :length]


def _scores(q: Array, k: Array, row: Array, column: Array) -> Float[Array, "b h c c"]:
    """Returns the scores of block `row` of the queries for block `column` of the keys."""
    found = jnp.einsum("bhsk,bhtk->bhst", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    size = q.shape[2]
    seen = column * size + jnp.arange(size) <= row * size + jnp.arange(size)[:, None]
    return jnp.where(seen, found, _NEVER)


def _forward(q: Array, k: Array, v: Array, block: int) -> tuple[Float[Array, "b t h k"], tuple[Array, ...]]:
    queries, keys, values = (_split(x, block) for x in (q, k, v))

    def row(_: None, part: tuple[Array, Array]) -> tuple[None, tuple[Array, Array]]:
        return None, _row(part[0], keys, values, part[1])

    _, (found, total) = jax.lax.scan(row, None, (queries, jnp.arange(len(queries))))
    out = _join(found, q.shape[1])
    return out, (q, k, v, out, total)


def _row(q: Float[Array, "b h c k"], k: Blocks, v: Blocks, row: Array) -> tuple[Array, Float[Array, "b h c"]]:
    """Returns what one block of queries reads, and the logarithms of the sums of its weights."""

    def add(column: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        read, total, highest = carry
        found = _scores(q, k[column], row, column)
        higher = jnp.maximum(highest, found.max(axis=-1))
        weights, shrink = jnp.exp(found - higher[..., None]), jnp.exp(highest - higher)
        more = jnp.einsum("bhst,bhtk->bhsk", weights.astype(v.dtype), v[column], preferred_element_type=jnp.float32)
        return read * shrink[..., None] + more, total * shrink + weights.sum(axis=-1), higher

    start = (jnp.zeros(q.shape, jnp.float32), jnp.zeros(q.shape[:3]), jnp.full(q.shape[:3], _NEVER))
    read, total, highest = jax.lax.fori_loop(0, row + 1, add, start)
    return (read / total[..., None]).astype(q.dtype), highest + jnp.log(total)


def _backward(block: int, kept: tuple[Array, ...], gradient: Any) -> tuple[Array, Array, Array]:
    length, total = kept[0].shape[1], kept[-1]
    q, k, v, out, gradient = (_split(x, block) for x in (*kept[:-1], gradient))
    own = jnp.sum(gradient.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)
    scale = q.shape[-1] ** -0.5

    def row(carry: tuple[Array, Array], part: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        queries, above, total, own, number = part

        def add(column: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            to_q, to_k, to_v = carry
            weights = jnp.exp(_scores(queries, k[column], number, column) - total[..., None])
            change = weights * (product("bhsk,bhtk->bhst", above, v[column]) - own[..., None]) * scale
            weights, change = weights.astype(v.dtype), change.astype(q.dtype)
            return (
                to_q + product("bhst,bhtk->bhsk", change, k[column]),
                to_k.at[column].add(product("bhst,bhsk->bhtk", change, queries)),
                to_v.at[column].add(product("bhst,bhsk->bhtk", weights, above)),
            )

        to_q, *others = jax.lax.fori_loop(0, number + 1, add, (jnp.zeros(queries.shape, jnp.float32), *carry))
        return (others[0], others[1]), to_q.astype(q.dtype)

    zeros = jnp.zeros(k.shape, jnp.float32)
    (to_k, to_v), to_q = jax.lax.scan(row, (zeros, zeros), (q, gradient, total, own, jnp.arange(len(q))))
    return _join(to_q, length), _join(to_k, length).astype(k.dtype), _join(to_v, length).astype(v.dtype)


blockwise_attention.defvjp(_forward, _backward)
