"""The same files at a URL: a folder of a test copied to where fsspec keeps files in memory."""

import itertools
from pathlib import Path

import fsspec

_numbers = itertools.count()


def at_url(folder: Path) -> str:
    """Copies a folder, and returns the URL of the copy; empty folders are not there, as in a bucket."""
    url = f"memory://bucket{next(_numbers)}/{folder.name}"
    system, inner = fsspec.core.url_to_fs(url)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            system.pipe_file(f"{inner}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return url
