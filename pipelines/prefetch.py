"""Reading and decoding ahead of the encoder: in threads, in order, and bounded."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_AHEAD = 64  # inputs read but not yet consumed
MAX_BYTES_AHEAD = 128 << 20  # that these inputs hold

_starting = threading.Lock()
_pools: list[ThreadPoolExecutor] = []


def cores() -> int:
    """Returns the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pool() -> ThreadPoolExecutor:
    """Returns the process's one pool, so that four workers in one process do not start four."""
    with _starting:
        if not _pools:
            _pools.append(ThreadPoolExecutor(max(2, cores()), thread_name_prefix="decode"))
        return _pools[0]


class _Budget:
    """Counts what waits, and makes the reader wait when it is too much."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._inputs = self._bytes = 0
        self._stopped = False

    def take(self, held: int) -> bool:
        """Waits for room, at least until nothing else waits; returns False when the consumer has gone."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stopped
                    or self._inputs == 0
                    or (self._inputs < self._most and self._bytes + held <= MAX_BYTES_AHEAD)
                )
            )
            self._inputs += 1
            self._bytes += held
            return not self._stopped

    def give(self, held: int) -> None:
        with self._changed:
            self._inputs -= 1
            self._bytes -= held
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()


def ahead(inputs: Iterable[T], work: Callable[[T], R], size: Callable[[T], int], most: int = MAX_AHEAD) -> Iterator[R]:
    """Yields `work(input)` in order: one thread iterates `inputs`, a pool works, both ahead of the consumer.

    At most `most` inputs wait, and of more than one at most 128 MiB; `size` gives the bytes of an input. What
    `inputs` or `work` raise is raised here.
    """
    budget = _Budget(most)
    ready: SimpleQueue[tuple[Future[R], int] | None] = SimpleQueue()

    def read() -> None:
        try:
            for item in inputs:
                held = size(item)
                if not budget.take(held):
                    break
                ready.put((_pool().submit(work, item), held))
        except BaseException as error:
            failed: Future[R] = Future()
            failed.set_exception(error)
            ready.put((failed, 0))
        ready.put(None)

    reader = threading.Thread(target=read, name="read", daemon=True)
    reader.start()
    try:
        while (entry := ready.get()) is not None:
            yield entry[0].result()
            budget.give(entry[1])
    finally:
        budget.stop()
        reader.join()
