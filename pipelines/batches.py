"""Full batches across examples: gathering what a network takes, and handing its results back in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from pipelines.sources.base import Reject

T = TypeVar("T")

IN_FLIGHT = 2  # batches at work


def in_batches(
    examples: Iterable[T | Reject],
    pictures: Callable[[T], Sequence[Any]],
    submit: Callable[[list[Any]], "Future[Any]"],
    batch_size: int,
) -> Iterator[tuple[T, list[Any]] | Reject]:
    """Yields each example with the result of each of its pictures, in order; the last batch may be smaller.

    `submit` gives, in time, one result for each picture of a batch. A reject passes through at once, so it may
    overtake examples before it. About three batches are held.
    """
    waiting: deque[tuple[T, int]] = deque()
    gathered: list[Any] = []
    running: deque[Future[Any]] = deque()
    results: list[Any] = []
    for example in examples:
        if isinstance(example, Reject):
            yield example
            continue
        own = pictures(example)
        waiting.append((example, len(own)))
        gathered.extend(own)
        while len(gathered) >= batch_size:
            running.append(submit(gathered[:batch_size]))
            del gathered[:batch_size]
            if len(running) > IN_FLIGHT:
                results.extend(running.popleft().result())
        yield from _complete(waiting, results)
    if gathered:
        running.append(submit(gathered))
    for batch in running:
        results.extend(batch.result())
    yield from _complete(waiting, results)


def _complete(waiting: deque[tuple[T, int]], results: list[Any]) -> Iterator[tuple[T, list[Any]]]:
    """Takes the examples off the front whose results are all there."""
    while waiting and waiting[0][1] <= len(results):
        example, count = waiting.popleft()
        own = results[:count]
        del results[:count]
        yield example, own
