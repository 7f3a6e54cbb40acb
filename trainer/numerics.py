"""What stays float32 inside a bfloat16 model: norms, and the scores that the loss reads.

Both keep for the backward pass what they were given, in its own type: differentiated as they stand they would keep a
float32 copy of every activation.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@partial(jax.checkpoint, prevent_cse=False, static_argnums=2)
def rms_norm(x: Float[Array, "*b d"], scale: Float[Array, " d"], epsilon: float) -> Float[Array, "*b d"]:
    """Divides by the root mean square and multiplies by `scale` (Zhang and Sennrich 2019), in float32."""
    wide = x.astype(jnp.float32)
    by = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + epsilon)
    return (wide * by * scale).astype(x.dtype)


@partial(jax.checkpoint, prevent_cse=False)
def gated(gate: Float[Array, "*b m"], up: Float[Array, "*b m"]) -> Float[Array, "*b m"]:
    """Returns silu(gate) x up (SwiGLU, Shazeer 2020)."""
    return jax.nn.silu(gate) * up


@jax.custom_vjp
def scores(hidden: Float[Array, "*b d"], matrix: Float[Array, "d v"]) -> Float[Array, "*b v"]:
    """Returns hidden x matrix as float32: multiplied in the type of `hidden`, never rounded to it after the sum.

    The gradient of a float32 `matrix` is float32, too, so that adding it up over chunks of a loss loses nothing.
    """
    return jnp.matmul(hidden, matrix.astype(hidden.dtype), preferred_element_type=jnp.float32)


def _scores_forward(hidden: Array, matrix: Array) -> tuple[Array, tuple[Array, Array]]:
    return scores(hidden, matrix), (hidden, matrix)


def _scores_backward(kept: tuple[Array, Array], gradient: Any) -> tuple[Array, Array]:
    hidden, matrix = kept
    narrow = gradient.astype(hidden.dtype)
    to_matrix = jnp.einsum("...d,...v->dv", hidden, narrow, preferred_element_type=jnp.float32)
    return jnp.matmul(narrow, matrix.astype(hidden.dtype).T), to_matrix.astype(matrix.dtype)


scores.defvjp(_scores_forward, _scores_backward)
