"""Codes that a model generated for the cases of a part, in files of some samples each."""

import io
import sys
import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt16

from manifests import files
from visent.errors import UserError
from visent.untrusted.arrays import read_array

CHUNK = 64  # samples of a file: what a kill costs at most, on each host


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Codes generated for every case, in files that any host can read."""

    folder: str
    count: int
    new_tokens: int
    codebook_size: int
    seconds: float = 0.0  # that generating took this time, on this host

    def __len__(self) -> int:
        return self.count

    def read(self, numbers: Int64[np.ndarray, " m"]) -> UInt16[np.ndarray, "m new"]:
        """Returns the codes of samples by number.

        Raises:
            UserError: a file is missing or damaged.
        """
        result = np.empty((len(numbers), self.new_tokens), np.uint16)
        for chunk in np.unique(numbers // CHUNK).tolist():
            here = numbers // CHUNK == chunk
            result[here] = self._read_chunk(chunk)[numbers[here] % CHUNK]
        return result

    @property
    def chunks(self) -> range:
        """The numbers of the files."""
        return range(-(-self.count // CHUNK))

    def numbers(self, chunk: int) -> Int64[np.ndarray, " m"]:
        """Returns the numbers of the samples in a file."""
        return np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, self.count))

    def path(self, chunk: int) -> str:
        """Returns the name of a file."""
        return files.join(self.folder, f"{chunk:05d}.npy")

    def write_chunk(self, chunk: int, codes: UInt16[np.ndarray, "m new"]) -> None:
        """Writes a whole file at once: a `.npy`, then four bytes of checksum, where numpy does not look."""
        data = io.BytesIO()
        np.lib.format.write_array(data, np.ascontiguousarray(codes), version=(1, 0), allow_pickle=False)
        files.write_bytes(self.path(chunk), data.getvalue() + _checksum(data.getvalue()))

    def missing(self) -> list[int]:
        """Returns which files are not there, or not whole; says so of the latter."""
        names, found = set(files.list_names(self.folder)), []
        for chunk in self.chunks:
            if files.name(self.path(chunk)) not in names:
                found.append(chunk)
                continue
            try:
                self._read_chunk(chunk)
            except UserError as error:
                print(f"{error}; it is made again", file=sys.stderr, flush=True)
                found.append(chunk)
        return found

    def _read_chunk(self, chunk: int) -> UInt16[np.ndarray, "m new"]:
        path = self.path(chunk)
        shape = (len(self.numbers(chunk)), self.new_tokens)
        try:
            data = files.read_bytes(path)
            codes = read_array(io.BytesIO(data), 2 * shape[0] * shape[1])
        except FileNotFoundError as error:
            raise UserError(f"samples {path} are missing: run the same command again, it makes them") from error
        except ValueError as error:
            raise UserError(f"samples {path} are damaged: {error}") from error
        if _checksum(data[:-4]) != data[-4:]:
            raise UserError(f"samples {path} are damaged: their checksum is another")
        if codes.shape != shape or codes.dtype != np.uint16:
            raise UserError(f"samples {path} are damaged: {codes.dtype}{codes.shape}, expected uint16{shape}")
        if codes.size and codes.max() >= self.codebook_size:
            raise UserError(f"samples {path} are damaged: code {codes.max()} of {self.codebook_size}")
        return codes


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")
