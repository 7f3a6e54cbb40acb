"""The batch of a step, read ahead by a thread, laid over the devices."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int32, Int64, UInt16

from manifests.corpus import Corpus
from visent.errors import UserError

AHEAD = 2  # batches ready or being read besides the one in use
FETCHED_AHEAD = 8  # batches whose shards are being fetched before they are read

T = TypeVar("T")


def batch(
    corpus: Corpus, stage: str, step: int, batch_sentences: int, seed: int
) -> tuple[UInt16[np.ndarray, "b context"], Int32[np.ndarray, " b"]]:
    """Returns codes and task ids of a stage's step: a pure function of (lock digest, seed, step)."""
    return corpus.sentences(stage, _numbers(step, batch_sentences), seed)


def prefetch(corpus: Corpus, stage: str, step: int, batch_sentences: int, seed: int) -> None:
    """Starts to fetch and decode what the batch of a later step needs, without waiting for it."""
    corpus.prefetch(stage, _numbers(step, batch_sentences), seed)


def _numbers(step: int, batch_sentences: int) -> Int64[np.ndarray, " b"]:
    return np.arange(step * batch_sentences, (step + 1) * batch_sentences, dtype=np.int64)


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


def data_mesh() -> Mesh:
    """Returns all devices in a row: each takes an equal part of a batch, and holds all parameters."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the layout of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]


def split_over(mesh: Mesh) -> NamedSharding:
    """Returns the layout of a batch: its first axis in parts, one for each device."""
    return NamedSharding(mesh, PartitionSpec("data"))  # type: ignore[no-untyped-call]


def check_divides(batch_sentences: int, mesh: Mesh, setting: str) -> None:
    """Raises a `UserError` where a batch does not split evenly over the devices."""
    if batch_sentences % mesh.size:
        low = batch_sentences // mesh.size * mesh.size
        raise UserError(
            f"{setting} is {batch_sentences}: expected a multiple of the {mesh.size} devices; "
            f"use --set {setting}={low or mesh.size} or {low + mesh.size}"
        )
