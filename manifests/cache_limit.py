"""A limit on what decoded columns take on the disk: those used longest ago go first."""

import math
import os
import threading
from pathlib import Path

from visent.errors import UserError

VARIABLE = "VISENT_CACHE_GB"


def bytes_allowed() -> float:
    """Returns the limit that VISENT_CACHE_GB sets in gigabytes, infinite without it.

    Raises: `UserError` when it is no number above 0.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        limit = float(text) if text else math.inf
    except ValueError:
        limit = math.nan
    if not limit > 0:
        raise UserError(f"{VARIABLE} is {text!r}; expected gigabytes above 0, as {VARIABLE}=200")
    return limit * 1e9


class CacheLimit:
    """Keeps a folder's `*.npy` files within so many bytes, as far as this process writes them.

    A file that is mapped may go: its content stays until it is closed.
    """

    def __init__(self, folder: Path, allowed: float | None = None) -> None:
        self._folder = folder
        self._allowed = bytes_allowed() if allowed is None else allowed
        self._used: int | None = None
        self._counting = threading.Lock()

    def make_room(self, needed: int) -> None:
        """Removes the files used longest ago until so many bytes more fit; call it before they are written."""
        if math.isinf(self._allowed):
            return
        with self._counting:
            self._used = (self._scan() if self._used is None else self._used) + needed
            if self._used > self._allowed:
                self._used = self._evict(needed) + needed

    def _scan(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _files(self) -> list[tuple[float, int, Path]]:
        found = []
        for file in self._folder.glob("*.npy"):
            try:
                status = file.stat()
            except FileNotFoundError:  # another process made room
                continue
            found.append((status.st_atime, status.st_size, file))
        return found

    def _evict(self, needed: int) -> int:
        """Frees a tenth more than needed, so that the folder is not listed for every file."""
        there = sorted(self._files())
        left, goal = sum(size for _, size, _ in there), 0.9 * self._allowed - needed
        for _, size, file in there:
            if left <= goal:
                break
            file.unlink(missing_ok=True)
            left -= size
        return left
