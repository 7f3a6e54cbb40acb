"""Remote files kept on this machine for all its processes: fetched by one of them, whole or not at all, and checked."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visent import storage

_sound: dict[Path, bool] = {}  # folders that this process has read through


def fetch_once(files: Sequence[tuple[str, str]], folder: Path) -> None:
    """Fetches files, (name here, URL) each, into a folder unless it is there with the bytes it was fetched with.

    Of all processes on this machine one fetches while the others wait; what a
    killed one left is fetched again. The sha256 of each file stands beside the folder, and is compared once by every
    process.

    Raises:
        OSError: a file cannot be fetched, or came shorter or otherwise than its store says, several times in a row.
    """
    if _is_sound(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _held(folder.with_name(f"{folder.name}.lock")):
        _sound.pop(folder, None)
        if not _is_sound(folder):  # another process may have been faster
            shutil.rmtree(folder, ignore_errors=True)
            _fetch(files, folder)
            _sound[folder] = True


def _is_sound(folder: Path) -> bool:
    """Compares the folder's files with what was fetched; once in a process, as weights are large."""
    if folder not in _sound or not folder.is_dir():
        _sound[folder] = folder.is_dir() and _recorded(folder) == {
            str(path.relative_to(folder)): _sha256(path) for path in folder.rglob("*") if path.is_file()
        }
    return _sound[folder]


def _record(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _recorded(folder: Path) -> Any:
    try:
        return json.loads(_record(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # of a version that kept none, or cut: the files are fetched again
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Waits until no other process holds the lock; the system lets go of it when a process dies."""
    import fcntl

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(files: Sequence[tuple[str, str]], folder: Path) -> None:
    """Fetches beside the folder first, so that a folder that is there is whole."""
    from visent.progress import track

    for left in folder.parent.glob(f"{folder.name}.*.partial"):  # of a process that was killed: we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    digests = {}
    with track("fetching", len(files), "files") as progress:
        for name, url in files:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            storage.fetch(url, str(partial / name))
            digests[name] = _sha256(partial / name)
            progress.advance(note=name)
    _record(folder).write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")  # if cut, nothing is sound
    partial.replace(folder)
