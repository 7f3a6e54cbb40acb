"""Files at URLs, through fsspec: every call has a time-out, is tried again after a pause, and what is short is noticed.

A file is put whole or not at all: object stores show an object when its upload ended, elsewhere it is renamed.
"""

import base64
import hashlib
import logging
import random
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds, half as long to half as long again, before a call is tried once more
CONNECT_SECONDS, READ_SECONDS = 30, 60  # without an answer, or without a further byte of one
PATIENCE_SECONDS = 120.0  # no further try later than this: clients try several times by themselves, too
SILENT_SECONDS = 10.0  # after this, a call that is tried again is spoken of
RENAMED = ("file", "local", "sftp", "ssh", "smb", "hdfs", "webhdfs", "arrow_hdfs", "dbfs", "ftp")  # no object stores
_CLIENTS = ("gcsfs", "s3fs", "aiohttp", "aiobotocore", "botocore", "requests", "urllib3", "google", "adlfs", "azure")
_AGAIN = {408, 429, *range(500, 600)}
_log = logging.getLogger(__name__)


def is_url(path: object) -> bool:
    """Tells whether a path needs fsspec (`gs://...`, `s3://...`, `memory://...`)."""
    return "://" in str(path)


class StorageError(OSError):
    """A call failed for good; its text says how often it was tried."""


class ShortError(OSError):
    """Fewer, more or other bytes arrived than the file has."""


def filesystem(url: str) -> tuple[Any, str]:
    """Returns the file system of a URL and the path in it.

    Raises:
        StorageError: nothing installed knows such URLs, or they are no URLs at all.
    """
    import fsspec

    options = {scheme: _options(scheme) for scheme in set(re.findall(r"(\w+)://", url))}
    try:
        system, path = fsspec.core.url_to_fs(url, **{scheme: found for scheme, found in options.items() if found})
    except (ImportError, ValueError) as error:
        raise StorageError(_first_line(error)) from error
    return system, path


def _options(scheme: str) -> dict[str, Any]:
    """Time-outs, and no listings kept: others write there, too."""
    if scheme in ("gs", "gcs"):
        import aiohttp

        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs tracebacks of the errors that it raises
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        return {"requests_timeout": limits, "use_listings_cache": False}
    if scheme in ("s3", "s3a"):
        waits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
        return {"config_kwargs": waits, "use_listings_cache": False}
    return {}


def patiently(call: Callable[[], Result]) -> Result:
    """Returns what a call of a file system does, after further tries where networks or servers fail it.

    Raises:
        FileNotFoundError: nothing is there.
        StorageError: it failed for good, or every time.
    """
    began = time.monotonic()
    for tried, pause in enumerate((*PAUSES, None), start=1):
        try:
            return call()
        except FileNotFoundError:
            raise
        except Exception as error:
            if not _of_storage(error):
                raise
            if pause is None or not _passes(error) or time.monotonic() - began > PATIENCE_SECONDS:
                often = f", {tried} times in a row" if tried > 1 else ""
                raise StorageError(f"{_first_line(error)}{often}") from error
            if time.monotonic() - began > SILENT_SECONDS:
                _log.warning("storage does not answer, trying again: %s", _first_line(error))
        time.sleep(pause * random.uniform(0.5, 1.5))  # so that workers do not come back all at once
    raise AssertionError("unreachable")


def _of_storage(error: Exception) -> bool:
    """Tells an error of storage from one of the program; each client has some that are no `OSError`."""
    return isinstance(error, OSError) or any(kind.__module__.split(".")[0] in _CLIENTS for kind in type(error).__mro__)


def _passes(error: Exception) -> bool:
    """Tells whether another try may help."""
    if isinstance(error, (StorageError, PermissionError, IsADirectoryError, NotADirectoryError)):
        return False
    code = getattr(error, "code", None) or getattr(error, "status", None)  # of gcsfs and aiohttp
    if isinstance(code, (int, str)) and str(code).isdecimal():
        return int(code) in _AGAIN
    return not str(error).startswith("Forbidden") and "Credentials" not in type(error).__name__


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def info(url: str) -> dict[str, Any]:
    """Returns what the file system says of a file or folder; `size` and `type` are always there.

    Raises:
        FileNotFoundError: nothing is there.
        StorageError: it cannot be asked.
    """
    system, path = filesystem(url)
    found: dict[str, Any] = patiently(lambda: _fresh(system, path).info(path))
    return found


def entries(folder: str) -> list[dict[str, Any]]:
    """Returns what the file system says of each file and folder in a folder, by one listing.

    Raises:
        FileNotFoundError: nothing is there.
        StorageError: it cannot be asked.
    """
    system, path = filesystem(folder)
    found = patiently(lambda: _fresh(system, path).ls(path, detail=True))
    return [
        entry for entry in found if entry["name"].strip("/") != path.strip("/")
    ]  # stores mark folders by themselves


def find(url: str, depth: int | None = None) -> list[str] | None:
    """Returns the names of all files below a folder, `[""]` of a file, None where nothing is.

    `depth` 1 looks for files right in the folder, 2 for those in folders of it, too.

    Raises:
        StorageError: it cannot be asked.
    """
    try:
        kind = info(url)["type"]
    except FileNotFoundError:
        return None
    if kind == "file":
        return [""]
    system, path = filesystem(url)
    found = patiently(lambda: _fresh(system, path).find(path, maxdepth=depth))
    root = path.strip("/") + "/"
    return sorted(name.strip("/").removeprefix(root) for name in found if name.strip("/").startswith(root))


def _fresh(system: Any, path: str) -> Any:
    system.invalidate_cache(path)  # others write there, too
    return system


def read(url: str, size: int | None = None) -> bytes:
    """Returns the content of a file, which has `size` bytes where that is known; else that is asked for.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: it cannot be read.
    """
    system, path = filesystem(url)
    expected = size

    def once() -> bytes:
        nonlocal expected
        wanted, expected = _size(system, path) if expected is None else expected, None  # it may have changed meanwhile
        return _whole(system.cat_file(path), wanted)

    return patiently(once)


def _file_info(system: Any, path: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _fresh(system, path).info(path)
    if found["type"] != "file":
        raise IsADirectoryError(f"{path} is a folder")
    return found


def _size(system: Any, path: str) -> int:
    return int(_file_info(system, path)["size"] or 0)


def _whole(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ShortError(f"{len(data):,} of {size:,} bytes arrived")
    return bytes(data)


def read_many(folder: str, names: Sequence[str], sizes: Sequence[int | None]) -> list[bytes | None]:
    """Returns the content of many small files of a folder, asked for at once; None for those that are not there.

    Raises:
        StorageError: one cannot be read.
    """
    system, path = filesystem(folder)
    paths = [f"{path.rstrip('/')}/{name}" for name in names]
    found = system.cat_ranges(paths, [None] * len(paths), [None] * len(paths), on_error="return") if paths else []
    urls = (f"{folder.rstrip('/')}/{name}" for name in names)
    return [_again(url, size, part) for url, size, part in zip(urls, sizes, found, strict=True)]


def _again(url: str, size: int | None, found: bytes | Exception) -> bytes | None:
    """Returns what was read at once, or reads it by itself where that failed or its size says that it is not whole."""
    if not isinstance(found, Exception) and len(found) == size:
        return bytes(found)
    if isinstance(found, FileNotFoundError):
        return None
    try:
        return read(url)
    except FileNotFoundError:
        return None


def read_ranges(url: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Returns the bytes from `start` up to `end` of each range, asked for at once; those beyond its end are short.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: it cannot be read.
    """
    system, path = filesystem(url)
    starts, ends = [start for start, _ in ranges], [end for _, end in ranges]

    def once() -> list[bytes]:
        found = system.cat_ranges([path] * len(ranges), starts, ends, on_error="return")
        wanted = [end - start for start, end in ranges]
        if any(isinstance(part, Exception) or len(part) != length for part, length in zip(found, wanted, strict=True)):
            total = _size(system, path)
            wanted = [max(0, min(end, total) - start) for start, end in ranges]
        return [_part(part, length) for part, length in zip(found, wanted, strict=True)]

    return patiently(once) if ranges else []


def _part(found: bytes | Exception, length: int) -> bytes:
    if length == 0:  # stores answer differently to what lies beyond the end
        return b""
    if isinstance(found, Exception):
        raise found
    return _whole(found, length)


def fetch(url: str, local: str) -> None:
    """Copies a file to this machine; its size, and its md5 where the store knows it, are compared.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: it cannot be read, or not be written here.
    """
    system, path = filesystem(url)

    def once() -> None:
        told = _file_info(system, path)
        system.get_file(path, local)
        _compare(local, told)

    patiently(once)


def _compare(local: str, told: Mapping[str, Any]) -> None:
    """Compares a copy with what its store says of the file; the web may not say how large one is."""
    size, md5 = told["size"], told.get("md5Hash")  # of Google Cloud Storage, in base 64
    with open(local, "rb") as file:  # noqa: PTH123 - as fsspec names it
        arrived = file.seek(0, 2)
        if size is not None and arrived != size:
            raise ShortError(f"{arrived:,} of {size:,} bytes arrived")
        file.seek(0)
        if md5 and base64.b64decode(md5) != hashlib.file_digest(file, _md5).digest():
            raise ShortError(f"it came with other bytes than its md5 {md5} says")


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


def put(local: str, url: str) -> None:
    """Copies a file of this machine to a URL, where it appears whole or not at all; one that is there is replaced.

    Raises:
        StorageError: it cannot be written, or the bucket is not there.
    """
    system, path = filesystem(url)
    protocols = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
    renamed = not protocols.isdisjoint(RENAMED)
    folder, _, last = path.rpartition("/")
    target = f"{folder}/.tmp-{uuid.uuid4().hex[:12]}-{last}" if renamed else path
    with open(local, "rb") as file:  # noqa: PTH123
        size = file.seek(0, 2)

    def once() -> None:
        if renamed:
            system.makedirs(folder, exist_ok=True)
        system.put_file(local, target, **({"consistency": "md5"} if "gs" in protocols else {}))
        if (arrived := _size(system, target)) != size:
            raise ShortError(f"{arrived:,} of {size:,} bytes arrived")
        if renamed:
            system.mv(target, path)

    try:
        patiently(once)
    except FileNotFoundError as error:
        raise StorageError(f"there is no bucket or folder to put it in: {folder}") from error


def remove(url: str) -> None:
    """Removes a file, or a folder with all that is in it; nothing where nothing is.

    Raises:
        StorageError: it cannot be removed.
    """
    system, path = filesystem(url)

    def once() -> None:
        if _fresh(system, path).info(path)["type"] == "file":
            system.rm_file(path)
        else:
            system.rm(path, recursive=True)

    try:
        patiently(once)
    except FileNotFoundError:
        return


def copy(source: str, target: str) -> None:
    """Copies a file within one place, over what was there.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: it cannot be written.
    """
    (system, path), (_, other) = filesystem(source), filesystem(target)
    patiently(lambda: system.cp_file(path, other))
