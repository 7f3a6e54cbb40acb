"""Role columns as memory-mapped files: a shard is checked and decoded once, then read at the speed of memory."""

import hashlib
import json
import os
import resource
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped, UInt16

from manifests import files, shards
from manifests.cache_limit import CacheLimit
from manifests.order import key_of
from manifests.schema import Schema
from manifests.shards import ShardInfo
from visent.errors import UserError
from visent.untrusted.documents import parse_json

MOST_OPEN = 8192  # columns mapped at once; each holds a file descriptor


def _allow_open(wanted: int) -> int:
    """Returns how many files the columns may hold open: half of what the system allows, asked to allow enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 2 * wanted if hard == resource.RLIM_INFINITY else min(2 * wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):  # a system may allow less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft // 2)


def default_cache() -> Path:
    """Returns the folder from VISENT_CACHE, else `~/.cache/visent`."""
    return Path(os.environ.get("VISENT_CACHE") or Path.home() / ".cache" / "visent").expanduser()


@dataclass(frozen=True, eq=False)
class Column:
    """One role of one shard: all its images, and where each row's begin (row i: `offsets[i]` to `offsets[i + 1]`)."""

    images: UInt16[np.ndarray, "m t"]
    offsets: Int64[np.ndarray, "n_plus_1"] | None  # None for a still role: row i is image i

    @cached_property
    def records(self) -> np.ndarray:
        """The images as one opaque value each, which is copied faster than an array of codes."""
        return as_records(self.images)


def as_records(images: UInt16[np.ndarray, "m t"]) -> np.ndarray:
    """Returns a view of images with one element for each, its bytes."""
    return images.view(np.dtype((np.void, images.shape[1] * images.itemsize)))[:, 0]


class ColumnCache:
    """Opens columns of shards, from files `<sha256>.<role>.npy` that are made when first asked for.

    `limit_bytes` is what they may take on the disk, by default as VISENT_CACHE_GB says. Threads may share a cache.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: float | None = None) -> None:
        self.folder = Path(folder) if folder is not None else default_cache()
        self._checked: set[tuple[str, str]] = set()
        self._limit = CacheLimit(self.folder, limit_bytes)
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._most_open = _allow_open(MOST_OPEN)
        self.near: dict[tuple[object, str], dict[int, Column]] = {}  # reader and role -> shard -> column
        self._open: OrderedDict[tuple[str, str], Column] = OrderedDict()  # the last used stand at the end

    def opened(self, info: ShardInfo, role: str) -> Column | None:
        """Returns a role of a shard if it is open already."""
        key = (info.sha256, role)
        found = self._open.get(key)
        if found is not None and len(self._open) > self._most_open // 2:  # else none goes for long
            with self._guard, suppress(KeyError):
                self._open.move_to_end(key)
        return found

    def column(self, path: str, info: ShardInfo, schema: Schema, role: str) -> Column:
        """Returns a role of a shard.

        Raises:
            UserError: the shard is missing, has another sha256 than the lock, or does not fit the schema; or the
                cache folder cannot be written.
        """
        images, offsets = self._file(info, role, "images"), self._file(info, role, "offsets")
        clip = schema.roles[role] == "clip"
        with self._filling(info.sha256):  # so that two threads do not decode the same shard
            if images.exists() and (offsets.exists() or not clip):
                self.check(path, info)
            else:
                self._decode(path, info, schema, role)
            with suppress(OSError):
                os.utime(images, ns=(time.time_ns(), images.stat().st_mtime_ns))  # for the limit: it was used now
            column = Column(_mapped(images, info, schema), np.load(offsets) if clip else None)
        with self._guard:
            self._open[info.sha256, role] = column
            while len(self._open) > self._most_open:
                self._open.popitem(last=False)
                self.near.clear()
        return column

    def _decode(self, path: str, info: ShardInfo, schema: Schema, role: str) -> None:
        try:
            with files.local_copy(path) as local:  # fetched once, to be checked and decoded
                self.check(path, info, local)
                codes, starts = shards.read_codes(local, schema, role)
        except FileNotFoundError as error:
            raise _missing(path) from error
        if len(starts) != info.rows + 1:
            raise UserError(f"{path} holds {len(starts) - 1} rows, its facts say {info.rows}: tokenize it again")
        self._limit.make_room(codes.nbytes)
        if schema.roles[role] == "clip":
            self._write(self._file(info, role, "offsets"), starts)
        self._write(self._file(info, role, "images"), codes)

    @contextmanager
    def _filling(self, sha256: str) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(sha256, threading.Lock())
        with lock:
            yield

    def keys(self, path: str, info: ShardInfo, schema: Schema) -> Shaped[np.ndarray, "n"]:
        """Returns the keys of a shard's examples as UTF-8, in the order of its rows (of one view: all have the same).

        Stills are compared with `keys_sha256`, so that only the column of keys is read; clips with the shard's sha256.

        Raises:
            UserError: the shard is missing or has another content than the lock says.
        """
        file = self._file(info, "", "keys")
        if file.exists():
            return np.asarray(np.load(file))
        if schema.clips:
            self.check(path, info)
        if not files.exists(path):
            raise _missing(path)
        keys = shards.read_keys(path, schema)[: info.examples]
        if not schema.clips:
            text = "".join(f"{key}\0{None}\0" for key in keys)
            found = hashlib.sha256(text.encode()).hexdigest()
            if found != info.keys_sha256:
                raise _changed(path, "keys with sha256 ", found, info.keys_sha256)
        encoded = np.array([key.encode() for key in keys], np.bytes_)
        self._write(file, encoded)
        return encoded

    def classes(self, path: str, info: ShardInfo, schema: Schema, by: str) -> Int64[np.ndarray, "n"]:
        """Returns a number for the class of each of a shard's examples: 64 bits of the hash of what its meta says.

        That is under the key `by`, or for "class" under "class_index" where a row has no class.

        Raises:
            UserError: the shard is missing, has another content than the lock says, or a row without a class.
        """
        file = self._file(info, "", f"meta-{key_of(by):x}")
        if file.exists():
            return np.asarray(np.load(file))
        try:
            with files.local_copy(path) as local:
                self.check(path, info, local)
                metas = list(islice(shards.read_metas(local, schema), info.examples))
        except FileNotFoundError as error:
            raise _missing(path) from error
        known: dict[str, int] = {}
        values = [_class(path, key, meta, by) for key, meta in metas]
        found = np.array([known.setdefault(v, key_of(v)) for v in values], np.uint64).view(np.int64)
        self._write(file, found)
        return found

    def check(self, path: str, info: ShardInfo, local: str | None = None) -> None:
        """Compares a shard with its sha256: once for each size and time of change, remembered in the cache.

        `local` is a copy of a shard that lies elsewhere.

        Raises:
            UserError: the shard is missing or has another content.
        """
        if (path, info.sha256) in self._checked:
            return
        try:
            stamp = [path, *files.stamp(path)]
        except FileNotFoundError as error:
            raise _missing(path) from error
        mark = self.folder / f"{info.sha256}.checked.json"
        if _marked(mark) != stamp:
            found = files.sha256(local or path)
            if found != info.sha256:
                raise _changed(path, "sha256 ", found, info.sha256)
            self._write(mark, json.dumps(stamp).encode())
        self._checked.add((path, info.sha256))

    def _file(self, info: ShardInfo, role: str, part: str) -> Path:
        return self.folder / f"{info.sha256}.{role}.{part}.npy"

    def _write(self, path: Path, content: np.ndarray | bytes) -> None:
        """Writes a file whole. Arrays reach the disk before they get their name: half of one would be wrong tokens."""
        files.make_folder(self.folder)
        temporary = files.temporary_for(path)
        try:
            with Path(temporary).open("wb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    np.save(file, content)
                    file.flush()
                    os.fsync(file.fileno())
            Path(temporary).replace(path)
        except OSError as error:
            raise UserError(
                f"cannot write the token cache {path}: {error.strerror}; make room, or name another folder in "
                "VISENT_CACHE"
            ) from error
        finally:
            files.discard(temporary)


def _marked(mark: Path) -> Any:
    """Returns what a mark says, or None where it says nothing."""
    try:
        return parse_json(mark.read_bytes())
    except (OSError, ValueError):
        return None


def _mapped(path: Path, info: ShardInfo, schema: Schema) -> UInt16[np.ndarray, "m t"]:
    if not info.rows:  # an empty file cannot be mapped
        return np.empty((0, schema.tokens_per_image), np.uint16)
    return np.asarray(np.load(path, mmap_mode="r"))  # a plain array: each look at a `memmap` costs a microsecond more


def _class(path: str, key: str, meta: Mapping[str, Any], by: str) -> str:
    names = (by, "class_index") if by == "class" else (by,)
    for name in names:
        if isinstance(value := meta.get(name), (str, int)):
            return str(value)
    raise UserError(
        f"{path}: row {key!r} has no {' nor '.join(names)} in its meta (it has {', '.join(meta) or 'nothing'}): group "
        "by another key, or take group out of the tasks of this dataset"
    )


def _missing(path: str) -> UserError:
    return UserError(f"shard {path} is missing: run the same `visent tokenize` again, then lock again")


def _changed(path: str, what: str, found: str, expected: str) -> UserError:
    return UserError(
        f"shard {path} changed after it was locked: {what}{found[:16]}, expected {expected[:16]}; restore it, or run "
        "`visent tokenize` and `visent manifest lock` again"
    )
