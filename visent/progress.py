"""Progress with rate and ETA on standard error, for terminals and for log files."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


class Track:
    """One running count; `advance` may be called from one thread only."""

    def __init__(self, name: str, total: int | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0
        self.started = time.monotonic()
        self.note = ""

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Adds `count` finished units; `note` replaces the text at the end of the line."""
        self.done += count
        if note is not None:
            self.note = note
        self._show()

    def line(self) -> str:
        """Returns the plain form: name, count, rate, ETA and note."""
        of = f"/{self.total}" if self.total is not None else ""
        text = f"{self.name}: {self.done}{of} {self.unit}, {self.rate:.1f} {self.unit}/s"
        if self.total is not None and self.done:
            text += f", ETA {max(self.total - self.done, 0) / max(self.rate, 1e-9):.0f} s"
        return f"{text} {self.note}".rstrip()

    def _show(self) -> None: ...


class _Lines(Track):
    """Prints a plain line every few seconds: for log files and CI."""

    _last = 0.0

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES and self.done != self.total:  # the last line comes at the end
            self._last = now
            print(self.line(), file=sys.stderr, flush=True)


class _Bar(Track):
    """Draws a bar that rewrites itself: for terminals."""

    def __init__(self, name: str, total: int | None, unit: str, progress: Progress) -> None:
        super().__init__(name, total, unit)
        self._progress = progress
        self._id = progress.add_task(name, total=total, rate="", note="")

    def _show(self) -> None:
        rate = f"{self.rate:.1f} {self.unit}/s"
        self._progress.update(self._id, completed=self.done, rate=rate, note=self.note)


@contextmanager
def track(name: str, total: int | None = None, unit: str = "items") -> Iterator[Track]:
    """Shows progress while the block runs: a bar on a terminal, else a line every ten seconds.

    `total` is in `unit`s, or None where it is not known. Ends with one line that states the final count and rate.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        lines = _Lines(name, total, unit)
        yield lines
        print(lines.line(), file=sys.stderr, flush=True)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(name, total, unit, progress)


def duration(seconds: float) -> str:
    """Returns a time in the two units that say it: `3 d 4 h`, `5 min 10 s`."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    left, parts = round(seconds), list[str]()
    for unit, size in units:
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size:,} {unit}")
            left %= size
    return " ".join(parts[:2])
