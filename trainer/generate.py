"""Generation: a prompt is run once, then one code at a time against its keys and values, in one compiled scan."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key, UInt16

from trainer import model as llama
from trainer.config import ModelConfig
from visent.errors import UserError

BATCH = 4  # sentences decoded together, always: a sample must not depend on how many others are asked for


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a code is drawn from the model's scores."""

    top_k: int = 100  # drawn among this many likeliest codes
    temperature: float = 1.0  # 0 takes the likeliest code
    seed: int = 0

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UserError(f"--top-k is {self.top_k}: expected 1 or more")
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"--temperature is {self.temperature}: expected 0 or more")


def generate(
    params: llama.Params,
    config: ModelConfig,
    prompts: UInt16[np.ndarray, "n p"],
    new_tokens: int,
    sampling: Sampling,
    done: Callable[[int], object] = lambda count: None,
) -> UInt16[np.ndarray, "n new"]:
    """Continues each prompt (which may be empty) by `new_tokens` codes.

    `done` is told after each batch how many more rows are finished.
    Row i is a function of the weights, its prompt, the sampling and i: not of how many rows there are.

    Raises:
        UserError: prompts are empty, and no token begins the model's sentences.
    """
    if config.begin is None and not prompts.shape[1]:
        raise UserError(
            f"model {config.name} has no token that begins a sentence: give it at least one image as prompt"
        )
    run = functools.partial(
        _continue,
        llama.definition(config),
        new_tokens,
        0 if sampling.temperature == 0 else min(sampling.top_k, config.codebook_size),
    )
    result = np.empty((len(prompts), new_tokens), np.uint16)
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        padded = np.pad(part, ((0, BATCH - len(part)), (0, 0))).astype(np.int32)
        numbers = jnp.arange(start, start + BATCH)
        keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(sampling.seed)))(numbers)
        codes = run(params, padded, keys, jnp.float32(sampling.temperature))
        result[start : start + BATCH] = np.asarray(codes)[: len(part)]
        done(len(part))
    return result


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _continue(
    graph: Any,
    new_tokens: int,
    top_k: int,
    params: llama.Params,
    prompts: Int[Array, "b p"],
    keys: Key[Array, " b"],
    temperature: Float[Array, ""],
) -> Int[Array, "b new"]:
    model = nnx.merge(graph, params)
    begin = model.config.begin
    start = prompts if begin is None else jnp.pad(prompts, ((0, 0), (1, 0)), constant_values=begin)
    length = start.shape[1]
    hidden, cache = model.prefill(start, length + new_tokens)

    def draw(hidden: Float[Array, "b d"], position: Int[Array, ""]) -> Int[Array, " b"]:
        here = jax.vmap(jax.random.fold_in, (0, None))(keys, position)
        return choose(model.logits(hidden)[:, : model.config.codebook_size], here, top_k, temperature)

    def more(carry: tuple[Array, llama.Cache], position: Array) -> tuple[tuple[Array, llama.Cache], Array]:
        code, cache = carry
        hidden, cache = model.step(code, position, cache)
        code = draw(hidden, position)
        return (code, cache), code

    first = draw(hidden[:, -1], jnp.int32(length - 1))
    _, others = jax.lax.scan(more, (first, cache), jnp.arange(length, length + new_tokens - 1))
    return jnp.concatenate((first[:, None], others.T), axis=1)


def choose(
    scores: Float[Array, "b v"], keys: Key[Array, " b"], top_k: int, temperature: Float[Array, ""]
) -> Int[Array, " b"]:
    """Draws one code of each row among its `top_k` likeliest; `top_k` 0 takes the likeliest."""
    if top_k == 0:
        return jnp.argmax(scores, axis=-1).astype(jnp.int32)
    best, codes = jax.lax.top_k(scores, top_k)
    drawn = jax.vmap(jax.random.categorical)(keys, best / temperature)
    return jnp.take_along_axis(codes, drawn[:, None], axis=1)[:, 0].astype(jnp.int32)
