"""Image files: found below folders in a stable order, read one after the other, rejects kept with their reason."""

import hashlib
import heapq
import itertools
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tokenizer.images import ImageError
from visent.errors import UserError
from visent.progress import track

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .tif .tiff .gif .avif .jp2 .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)
MAX_BYTES = 1 << 30  # a "picture" of more than 1 GiB is none, and would break the memory bound
_AHEAD = 4  # files in hand for each thread

Made = TypeVar("Made")


@dataclass(frozen=True)
class ImageFile:
    """A file that may hold a picture."""

    name: str  # path below the folder it was found in, with "/"; of a file that was named itself, its last part
    path: Path


@dataclass(frozen=True)
class Reject:
    """A file that gave no picture."""

    path: Path
    reason: str  # short and stable: rejects are counted by it; see `ImageError`, and "unreadable"
    detail: str


def list_images(paths: Sequence[Path], suffixes: frozenset[str] = SUFFIXES) -> list[ImageFile]:
    """Lists the image files (by ending) below folders, and files that are named themselves whatever their ending.

    The order is that of the paths given, sorted by name within a folder, so that it depends on names alone. Hidden
    files and folders are left out, links to folders followed, a file found twice listed once.

    Raises:
        UserError: a path does not exist, a folder cannot be listed, or no image file is found at all.
    """
    found: dict[str, ImageFile] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"no file or folder {readable(path)!r}: name image files, or folders that hold some")
        names = sorted(_walk(path, suffixes)) if path.is_dir() else [""]
        for name in names:
            file = ImageFile(name or path.name, path / name if name else path)
            found.setdefault(os.path.abspath(file.path), file)  # noqa: PTH100 - resolve() would follow links
    if not found:
        where = ", ".join(readable(path) for path in paths)
        raise UserError(f"no image file below {where}: expected files that end in {' '.join(sorted(suffixes))}")
    return list(found.values())


def sample(files: Sequence[ImageFile], count: int) -> list[ImageFile]:
    """Returns `count` of the files in the same order: those with the lowest hash of their name."""
    kept = {file.path for file in heapq.nsmallest(count, files, key=name_hash)}
    return [file for file in files if file.path in kept]


def name_hash(file: ImageFile) -> int:
    """Returns a number by which files are drawn as by lot: of the name alone, so the same anywhere."""
    return int.from_bytes(hashlib.sha256(os.fsencode(file.name)).digest()[:8])


def _walk(root: Path, suffixes: frozenset[str]) -> Iterator[str]:
    """Yields the name of each image file below the folder."""
    seen: set[tuple[int, int]] = set()

    def fail(error: OSError) -> None:
        raise UserError(f"cannot list {readable(error.filename)}: {error.strerror}; leaving it out would be a gap")

    for folder, folders, names in os.walk(root, onerror=fail, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield (Path(folder) / name).relative_to(root).as_posix()


def read_images(
    files: Sequence[ImageFile], make: Callable[[bytes], Made], rejects: list[Reject], threads: int | None = None
) -> Iterator[tuple[ImageFile, Made]]:
    """Yields each file with what `make` makes of its bytes, in the order of the files; a few are in hand at a time.

    `make` runs in threads. What it refuses by `ImageError`, and files that cannot be read, are added to `rejects`
    in that order instead.
    """
    threads = threads or min(8, os.cpu_count() or 1)
    waiting: deque[tuple[ImageFile, Future[Made]]] = deque()
    with ThreadPoolExecutor(threads, "read-images") as pool:
        try:
            for file in files:
                waiting.append((file, pool.submit(_make, file.path, make)))
                if len(waiting) > _AHEAD * threads:
                    yield from _finished(*waiting.popleft(), rejects)
            while waiting:
                yield from _finished(*waiting.popleft(), rejects)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def read_batches(
    what: str, files: Sequence[ImageFile], make: Callable[[bytes], Made], rejects: list[Reject], size: int
) -> Iterator[list[tuple[ImageFile, Made]]]:
    """Yields what `read_images` yields in lists of `size`, the last one shorter, and shows progress as `what`."""
    pairs, counted = read_images(files, make, rejects), -len(rejects)
    with track(what, len(files), "images") as progress:
        while batch := list(itertools.islice(pairs, size)):
            yield batch
            counted += len(batch)
            progress.advance(counted + len(rejects) - progress.done)
        progress.advance(len(files) - progress.done)


def _make(path: Path, make: Callable[[bytes], Made]) -> Made:
    if path.stat().st_size > MAX_BYTES:
        raise ImageError("too-large", f"over {MAX_BYTES} bytes")
    return make(path.read_bytes())


def _finished(file: ImageFile, made: Future[Made], rejects: list[Reject]) -> Iterator[tuple[ImageFile, Made]]:
    try:
        yield file, made.result()
    except ImageError as error:
        rejects.append(Reject(file.path, error.reason, str(error)))
    except OSError as error:
        rejects.append(Reject(file.path, "unreadable", error.strerror or str(error)))


def by_reason(rejects: Sequence[Reject]) -> dict[str, int]:
    """Counts rejects by reason, in the order of their names."""
    return dict(sorted(Counter(reject.reason for reject in rejects).items()))


def readable(path: str | Path) -> str:
    """Turns any path into plain text, reversibly: bytes that are not UTF-8, control characters and "%" become %XX."""
    return "".join(_escaped(char) for char in str(path))


def _escaped(char: str) -> str:
    if char == "%" or ord(char) < 32 or 0xDC80 <= ord(char) <= 0xDCFF:
        return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
    return char
