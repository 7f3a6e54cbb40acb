"""Where a worker's time goes: how long each stage of a unit worked, and how long the encoder was busy."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

STAGES = ("read", "decode", "annotate", "encode", "write")  # in the order of the work
_END = object()


class Clock:
    """Counts the seconds in which at least one thread was at work, however many there were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working = 0
        self._since = self._busy = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """The calling thread is at work inside of the block."""
        with self._lock:
            if not self._working:
                self._since = time.perf_counter()
            self._working += 1
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1
                if not self._working:
                    self._busy += time.perf_counter() - self._since

    @property
    def busy(self) -> float:
        """Seconds of work up to now."""
        with self._lock:
            return self._busy + (time.perf_counter() - self._since if self._working else 0.0)


class Meter:
    """Adds up, over all threads that work for one unit, seconds by stage and bytes read.

    `read` takes the source's files, and decodes where the source decodes by itself, as of videos; `decode` includes
    aligning and cutting; `encode` includes waiting for the device; `write` ends when the receipt is there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._bytes_read = 0
        self.pictures = 0  # encoded; counted by one thread

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """What the block takes counts for the stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - began
            with self._lock:
                self._seconds[stage] += took

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Passes items on; what it takes to get them counts for the stage, what happens to them does not."""
        iterator = iter(items)
        while True:
            with self.at(stage):
                item = next(iterator, _END)
            if item is _END:
                return
            yield item  # type: ignore[misc]

    def add_bytes(self, count: int) -> None:
        """Counts bytes that were read."""
        with self._lock:
            self._bytes_read += count

    @property
    def bytes_read(self) -> int:
        """Bytes of encoded media that came from the source."""
        return self._bytes_read

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of all threads by stage, those that took any time."""
        with self._lock:
            return {stage: round(seconds, 4) for stage, seconds in self._seconds.items() if seconds}
