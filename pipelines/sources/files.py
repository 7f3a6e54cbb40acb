"""Files below a folder: listing them, naming them, reading them."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from tokenizer.listing import readable
from visent.errors import UserError

# fmt: off
IMAGE_ENDINGS = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".tga",
))
ARRAY_ENDINGS = frozenset((".npy", ".npz"))
VIDEO_ENDINGS = frozenset((
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg",
    ".wmv", ".flv", ".ogv", ".3gp", ".ts", ".mts", ".m2ts", ".y4m",
))
# fmt: on


def checked_root(root: str, what: str = "folder") -> str:
    """Returns the absolute path of a folder that exists and can be listed.

    Raises: `UserError` otherwise.
    """
    path = Path(root).absolute()
    if not path.exists():
        raise UserError(f"{what} {readable(str(path))} does not exist; give an existing one")
    if not path.is_dir():
        raise UserError(f"{what} {readable(str(path))} is a file; give the folder that holds it")
    if not os.access(path, os.R_OK | os.X_OK):
        raise UserError(f"{what} {readable(str(path))} cannot be listed: permission denied")
    return str(path)


def walk(root: str) -> Iterator[str]:
    """Yields the path below `root` of every file, hidden ones left out, in sorted order; follows links to folders.

    Raises: `UserError` for a folder that cannot be listed: leaving it out would be a silent gap.
    """
    seen: set[tuple[int, int]] = set()

    def fail(error: OSError) -> None:
        raise UserError(f"cannot list {readable(str(error.filename))}: {error.strerror}")

    for folder, folders, names in os.walk(root, onerror=fail, followlinks=True):
        status = os.stat(folder)  # noqa: PTH116 - a path given as text stays text
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118


def listed(root: str, endings: Collection[str], what: str) -> tuple[list[str], str]:
    """Lists the files whose name ends in one of `endings`, and returns a note on the others (empty without others).

    Raises: `UserError` when no file is left.
    """
    kept: list[str] = []
    ignored: Counter[str] = Counter()
    for path in walk(root):
        if path.lower().endswith(tuple(endings)):
            kept.append(path)
        else:
            ignored[readable(os.path.splitext(path)[1]) or "no ending"] += 1  # noqa: PTH122
    if not kept:
        there = f"{ignored.total()} other files" if ignored else "nothing"
        raise UserError(f"no {what} in {readable(root)}: found {there}; known endings: {' '.join(sorted(endings))}")
    counts = ", ".join(f"{count} {ending}" for ending, count in ignored.most_common(5))
    return (
        kept,
        f"{ignored.total()} files in {readable(root)} are no {what} by name and were left out: {counts}"
        if counts
        else "",
    )


def keys_of(paths: list[str]) -> dict[str, str]:
    """Maps a unique key to each path: the path without its ending, or with it where two files differ only in that."""
    stems = Counter(os.path.splitext(path)[0] for path in paths)  # noqa: PTH122
    keys = {}
    for path in paths:
        stem = os.path.splitext(path)[0]  # noqa: PTH122
        keys[readable(stem if stems[stem] == 1 else path)] = path
    return dict(sorted(keys.items()))
