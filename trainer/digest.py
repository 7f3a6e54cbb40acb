"""A number for every array of a tree, to notice wrong bytes in a checkpoint."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped, UInt32

_FACTOR = 2_654_435_761  # Knuth's multiplicative hashing: 2^32 / golden ratio, odd


def digests(tree: Any) -> dict[str, int]:
    """Returns the digest of every array by its path, such as `layers/query/kernel`.

    It is a sum modulo 2^32 of the values' bits, each times an odd factor that depends on its place: any single value
    that changes changes it, and how the array lies on devices does not.
    """
    found = jax.tree.map(_digest, tree)  # one small program for each shape: moments have those of parameters
    leaves = jax.tree_util.tree_leaves_with_path(found)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): int(number) for path, number in leaves}


@jax.jit
def _digest(values: Shaped[Array, "..."]) -> UInt32[Array, ""]:
    bits = jax.lax.bitcast_convert_type(values, jnp.dtype(f"uint{8 * values.dtype.itemsize}")).astype(jnp.uint32)
    place, stride = jnp.zeros(values.shape, jnp.uint32), 1
    for axis in reversed(range(values.ndim)):
        place += jax.lax.broadcasted_iota(jnp.uint32, values.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= values.shape[axis]
    return jnp.sum(bits * (place * jnp.uint32(_FACTOR) | 1), dtype=jnp.uint32)
