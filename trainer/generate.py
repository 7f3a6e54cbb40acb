"""Generation: a prompt is run once, then one code at a time against its keys and values, in compiled scans."""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int, Key, UInt16, UInt32, UInt64

from trainer import decoding
from trainer import model as llama
from trainer.config import ComputeConfig, ModelConfig, Precision
from trainer.mesh import AXES, replicated
from trainer.numerics import scores as scores_of
from visent.errors import UserError

CPU_BATCH, ACCELERATOR_BATCH = 4, 16  # a token of so many sentences takes hardly longer than of one
ROOM = 128  # positions by which the cache grows at least; attention never reads more than this ahead of what is there
MOST_ROOMS = 4  # times that it grows at most, as each length of the cache is compiled on its own


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
        if not 0 <= self.seed < 2**32:
            raise UserError(f"--seed is {self.seed}: expected 0 up to 2**32 - 1")


class Batch(NamedTuple):
    """Sentences that are continued together."""

    prompts: UInt16[np.ndarray, "b p"]
    words: UInt32[np.ndarray, "b w"]  # of each one's number; with the seed they make its random key


class Draw(NamedTuple):
    """How the codes of some sentences are drawn: a key for each, the others for all."""

    keys: Key[Array, " b"]
    top_k: Int[Array, ""]
    temperature: Float[Array, ""]


def generate(
    params: llama.Params,
    config: ModelConfig,
    prompts: UInt16[np.ndarray, "n p"],
    new_tokens: int,
    sampling: Sampling,
    done: Callable[[int], object] = lambda count: None,
    *,
    numbers: UInt64[np.ndarray, " n"] | None = None,
    batch: int | None = None,
    precision: Precision = "auto",
    devices: Sequence[jax.Device] | None = None,
) -> UInt16[np.ndarray, "n new"]:
    """Continues each prompt (which may be empty) by `new_tokens` codes.

    `batch` sentences are decoded together on each of `devices` (this host's, unless told otherwise); a last batch that
    is not full is computed as if it were. `done` is told after each batch how many more rows are finished.
    Row i is a function of the weights, its prompt, the sampling and i, not of how many rows or devices there are; with
    `numbers` it is one of its number, which stands for i. Another `batch` may round sums otherwise, as every shape of
    a product does.

    Raises:
        UserError: `batch` is not positive, or prompts are empty and no token begins the model's sentences.
    """
    size = batch_size(batch)
    check_prompts(config, prompts.shape[1])
    result = np.empty((len(prompts), new_tokens), np.uint16)
    if not new_tokens:
        return result
    words = np.arange(len(prompts), dtype=np.uint32)[:, None] if numbers is None else words_of(numbers)
    starts = range(0, len(prompts), size)
    parts = [Batch(prompts[i : i + size], words[i : i + size]) for i in starts]
    found = continued(params, config, parts, new_tokens, sampling, batch=size, precision=precision, devices=devices)
    for start, codes in zip(starts, found, strict=True):
        result[start : start + size] = codes
        done(len(codes))
    return result


def continued(
    params: llama.Params,
    config: ModelConfig,
    batches: Sequence[Batch],
    new_tokens: int,
    sampling: Sampling,
    *,
    batch: int,
    precision: Precision = "auto",
    devices: Sequence[jax.Device] | None = None,
) -> Iterator[UInt16[np.ndarray, "b new"]]:
    """Yields in order the codes that continue the prompts of each batch, at most `batch` in one, as `generate` does.

    Every device has a batch ahead of the one it works on, so that what the caller does with one costs no time.
    """
    compute = ComputeConfig(precision=precision, attention="blocked", remat="none")  # plain XLA, for prompts
    decoders = _decoders(params, config, compute, (devices or jax.local_devices())[: len(batches)])
    running: deque[tuple[int, Array]] = deque()
    for part, decoder in zip(batches, _around(decoders), strict=False):
        running.append((len(part.prompts), decoder.run(_filled(part, batch), new_tokens, sampling)))
        if len(running) == 2 * len(decoders):
            yield _fetched(*running.popleft())
    while running:
        yield _fetched(*running.popleft())


def batch_size(batch: int | None) -> int:
    """Returns how many sentences are decoded together where `batch` were asked for.

    Raises:
        UserError: it is not positive.
    """
    if batch is None:
        return CPU_BATCH if jax.default_backend() == "cpu" else ACCELERATOR_BATCH
    if batch < 1:
        raise UserError(f"--batch is {batch}: expected 1 or more")
    return batch


def words_of(numbers: UInt64[np.ndarray, " n"]) -> UInt32[np.ndarray, "n 2"]:
    """Returns the high and the low half of numbers, as random keys take them."""
    return np.stack((numbers >> np.uint64(32), numbers & np.uint64(0xFFFFFFFF)), axis=-1).astype(np.uint32)


def check_prompts(config: ModelConfig, tokens: int) -> None:
    """Checks that sentences of a model can begin with a prompt of so many tokens.

    Raises:
        UserError: there is none, and no token begins the model's sentences.
    """
    if config.begin is None and not tokens:
        raise UserError(f"no token begins the sentences of model {config.name}: give it at least one image as prompt")


def _filled(part: Batch, size: int) -> Batch:
    """Returns a batch of `size`: what lacks are sentences of zeros, whose codes nobody looks at."""
    lacks = (0, size - len(part.prompts))
    return Batch(np.pad(part.prompts, (lacks, (0, 0))), np.pad(part.words, (lacks, (0, 0))))


def _fetched(count: int, codes: Array) -> UInt16[np.ndarray, "b new"]:
    return np.asarray(codes)[:count].astype(np.uint16)


def _around(decoders: Sequence["_Decoder"]) -> Iterator["_Decoder"]:
    while True:
        yield from decoders


class _Decoder:
    """The model on one device: parameters for prompts, and weights for the tokens after them."""

    def __init__(self, graph: Any, config: ModelConfig, cast: llama.Params, device: jax.Device) -> None:
        self.graph, self.config, self.device = graph, config, device
        shape = (1,) * len(AXES)
        self.mesh = Mesh(np.array([device]).reshape(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES))
        self.params = jax.device_put(cast, device)
        with jax.set_mesh(self.mesh):
            self.weights = _prepare(graph, self.params)

    def run(self, part: Batch, new: int, sampling: Sampling) -> Int[Array, "b new"]:
        """Begins to continue the prompts of a batch; returns codes that may still be computed."""
        begin = [] if self.config.begin is None else [self.config.begin]
        prompts = part.prompts.astype(np.int32)
        start = np.pad(prompts, ((0, 0), (len(begin), 0)), constant_values=begin[0] if begin else 0)
        top_k, temperature = np.int32(sampling.top_k), np.float32(sampling.temperature)
        with jax.default_device(self.device), jax.set_mesh(self.mesh):
            draw = _draw(np.uint32(sampling.seed), part.words, top_k, temperature)
            code, cache = _begin(self.graph, self.params, self.weights.head, jnp.asarray(start), draw)
            parts, position = [code[:, None]], start.shape[1]
            for length in lengths(position, new):
                positions = jnp.arange(position, length)
                code, cache, codes = _go_on(self.config, length, self.weights, code, cache, positions, draw)
                parts.append(codes)
                position = length
            return jnp.concatenate(parts, axis=1)


def lengths(start: int, new: int) -> list[int]:
    """Returns the lengths that a cache takes on, one after the other, while `new` tokens follow `start` others.

    The last token is never fed back, so it needs no room.
    """
    last = start + new - 1
    step = max(-(-new // (MOST_ROOMS * ROOM)), 1) * ROOM
    return [*range((start + step) // ROOM * ROOM, last, step), last] if last > start else []


def _decoders(
    params: llama.Params, config: ModelConfig, compute: ComputeConfig, devices: Sequence[jax.Device]
) -> list[_Decoder]:
    graph, cast = llama.definition(config, compute), _cast_here(params, compute)
    return [_Decoder(graph, config, cast, device) for device in devices]


def _cast_here(params: llama.Params, compute: ComputeConfig) -> llama.Params:
    """Returns the parameters in the type of products, whole, on one device of this host."""
    meshes = [x.sharding.mesh for x in jax.tree.leaves(params) if isinstance(x.sharding, NamedSharding)]
    if not meshes:
        return _cast(compute, None)(params)
    assert isinstance(meshes[0], Mesh)
    everywhere = _cast(compute, replicated(meshes[0]))(params)
    here: llama.Params = jax.tree.map(lambda x: x.addressable_data(0), everywhere)
    return here


@functools.cache
def _cast(compute: ComputeConfig, lies: NamedSharding | None) -> Callable[[llama.Params], llama.Params]:
    made: Callable[[llama.Params], llama.Params] = jax.jit(
        lambda p: llama.cast(p, compute, trained=False), out_shardings=lies
    )
    return made


@functools.partial(jax.jit, static_argnums=0)
def _prepare(graph: Any, params: llama.Params) -> decoding.Weights:
    return decoding.prepare(graph, params)


@functools.partial(jax.jit, static_argnums=0)
def _begin(
    graph: Any, params: llama.Params, head: Float[Array, "d codes"], start: Int[Array, "b t"], draw: Draw
) -> tuple[Int[Array, " b"], decoding.Cache]:
    """Runs what is given; returns the code that follows it, and its keys and values."""
    model: llama.Llama = nnx.merge(graph, params)
    hidden, cache = decoding.prefill(model, start)
    return choose(scores_of(hidden, head), draw, jnp.int32(start.shape[1] - 1)), cache


@functools.partial(jax.jit, static_argnums=(0, 1))
def _go_on(
    config: ModelConfig,
    length: int,
    weights: decoding.Weights,
    code: Int[Array, " b"],
    cache: decoding.Cache,
    positions: Int[Array, " n"],
    draw: Draw,
) -> tuple[Int[Array, " b"], decoding.Cache, Int[Array, "b n"]]:
    """Feeds back a code at each of `positions`, with a cache of `length`; returns the codes that follow."""

    def more(carry: tuple[Array, decoding.Cache], position: Array) -> tuple[tuple[Array, decoding.Cache], Array]:
        code, cache = carry
        scores, cache = decoding.step(config, weights, code, position, cache)
        code = choose(scores, draw, position)
        return (code, cache), code

    (code, cache), codes = jax.lax.scan(more, (code, decoding.grown(cache, length)), positions)
    return code, cache, codes.T


@jax.jit
def _draw(
    seed: UInt32[Array, ""], words: UInt32[Array, "b w"], top_k: Int[Array, ""], temperature: Float[Array, ""]
) -> Draw:
    """Returns how the codes of sentences are drawn, each with a key from the seed and its words."""

    def key(own: UInt32[Array, " w"]) -> Key[Array, ""]:
        made = jax.random.key(seed)
        for word in own:
            made = jax.random.fold_in(made, word)
        return made

    return Draw(jax.vmap(key)(words), top_k, temperature)


def choose(scores: Float[Array, "b v"], draw: Draw, position: Int[Array, ""]) -> Int[Array, " b"]:
    """Draws the code after `position` of each row among the `top_k` likeliest; temperature 0 takes the likeliest.

    The largest of scores with Gumbel noise is a draw from their softmax; noise times T is as scores divided by T.
    """
    keys = jax.vmap(jax.random.fold_in, (0, None))(draw.keys, position)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, scores.shape[1:]))(keys)
    kept = jnp.where(likeliest(scores, draw.top_k), scores + draw.temperature * noise, -jnp.inf)
    return jnp.argmax(kept, axis=-1).astype(jnp.int32)


def likeliest(scores: Float[Array, "b v"], count: Int[Array, ""], bits: int | None = None) -> Bool[Array, "b v"]:
    """Marks the `count` largest scores of each row, and what equals the least of them.

    Finds the value of that least one from its highest bit to its lowest: on a CPU one at a time, which compares
    least, elsewhere four, which takes the fewest kernels. `lax.top_k` of 8192 scores takes far longer on a CPU.
    """
    bits = bits or (1 if jax.default_backend() == "cpu" else 4)
    raw = jax.lax.bitcast_convert_type(scores.astype(jnp.float32), jnp.uint32)
    ordered = jnp.where(raw >> 31 == 1, ~raw, raw | jnp.uint32(1 << 31))  # as the scores are, in order
    least = jnp.zeros((len(scores), 1), jnp.uint32)
    for shift in range(32 - bits, -1, -bits):
        candidates = least + (jnp.arange(1, 1 << bits, dtype=jnp.uint32) << shift)
        enough = (ordered[:, None, :] >= candidates[:, :, None]).sum(axis=-1) >= count
        least += enough.sum(axis=-1, keepdims=True).astype(jnp.uint32) << shift
    return ordered >= least
