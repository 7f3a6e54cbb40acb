"""Files below a folder: listing them, naming them, reading them."""

import itertools
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from pipelines.sources import places
from pipelines.sources.base import Item
from pipelines.sources.places import below, walk
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
    """Returns the absolute path, or the URL, of a folder that exists and can be listed.

    Raises: `UserError` otherwise.
    """
    path = places.absolute(root)
    if not places.exists(path):
        raise UserError(f"{what} {readable(path)} does not exist; give an existing one")
    if not places.is_folder(path):
        raise UserError(f"{what} {readable(path)} is a file; give the folder that holds it")
    if not places.is_url(path) and not os.access(path, os.R_OK | os.X_OK):
        raise UserError(f"{what} {readable(path)} cannot be listed: permission denied; make it readable for you")
    return path


def listed(root: str, endings: Collection[str], what: str, left_out: Counter[str]) -> list[str]:
    """Lists the files whose name ends in one of `endings`; the others are counted in `left_out` by their ending.

    Raises: `UserError` when no file is left.
    """
    kept: list[str] = []
    others: Counter[str] = Counter()
    for path in walk(root):
        if path.lower().endswith(tuple(endings)):
            kept.append(path)
        else:
            others[readable(os.path.splitext(path)[1]) or "no ending"] += 1  # noqa: PTH122
    if not kept:
        there = f"{others.total()} other files" if others else "nothing"
        raise UserError(f"no {what} in {readable(root)}: found {there}; known endings: {' '.join(sorted(endings))}")
    for ending, count in others.items():
        left_out[f"files of ending {ending}" if ending != "no ending" else "files without ending"] += count
    return kept


def noted(left_out: Counter[str]) -> str:
    """Says what was left out; empty when nothing was."""
    counts = ", ".join(f"{count:,} {what}" for what, count in left_out.most_common(8) if count)
    return f"left out: {counts}" if counts else ""


def keys_of(paths: list[str]) -> dict[str, str]:
    """Maps a unique key to each path: the path without its ending, or with it where two files differ only in that."""
    stems = Counter(os.path.splitext(path)[0] for path in paths)  # noqa: PTH122
    keys = {}
    for path in paths:
        stem = os.path.splitext(path)[0]  # noqa: PTH122
        keys[readable(stem if stems[stem] == 1 else path)] = path
    return dict(sorted(keys.items()))


def files_in(root: str, folder: str, endings: Collection[str] = IMAGE_ENDINGS) -> list[str]:
    """Lists the files below a folder of `root` whose name ends in one of `endings`, as paths below `root`, sorted.

    An absent folder has none.
    """
    if not places.is_folder(below(root, folder)):
        return []
    return [below(folder, path) for path in walk(below(root, folder)) if path.lower().endswith(tuple(endings))]


def named(
    root: str, folder: str, pattern: str = "*", endings: Collection[str] = IMAGE_ENDINGS
) -> Iterator[tuple[str, str]]:
    """Lists name and path of the files below a folder of `root` whose name, without ending, fits a pattern.

    The pattern holds one `*`; the name is what it stands for, with the folders before it: "rgb_*" finds "room/00001"
    for room/rgb_00001.jpg.
    """
    before, after = pattern.split("*")
    for path in files_in(root, folder, endings):
        parent, file = os.path.split(os.path.splitext(os.path.relpath(path, folder))[0])  # noqa: PTH122
        if len(file) >= len(pattern) - 1 and file.startswith(before) and file.endswith(after):
            yield os.path.join(parent, file[len(before) : len(file) - len(after)]), path  # noqa: PTH118


def matched(
    found: Mapping[str, Iterable[tuple[str, str]]], prefix: str = "", names: Iterable[str] | None = None
) -> Iterator[Item]:
    """Gives an item for each name, of `names` or of any role, with the file of each role; its key begins with `prefix`.

    `found` has (name, path) of each role's files. An item that lacks a role is to be rejected as "missing-<role>"; two
    files of one role and name give two items of one key.
    """
    paths: dict[str, dict[str, list[str]]] = {role: {} for role in found}
    for role, files in found.items():
        for name, path in files:
            paths[role].setdefault(name, []).append(path)
    for name in dict.fromkeys(name for of_role in paths.values() for name in of_role) if names is None else names:
        choices = {role: paths[role][name] for role in paths if name in paths[role]}
        missing = next((role for role in paths if role not in choices), None)
        for chosen in itertools.product(*choices.values()):
            files_of = dict(zip(choices, chosen, strict=True))
            yield Item(key=prefix + readable(name), files=files_of, reject=f"missing-{missing}" if missing else "")


def paired(root: str, folders: Mapping[str, str], prefix: str = "") -> Iterator[Item]:
    """Matches the pictures in one folder for each role by their paths without ending; the key begins with `prefix`."""
    return matched({role: named(root, folder) for role, folder in folders.items()}, prefix)


def read_list(root: str, path: str) -> list[str]:
    """Returns the lines of a list of names below `root`, without empty ones; none when there is no such file.

    Raises: `UserError` when it cannot be read.
    """
    try:
        lines = places.read(below(root, path)).decode(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {readable(below(root, path))}: {error.strerror}; make it readable") from error
    return [line.strip() for line in lines if line.strip()]


def inside(root: str, folder: str, child: str) -> str:
    """Returns where `child` lies below `root`: in `folder`, or at the root itself when that is the folder."""
    return below(folder, child) if places.is_folder(below(root, folder)) else child
