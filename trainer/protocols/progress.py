"""Progress of work that hosts share: the first one shows its own part, which is as large as any."""

import contextlib
from collections.abc import Callable, Iterator

from trainer import hosts
from visent.progress import track


@contextlib.contextmanager
def shown(title: str, count: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Gives a function that is told how many more of this host's `count` are done; quiet on all hosts but the first."""
    if not hosts.first():
        yield lambda done: None
        return
    with track(title, count, unit) as bar:
        yield bar.advance
