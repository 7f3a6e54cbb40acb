"""All access to files: local paths through pathlib, URLs such as `gs://bucket/x` through `visent.storage`.

A file that a reader accepts is always whole: it is written under a temporary name (`.tmp-...` in the same folder) and
renamed when it is complete and on the disk. Object stores show an object only when its upload ended, so there the
temporary file is local.
"""

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from manifests import canonical
from visent import storage
from visent.errors import UserError
from visent.storage import is_url
from visent.untrusted.documents import parse_json

TEMPORARY = ".tmp-"
_BLOCK = 1 << 20


def join(base: str | Path, *parts: str) -> str:
    """Joins path parts; an absolute path or URL among `parts` replaces what stands before it."""
    result = str(base)
    for part in parts:
        absolute = is_url(part) or Path(part).is_absolute()
        result = part if absolute else f"{result.rstrip('/')}/{part}" if is_url(result) else str(Path(result) / part)
    return result


def name(path: str | Path) -> str:
    """Returns the last part of a path or URL."""
    return str(path).rstrip("/").rsplit("/", 1)[-1]


def parent(path: str | Path) -> str:
    """Returns the folder of a path or URL."""
    return str(path).rstrip("/").rsplit("/", 1)[0] if is_url(path) else str(Path(path).parent)


def relative(path: str, folder: str) -> str:
    """Returns `path` as seen from `folder`; a URL, or a local path seen from a URL, stays absolute."""
    if is_url(path):
        return path
    absolute = Path(path).resolve()
    return str(absolute) if is_url(folder) else os.path.relpath(absolute, Path(folder).resolve())


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Says of storage that fails for good what a user can do."""
    try:
        yield
    except storage.StorageError as error:
        raise UserError(
            f"cannot read {path}: {error}; check the URL, the network and your access to it, then run the same "
            "command again"
        ) from error


def exists(path: str | Path) -> bool:
    """Tells whether a file or folder is there.

    Raises:
        UserError: the bucket cannot be asked.
    """
    if not is_url(path):
        return Path(path).exists()
    try:
        with _reading(path):
            storage.info(str(path))
    except FileNotFoundError:
        return False
    return True


def list_names(folder: str | Path) -> list[str]:
    """Returns the sorted names in a folder without temporary files; an absent folder is empty.

    Raises:
        UserError: the bucket cannot be asked.
    """
    if is_url(folder):
        with suppress(FileNotFoundError):
            return sorted(entry for entry in list_entries(folder) if not entry.startswith(TEMPORARY))
        return []
    names = [entry.name for entry in Path(folder).iterdir()] if Path(folder).is_dir() else []
    return sorted(entry for entry in names if not entry.startswith(TEMPORARY))


def list_sizes(folder: str | Path) -> dict[str, int]:
    """Returns the bytes of every file in a folder by its name, of a bucket with one listing; no temporary files.

    An absent folder is empty.

    Raises:
        UserError: the bucket cannot be asked.
    """
    sizes: dict[str, int] = {}
    if is_url(folder):
        with suppress(FileNotFoundError):
            sizes = {entry: size for entry, size in list_entries(folder).items() if size is not None}
    else:
        with os.scandir(folder) if Path(folder).is_dir() else nullcontext(()) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    return {entry: sizes[entry] for entry in sorted(sizes) if not entry.startswith(TEMPORARY)}


def list_entries(folder: str | Path) -> dict[str, int | None]:
    """Returns what lies in a folder of a bucket, with one listing: the bytes of each file by name, None for a folder.

    Raises:
        FileNotFoundError: nothing is there.
        UserError: the bucket cannot be asked.
    """
    with _reading(folder):
        found = storage.entries(str(folder))
    return {name(entry["name"]): int(entry["size"] or 0) if entry["type"] == "file" else None for entry in found}


def entry_of(path: str | Path) -> tuple[int | None, str]:
    """Returns the bytes of a file in a bucket (None for a folder), and text that is another once it was changed.

    Raises:
        FileNotFoundError: nothing is there.
        UserError: the bucket cannot be asked.
    """
    with _reading(path):
        entry = storage.info(str(path))
    version = hashlib.sha256(str(sorted(entry.items(), key=str)).encode()).hexdigest()
    return (int(entry["size"] or 0), version) if entry["type"] == "file" else (None, "")


def read_many(folder: str | Path, names: Sequence[str], sizes: Mapping[str, int] | None = None) -> list[bytes | None]:
    """Returns the content of many small files of one folder, None for those that are not there.

    Of a bucket, many are asked for at once; `sizes` (of `list_sizes`) spares asking for each one's size.

    Raises:
        UserError: one cannot be read.
    """
    if not is_url(folder):
        return [_read_if_there(f"{folder}/{entry}") for entry in names]
    known = list_sizes(folder) if sizes is None else sizes
    with _reading(folder):
        return storage.read_many(str(folder), names, [known.get(entry) for entry in names])


def _read_if_there(path: str | Path) -> bytes | None:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        return None


def make_folder(folder: str | Path) -> None:
    """Makes a folder and its parents; object stores have none to make.

    Raises:
        UserError: the folder cannot be made.
    """
    if is_url(folder):
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make folder {folder}: {error.strerror}; choose a folder you may write to") from error


def read_bytes(path: str | Path, size: int | None = None) -> bytes:
    """Returns the content of a file; `size` spares asking for that of one in a bucket.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, or is a folder.
    """
    if is_url(path):
        with _reading(path):
            return storage.read(str(path), size)
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - twice as fast as a Path, and there may be 100,000
            return file.read()
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:  # a part of the path is a file: all the same, nothing is there
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}; expected a file that you may read: name another"
        ) from error


def read_ranges(path: str | Path, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Returns the bytes from `start` up to `end` of each range of a file; of a URL, all are asked for at once.

    A range beyond the file's end comes back shorter.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if is_url(path):
        with _reading(path):
            return storage.read_ranges(str(path), ranges)
    with Path(path).open("rb") as file:
        return [os.pread(file.fileno(), end - start, start) for start, end in ranges]


def read_json(path: str | Path) -> Any:
    """Returns the JSON value in a file.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file is not JSON.
    """
    try:
        return parse_json(read_bytes(path))
    except ValueError as error:
        raise UserError(
            f"{path} is not valid JSON ({error}): it was changed by hand or damaged; remove it and run "
            "the command that wrote it again"
        ) from error


def stamp(path: str | Path) -> tuple[int, int]:
    """Returns (bytes, time of last change in ns; 0 for URLs), to notice a changed file without reading it.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be asked for.
    """
    if is_url(path):
        with _reading(path):
            return int(storage.info(str(path))["size"] or 0), 0
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:  # a part of the path is a file: all the same, nothing is there
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {str(path)[:200]!r}: {error}; name another file") from error
    return status.st_size, status.st_mtime_ns


def sha256(path: str | Path) -> str:
    """Returns the hexadecimal sha256 of a file's content."""
    digest = hashlib.sha256()
    with local_copy(path) as local, Path(local).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def local_copy(path: str | Path) -> Iterator[str]:
    """Gives a local file with the content of `path`: the file itself, or a download that is removed afterwards."""
    if not is_url(path):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="visent-") as folder:
        local = str(Path(folder) / name(path))
        with _reading(path):
            storage.fetch(str(path), local)
        yield local


def temporary_for(path: str | Path) -> str:
    """Returns a fresh local name to write `path` under before `publish`."""
    folder = tempfile.gettempdir() if is_url(path) else parent(path)
    return str(Path(folder) / f"{TEMPORARY}{uuid.uuid4().hex[:12]}-{name(path)}")


def publish(temporary: str, path: str | Path) -> None:
    """Makes a finished temporary file visible as `path`: flushed to the disk, then renamed (or uploaded).

    Raises:
        OSError: the disk is full or the target cannot be written; `path` is then untouched, or whole and new where a
            bucket's answer was lost.
    """
    if is_url(path):
        storage.put(temporary, str(path))
        Path(temporary).unlink()
        return
    _flush(temporary)
    Path(temporary).replace(path)
    _flush(parent(path))


def _flush(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def discard(temporary: str) -> None:
    """Removes a temporary file if it is there."""
    with suppress(OSError):
        Path(temporary).unlink()


def remove(path: str | Path) -> None:
    """Removes a file if it is there, or a folder with all that is in it.

    Raises:
        UserError: it cannot be removed.
    """
    try:
        if is_url(path):
            storage.remove(str(path))
        elif Path(path).is_dir():
            shutil.rmtree(path)
        else:
            Path(path).unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot remove {path}: {reason}; remove it yourself, then run the command again") from error


def move(source: str | Path, target: str | Path) -> None:
    """Renames a file within one disk or bucket, over what was there; a bucket copies, then removes the first.

    Raises:
        UserError: the target cannot be written; both are then as they were.
    """
    try:
        if not is_url(source):
            Path(source).replace(target)
            _flush(parent(target))
            return
        storage.copy(str(source), str(target))
        remove(source)
    except OSError as error:
        raise cannot_write(target, error) from error


@contextmanager
def writing(path: str | Path) -> Iterator[str]:
    """Gives a temporary local name to write a large file under; it becomes `path` when the block ends well.

    Raises:
        UserError: the target cannot be written (full disk, no permission); `path` is then untouched.
    """
    temporary = temporary_for(path)
    try:
        yield temporary
        publish(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        discard(temporary)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a whole file atomically: readers see the old content or the new, never a part.

    Raises:
        UserError: the target cannot be written (full disk, no permission).
    """
    with writing(path) as temporary:
        Path(temporary).write_bytes(data)


def write_json(path: str | Path, value: Any) -> None:
    """Writes a JSON file atomically, indented, keys in the order given; see `canonical.indented`."""
    write_bytes(path, (canonical.indented(value) + "\n").encode())


def cannot_write(path: str | Path, error: OSError) -> UserError:
    """Describes a failed write with its reason and the fix."""
    reason = error.strerror or str(error)
    return UserError(
        f"cannot write {path}: {reason}; nothing half-written was left: make room or choose another "
        "target, then run the same command again"
    )


def remove_temporaries(folder: str | Path) -> int:
    """Removes what killed processes left in a local folder; returns how many files.

    Call it before work starts, never while another process writes to the folder.
    """
    if is_url(folder) or not Path(folder).is_dir():
        return 0
    left = list(Path(folder).glob(f"{TEMPORARY}*"))
    for file in left:
        discard(str(file))
    return len(left)
