"""Checkpoints at URLs that orbax cannot write to, as `s3://`: kept in a local folder, and put there step by step.

A step is there when `commit_success.txt` is in it, which is put last and removed first; so it is whole or not there.
Orbax writes one here, too, among the other files.
"""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from manifests import files
from visent import staging

MARKER = "commit_success.txt"


class Mirror:
    """The steps at a URL and their copies here; a reader has the newest only."""

    def __init__(self, url: str, *, writes: bool) -> None:
        self.url, self.folder = url, _copies(url, writes)
        self._there = {int(name) for name in files.list_names(url) if name.isdecimal() and self._whole(name)}
        wanted = {str(step) for step in (self._there if writes else sorted(self._there)[-1:])}
        for old in self.folder.iterdir():
            if old.name not in wanted:
                shutil.rmtree(old, ignore_errors=True)
        for step in sorted(wanted):
            if not (self.folder / step).exists():
                self._bring(step)

    def _whole(self, step: str) -> bool:
        return files.exists(files.join(self.url, step, MARKER))

    def _bring(self, step: str) -> None:
        partial = self.folder / f"{files.TEMPORARY}{step}"
        staging.bring(files.join(self.url, step), partial)
        partial.rename(self.folder / step)

    def send(self, steps: Iterable[int]) -> None:
        """Makes the steps at the URL those that are here.

        Raises:
            UserError: the URL cannot be written.
        """
        here = set(steps)
        for step in sorted(here - self._there):
            place = files.join(self.url, str(step))
            files.remove(place)  # of an upload that was cut short
            for part in sorted(path for path in (self.folder / str(step)).iterdir() if path.name != MARKER):
                staging.send(part, files.join(place, part.name))
            files.write_bytes(files.join(place, MARKER), b"")
            self._there.add(step)
        for step in sorted(self._there - here):
            files.remove(files.join(self.url, str(step), MARKER))
            files.remove(files.join(self.url, str(step)))
            self._there.discard(step)


@functools.cache
def _copies(url: str, writes: bool) -> Path:
    """Returns the folder of a URL's copies: one for each process, so that a run is not fetched again for each look."""
    folder = Path(tempfile.mkdtemp(prefix="visent-checkpoints-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
