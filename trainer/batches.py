"""The batch of a step, read ahead by a thread, laid over the devices of all hosts."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array, Float16, Int32, Int64, UInt16

from manifests.corpus import Corpus
from manifests.lanes import MOST_LANES
from trainer.mesh import batch_parts, over_batch
from visent.errors import UserError

AHEAD = 2  # batches ready or being read besides the one in use
FETCHED_AHEAD = 8  # batches whose shards are being fetched before they are read

T = TypeVar("T")
Rows = slice | Int64[np.ndarray, " n"]  # some of a batch, in its order


class Likeliest(NamedTuple):
    """What a teacher thought likeliest at each position: codes, and the logarithms of their probabilities."""

    codes: UInt16[Any, "b t k"]
    log_probabilities: Float16[Any, "b t k"]


class Batch(NamedTuple):
    """What one step reads; `likeliest` only where a teacher was cached. Arrays of numpy or of JAX."""

    codes: UInt16[Any, "b t"]
    tasks: Int32[Any, " b"]
    likeliest: Likeliest | None = None


def numbers(step: int, batch_sentences: int) -> Int64[np.ndarray, " b"]:
    """Returns the numbers of the sentences of a stage's step, in the order of the batch's rows.

    Sentences of one lane, which are read from the same shards, stand together (by the reversed bits of the lane), so
    that hosts that take equal parts of the batch, one after the other, read different shards, and a batch does not
    depend on how many hosts there are.
    """
    lanes = int(np.gcd(batch_sentences, MOST_LANES))
    bits = lanes.bit_length() - 1
    reversed_bits = np.array([int(f"{lane:0{bits}b}"[::-1], 2) if bits else 0 for lane in range(lanes)])
    return step * batch_sentences + np.argsort(reversed_bits[np.arange(batch_sentences) % lanes], kind="stable")


def batch(
    corpus: Corpus,
    stage: str,
    step: int,
    batch_sentences: int,
    seed: int,
    rows: Rows = slice(None),
    likeliest: Callable[[Int64[np.ndarray, " n"]], Likeliest] | None = None,
) -> Batch:
    """Returns rows of the batch of a stage's step: a pure function of (lock digest, seed, step).

    `likeliest` returns what a teacher thought of sentences of these numbers; it then stands beside them.
    """
    own = numbers(step, batch_sentences)[rows]
    return Batch(*corpus.sentences(stage, own, seed), None if likeliest is None else likeliest(own))


def prefetch(corpus: Corpus, stage: str, step: int, batch_sentences: int, seed: int, rows: Rows = slice(None)) -> None:
    """Starts to fetch and decode what rows of the batch of a later step need, without waiting for it."""
    corpus.prefetch(stage, numbers(step, batch_sentences)[rows], seed)


def own_rows(mesh: Mesh, batch_sentences: int) -> Int64[np.ndarray, " n"]:
    """Returns which rows of a batch lie on this host's devices; no others need to be read here."""
    places: Any = over_batch(mesh).addressable_devices_indices_map((batch_sentences,))
    parts = [np.arange(batch_sentences)[place] for place in places.values()]
    return np.unique(np.concatenate(parts)).astype(np.int64)


def spread(mesh: Mesh, rows: Int64[np.ndarray, " n"], batch_sentences: int, own: Any) -> Any:
    """Lays a batch over all devices; `own` is a tree of arrays with this host's `rows` of it."""
    lies = over_batch(mesh)

    def place(array: np.ndarray) -> Array:
        def part(index: Any) -> np.ndarray:
            start, end, _ = index[0].indices(batch_sentences)
            first = int(np.searchsorted(rows, start))
            return array[first : first + end - start]

        return jax.make_array_from_callback((batch_sentences, *array.shape[1:]), lies, part)

    return jax.tree.map(place, own)


def spread_whole(mesh: Mesh, codes: UInt16[np.ndarray, "b t"]) -> UInt16[Array, "b t"]:
    """Lays codes over all devices that every host has read whole."""
    rows = own_rows(mesh, len(codes))
    laid: Array = spread(mesh, rows, len(codes), codes[rows])
    return laid


def read_ahead(make: Callable[[int], T], steps: range) -> Generator[T, None, None]:
    """Yields `make(step)` for each of `steps`, computed by one thread up to `AHEAD` steps early.

    An error is raised where the step it belongs to is due. Closing the iterator ends the thread.
    """
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        try:
            for step in steps:
                waiting.append(pool.submit(make, step))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def check_divides(batch_sentences: int, microbatches: int, mesh: Mesh | AbstractMesh, stage: str) -> None:
    """Raises a `UserError` where a stage's microbatches do not split evenly over the devices."""
    unit = batch_parts(mesh) * microbatches
    if batch_sentences % unit:
        setting = f"stages.{stage}.batch_sentences"
        low = batch_sentences // unit * unit
        parts = f" in {microbatches} microbatches" if microbatches > 1 else ""
        raise UserError(
            f"{setting} is {batch_sentences}: expected a multiple of {unit}, for {batch_parts(mesh)} parts of the "
            f"mesh{parts}; use --set {setting}={low or unit} or {low + unit}"
        )
