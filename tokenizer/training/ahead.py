"""Work done by threads before its result is asked for."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def ahead(make: Callable[[In], Out], values: Iterable[In], threads: int | None = None) -> Iterator[Out]:
    """Yields `make(value)` of each value in order; threads work on a few values beyond the one that is asked for."""
    threads = threads or min(8, os.cpu_count() or 1)
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(threads, "ahead") as pool:
        try:
            for value in values:
                waiting.append(pool.submit(make, value))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
