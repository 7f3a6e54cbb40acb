"""Files that sources read, on disks and in buckets: what tells a local path from a URL of fsspec (`gs://...`).

Local paths go to the operating system as the text they are, so that names which are not UTF-8 work, and no faster way
is lost. Of a bucket, a folder is listed once while a listing lasts (`remembering`), since each question takes 30 ms.
"""

import os
import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import TypeVar

from manifests import files
from pipelines.sources.remote import open_url
from tokenizer.listing import readable
from visent.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
Entries = dict[str, int | None]  # name -> bytes, None for a folder

AT_ONCE = 16  # small files asked for at the same time
KEPT = 8  # files of annotations of which a process keeps a copy

is_url = files.is_url
_changing = threading.Lock()
_remembered: dict[str, Entries | None] = {}
_lasting: list[str] = []  # the roots of the listings under way
_copies: "OrderedDict[str, BufferedIOBase]" = OrderedDict()


def below(root: str, *parts: str) -> str:
    """Joins paths as text, which keeps names that are not UTF-8 as they are; below a URL nothing is absolute."""
    if not is_url(root):
        return os.path.join(root, *parts)  # noqa: PTH118
    names = [name for part in parts for name in part.split("/") if name not in ("", ".")]
    return "/".join([root.rstrip("/") if names else root, *names])


def absolute(path: str) -> str:
    """Returns a path that means the same from any folder; a URL does, and loses a slash at its end."""
    return path.rstrip("/") if is_url(path) else str(Path(path).absolute())


def exists(path: str) -> bool:
    """Says whether there is a file or a folder."""
    return _kind(path) != "" if is_url(path) else os.path.exists(path)  # noqa: PTH110


def is_folder(path: str) -> bool:
    """Says whether there is a folder; in a bucket, anything whose name goes on behind a slash."""
    return _kind(path) == "folder" if is_url(path) else os.path.isdir(path)  # noqa: PTH112


def is_file(path: str) -> bool:
    """Says whether there is a file."""
    return _kind(path) == "file" if is_url(path) else os.path.isfile(path)  # noqa: PTH113


def size_of(path: str) -> int:
    """Returns the bytes of a file; they count as listed, so that one fetched again is noticed.

    Raises:
        OSError: there is no such file.
    """
    if not is_url(path):
        return os.stat(path).st_size  # noqa: PTH116
    size = _entry(path)
    if size is None:
        raise IsADirectoryError(21, "Is a directory", path)
    return size


def names_in(folder: str) -> list[str]:
    """Returns the names in a folder, sorted.

    Raises:
        OSError: it is not there, or cannot be listed.
    """
    return sorted(_listed(folder) if is_url(folder) else os.listdir(folder))  # noqa: PTH208 - names stay text


def folders_in(folder: str) -> list[str]:
    """Returns the names of the folders in a folder, sorted, hidden ones left out.

    Raises:
        OSError: it is not there, or cannot be listed.
    """
    if is_url(folder):
        found = [name for name, size in _listed(folder).items() if size is None]
    else:
        found = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    return sorted(name for name in found if not name.startswith("."))


def walk(root: str) -> Iterator[str]:
    """Yields the path below `root` of every file, hidden ones left out, in sorted order; follows links to folders.

    Raises: `UserError` for a folder that cannot be listed: leaving it out would be a silent gap.
    """
    if is_url(root):
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="list") as pool:
            yield from _walk_url(root, "", _listed(root), pool)
        return
    seen: set[tuple[int, int]] = set()

    def fail(error: OSError) -> None:
        raise UserError(f"cannot list {readable(str(error.filename))}: {error.strerror}; make it readable")

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


def _walk_url(root: str, folder: str, entries: Entries, pool: ThreadPoolExecutor) -> Iterator[str]:
    """Yields a folder's files, then those of its folders, which are listed ahead."""
    shown = sorted(name for name in entries if name and not name.startswith("."))
    yield from (f"{folder}{name}" for name in shown if entries[name] is not None)
    folders = [f"{folder}{name}" for name in shown if entries[name] is None]
    ahead = _ahead(lambda inner: _listed(below(root, inner)), folders, pool)
    for inner, found in zip(folders, ahead, strict=True):
        yield from _walk_url(root, f"{inner}/", found, pool)


def read(path: str, size: int | None = None) -> bytes:
    """Returns the content of a file, which has `size` bytes where that is known.

    Raises:
        OSError: it is not there, or cannot be read.
        UserError: the bucket fails.
    """
    return files.read_bytes(path, size) if is_url(path) else Path(path).read_bytes()


def open_file(path: str) -> BufferedReader:
    """Opens a file for reading; in a bucket it is read in blocks, ahead of use and with bounded memory.

    Raises:
        OSError: it is not there, or cannot be read.
        UserError: the bucket fails, here or while it is read.
    """
    return open_url(path) if is_url(path) else open(path, "rb")  # noqa: PTH123


@contextmanager
def openable(path: str) -> Iterator[str | BufferedIOBase]:
    """Gives what libraries that read parts of a file take: a local path itself, or a file in a bucket, open.

    Raises:
        OSError: a file in a bucket is not there.
    """
    if not is_url(path):
        yield path
        return
    with open_url(path) as file:
        yield file


@contextmanager
def local_file(path: str) -> Iterator[str]:
    """Gives a local file for libraries that need one: the file itself, or a copy that is removed afterwards.

    Raises:
        OSError: it is not there.
    """
    with files.local_copy(path) as local:
        yield local


@contextmanager
def at_hand(path: str) -> Iterator[BufferedIOBase]:
    """Gives a local file to read from at many places (os.pread): of a URL, a copy that the process keeps.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    if not is_url(path):
        with open(path, "rb") as local:  # noqa: PTH123
            yield local
        return
    with _changing:  # many threads ask for the same one
        if path not in _copies:
            _copies[path] = _copy(path)
        _copies.move_to_end(path)
        while len(_copies) > KEPT:
            _copies.popitem(last=False)  # closed when its last reader lets go of it
        file = _copies[path]
    yield file


def _copy(path: str) -> BufferedIOBase:
    """Copies a file into one without a name, which goes with the process however that ends."""
    copy = tempfile.TemporaryFile(prefix="visent-")  # noqa: SIM115
    with open_url(path) as remote:
        while block := remote.read(1 << 20):
            copy.write(block)
    copy.flush()
    return copy


def at_once(make: Callable[[T], R], things: Iterable[T], *roots: str) -> Iterator[R]:
    """Gives what `make` makes of each thing, in order; if a root is a bucket, `AT_ONCE` are made at the same time."""
    if not any(map(is_url, roots)):
        yield from map(make, things)
        return
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="read") as pool, closing(_ahead(make, things, pool)) as made:
        yield from made


def _ahead(make: Callable[[T], R], things: Iterable[T], pool: ThreadPoolExecutor) -> Generator[R, None, None]:
    waiting: deque[Future[R]] = deque()
    try:
        for thing in things:
            waiting.append(pool.submit(make, thing))
            if len(waiting) >= AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def remembering(root: str) -> Iterator[None]:
    """While it lasts, each folder below a URL is listed once; what others write there meanwhile is not seen."""
    with _changing:
        _lasting.append(root)
    try:
        yield
    finally:
        with _changing:
            _lasting.remove(root)
            if not _lasting:
                _remembered.clear()


def _kind(url: str) -> str:
    """Says what is there: "file", "folder" or ""."""
    try:
        return "folder" if _entry(url) is None else "file"
    except FileNotFoundError:
        return ""


def _entry(url: str) -> int | None:
    """Returns the bytes of a file and None for a folder, from the listing of the folder around it where one is made.

    Raises:
        FileNotFoundError: nothing is there.
    """
    folder, name = files.parent(url), files.name(url)
    if not any(folder == root or folder.startswith(root + "/") for root in _lasting):
        return files.entry_of(url)[0]
    entries = _listed(folder)
    if name not in entries:
        raise FileNotFoundError(2, "No such file or directory", url)
    return entries[name]


def _listed(folder: str) -> Entries:
    """Returns the entries of a folder in a bucket.

    Raises:
        FileNotFoundError: nothing is there.
    """
    folder = folder.rstrip("/")
    found = _remembered.get(folder, ())
    if found == ():
        try:
            found = files.list_entries(folder)
        except FileNotFoundError:
            found = None
        if _lasting:
            _remembered[folder] = found
    if not isinstance(found, dict):
        raise FileNotFoundError(2, "No such file or directory", folder)
    return found
