"""One code at a time against the keys and values of those before it.

What a token costs is what it moves, so weights and cache lie as each token reads them: the weights of every layer are
arrays of their own, in the type of products, with those that read the same input joined into one product; and every
layer has its own cache, written in place. A scan over stacked layers would copy each layer's part out first.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from trainer import model as llama
from trainer.config import ModelConfig
from trainer.numerics import gated, rms_norm, scores

Cache = tuple[tuple[Float[Array, "b h _ k"], Float[Array, "b h _ k"]], ...]  # keys and values of each layer


class LayerWeights(NamedTuple):
    """What one layer multiplies by."""

    attention_norm: Float[Array, " d"]
    query_key_value: Float[Array, "d 3*d"]
    out: Float[Array, "d d"]
    mlp_norm: Float[Array, " d"]
    gate_up: Float[Array, "d 2*m"]
    down: Float[Array, "m d"]


class Weights(NamedTuple):
    """What a token is computed with; `head` has only the columns of codes, so nothing else can be drawn."""

    table: Float[Array, "v d"]  # embedding of every token
    layers: tuple[LayerWeights, ...]
    norm: Float[Array, " d"]
    head: Float[Array, "d codes"]


def prepare(graph: Any, params: llama.Params) -> Weights:
    """Returns the weights as decoding reads them, from parameters that are already cast."""
    model: llama.Llama = nnx.merge(graph, params)
    layers = params["layers"]

    def joined(names: tuple[str, ...], *where: str) -> Float[Array, "layers i o"]:
        inside = layers[where[0]] if where else layers
        return jnp.concatenate([inside[name]["kernel"] for name in names], axis=-1)

    stacked = LayerWeights(
        layers["attention_norm"]["scale"],
        joined(("query", "key", "value"), "attention"),
        layers["attention"]["out"]["kernel"],
        layers["mlp_norm"]["scale"],
        joined(("gate", "up")),
        layers["down"]["kernel"],
    )
    return Weights(
        table=model.embedding(jnp.arange(model.config.vocabulary)[None])[0],
        layers=tuple(jax.tree.map(lambda x, n=n: x[n], stacked) for n in range(model.config.layers)),
        norm=params["norm"]["scale"],
        head=params["head"]["kernel"][:, : model.config.codebook_size],
    )


def prefill(model: llama.Llama, tokens: Int[Array, "b t"]) -> tuple[Float[Array, "b d"], Cache]:
    """Runs prompts; returns the normalised hidden state of their last position, and a cache without room."""
    hidden, (keys, values) = model.prefill(tokens)
    return hidden[:, -1], tuple((keys[n], values[n]) for n in range(model.config.layers))


def grown(cache: Cache, length: int) -> Cache:
    """Returns the cache with room for `length` positions."""
    made: Cache = jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, length - x.shape[2]), (0, 0))), cache)
    return made


def step(
    config: ModelConfig, weights: Weights, tokens: Int[Array, " b"], position: Int[Array, ""], cache: Cache
) -> tuple[Float[Array, "b codes"], Cache]:
    """Runs the token at `position` of each sentence; returns the scores of the next code, and the cache with it."""
    by = llama.rope(config, position[None])
    x = weights.table[tokens]
    filled = []
    for layer, (keys, values) in zip(weights.layers, cache, strict=True):
        q, k, v = jnp.split(rms_norm(x, layer.attention_norm, config.norm_epsilon) @ layer.query_key_value, 3, axis=-1)
        q, k, v = (y.reshape(len(y), 1, config.heads, -1) for y in (q, k, v))
        keys = _put(keys, llama.rotate(k, by), position)
        values = _put(values, v, position)
        x += attend(llama.rotate(q, by)[:, 0], keys, values, position).reshape(x.shape) @ layer.out
        gate, up = jnp.split(rms_norm(x, layer.mlp_norm, config.norm_epsilon) @ layer.gate_up, 2, axis=-1)
        x += gated(gate, up) @ layer.down
        filled.append((keys, values))
    return scores(rms_norm(x, weights.norm, config.norm_epsilon), weights.head), tuple(filled)


def attend(
    q: Float[Array, "b h k"], keys: Float[Array, "b h t k"], values: Float[Array, "b h t k"], position: Int[Array, ""]
) -> Float[Array, "b h k"]:
    """Attends with the one query at `position` to the keys up to it; the rest of the cache is still empty."""
    products = jnp.einsum("bhk,bhtk->bht", q, keys, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(jnp.arange(keys.shape[2]) <= position, products, -1e30), axis=-1)
    return jnp.einsum("bht,bhtk->bhk", weights.astype(values.dtype), values)


def _put(
    cache: Float[Array, "b h t k"], new: Float[Array, "b 1 h k"], position: Int[Array, ""]
) -> Float[Array, "b h t k"]:
    return jax.lax.dynamic_update_slice(cache, new.swapaxes(1, 2), (0, 0, position, 0))
