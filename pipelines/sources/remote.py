"""An open file in a bucket: seekable, read in blocks, the next one fetched while this one is used."""

import io
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from io import BufferedReader
from typing import Any

from manifests import files
from tokenizer.listing import readable
from visent.errors import UserError

SMALLEST, LARGEST = 1 << 18, 1 << 23  # bytes of a block: the first after a jump, and of a file read front to back
FETCHERS = 16  # blocks of all open files under way at once

_starting = threading.Lock()
_pools: list[ThreadPoolExecutor] = []


def open_url(url: str) -> BufferedReader:
    """Opens a file in a bucket for reading; it holds at most three blocks of memory, however large it is.

    Raises:
        FileNotFoundError: there is no such file.
    """
    size, version = files.entry_of(url)
    if size is None:
        raise IsADirectoryError(21, "Is a directory", url)
    return io.BufferedReader(_Remote(url, size, version), 1 << 16)


def fetchers() -> ThreadPoolExecutor:
    """Returns the process's threads that wait for buckets."""
    with _starting:
        if not _pools:
            _pools.append(ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch"))
        return _pools[0]


class _Remote(io.RawIOBase):
    """Reads by ranges, each retried. A failing bucket ends the job with one line, as no file of it is to blame.

    A file that is written anew while it is read would come out as a mixture of both: the next block notices that.
    """

    def __init__(self, url: str, size: int, version: str) -> None:
        self.name = files.name(url)  # FFmpeg looks at its ending
        self._url, self._size, self._version = url, size, version
        self._at = self._start = 0  # of the next byte, of the block
        self._block = b""
        self._length = SMALLEST
        self._failed = False
        self._ahead: tuple[int, Future[bytes]] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(22, "Invalid argument")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size or not len(buffer) or self._failed:
            return 0
        if not self._start <= self._at < self._start + len(self._block):
            self._failed = True  # FFmpeg reads on after an error; of two, PyAV prints one and raises the other
            self._load()
            self._failed = False
        offset = self._at - self._start
        piece = memoryview(self._block)[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _load(self) -> None:
        """Brings the block that begins at the next byte, and asks for the one after it."""
        follows = self._at == self._start + len(self._block)
        self._length = min(2 * self._length, LARGEST) if follows and self._block else SMALLEST
        if self._ahead and self._ahead[0] == self._at:
            block = self._ahead[1].result()
        else:
            block = self._fetch(self._at, self._length)
        self._start, self._block, self._ahead = self._at, block, None
        after = self._at + len(block)
        if follows and after < self._size:
            self._ahead = after, fetchers().submit(self._fetch, after, min(2 * self._length, LARGEST))

    def _fetch(self, start: int, length: int) -> bytes:
        end = min(start + length, self._size)
        try:
            (block,) = files.read_ranges(self._url, [(start, end)])
        except FileNotFoundError as error:
            raise self._changed() from error
        if len(block) != end - start or (len(block) < self._size and self._is_another()):
            raise self._changed()
        return bytes(block)

    def _is_another(self) -> bool:
        try:
            return files.entry_of(self._url)[1] != self._version
        except FileNotFoundError:
            return True

    def _changed(self) -> UserError:
        return UserError(
            f"{readable(self._url)} was changed while it was read; leave a job's input as it is, then run the same "
            "command again"
        )
