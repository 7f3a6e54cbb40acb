"""numpy's `.npy` and `.npz` files from anywhere: no pickle, and no more memory than their own bytes may ask for.

A header may state any shape and a few kilobytes of zip may hold gigabytes of zeros, so both are looked at before an
array is made. Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Collection
from io import BufferedIOBase
from typing import Any

import numpy as np

warnings.filterwarnings("ignore", message="Reading `.npy` or `.npz` file required additional header parsing")
NPY, ZIP = np.lib.format.MAGIC_PREFIX, b"PK\x03\x04"
MOST_OF_NOTHING = 1 << 20  # rows without a number in them
# What numpy and zipfile raise at bytes that are cut, changed or made up.
DAMAGE = (
    ValueError, OSError, EOFError, KeyError, IndexError, TypeError, OverflowError, SyntaxError, RuntimeError,
    MemoryError, NotImplementedError, AttributeError, struct.error, zipfile.BadZipFile, zlib.error,
    tokenize.TokenError,
)  # fmt: skip


def read_array(file: BufferedIOBase, most_bytes: int) -> np.ndarray:
    """Reads one `.npy` from its beginning.

    Raises:
        ValueError: it holds Python objects, more than `most_bytes`, or is cut or damaged.
    """
    try:
        shape, fortran, dtype = _header(file)
    except DAMAGE as error:
        raise ValueError(f"no readable header of numpy: {error}") from error
    if dtype.hasobject:
        raise ValueError("it holds pickled Python objects, which could run code and are never loaded")
    endless = 0 in shape and max(shape) > MOST_OF_NOTHING
    if any(not isinstance(side, int) or side < 0 for side in shape) or len(shape) > 32 or endless:
        raise ValueError(f"an array of shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    if size > most_bytes:
        raise ValueError(f"its header states {size:,} bytes, more than {most_bytes:,}")
    data = bytearray()
    while len(data) < size and (block := file.read(min(size - len(data), 1 << 20))):
        data += block  # grows with what is there, not with what the header says
    if len(data) < size:
        raise ValueError(f"it is truncated: {len(data):,} of the {size:,} bytes that its header states")
    try:
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    except DAMAGE as error:
        raise ValueError(f"no array of {dtype}{shape}: {error}") from error


def read_arrays(data: BufferedIOBase, names: Collection[str] | None, most_bytes: int) -> dict[str, np.ndarray]:
    """Reads arrays of a `.npz`: those of `names` that it holds, or all; together at most `most_bytes`.

    Raises:
        ValueError: as `read_array`.
    """
    try:
        with zipfile.ZipFile(data) as archive:
            found: dict[str, np.ndarray] = {}
            for entry in archive.namelist():
                name = entry.removesuffix(".npy")
                if names is None or name in names:
                    with archive.open(entry) as file:
                        found[name] = read_array(file, most_bytes)  # type: ignore[arg-type]
                    most_bytes -= found[name].nbytes
            return found
    except ValueError:
        raise
    except DAMAGE as error:
        raise ValueError(f"no readable .npz: {error}") from error


def names_in(data: BufferedIOBase) -> list[str]:
    """Returns the names of the arrays in a `.npz`.

    Raises:
        ValueError: it is none.
    """
    try:
        with zipfile.ZipFile(data) as archive:
            return [entry.removesuffix(".npy") for entry in archive.namelist()]
    except DAMAGE as error:
        raise ValueError(f"no readable .npz: {error}") from error


def _header(file: BufferedIOBase) -> tuple[tuple[Any, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"format version {version}, expected 1.0 or 2.0")
