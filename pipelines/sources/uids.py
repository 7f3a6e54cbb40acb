"""Lists of DataComp's uids: 32 hex digits each, stored as two unsigned 64-bit halves, the first digits first.

https://github.com/mlfoundations/datacomp (resharder.py): a `.npy` file of dtype "u8,u8", or the same without header.
"""

from collections.abc import Sequence
from io import BufferedIOBase

import numpy as np
from jaxtyping import Bool, Shaped
from numpy.lib import format as npy

from pipelines.sources import places
from visent.errors import UserError

HALVES = np.dtype([("f0", "<u8"), ("f1", "<u8")])
_MAGIC = b"\x93NUMPY"
_AT_ONCE = 1 << 22

Uids = Shaped[np.ndarray, " n"]  # of dtype HALVES


def read_uids(path: str) -> Uids:
    """Opens a list of uids, in place where it is sorted, as the publisher's are; else sorted in memory.

    Raises: `UserError` when the file is missing or is none.
    """
    try:
        with places.at_hand(path) as file:
            found = _mapped(file)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"--uids {path} cannot be read as a list of uids: {error}") from error
    if found.ndim != 1 or found.dtype != HALVES:
        raise UserError(f"--uids {path} holds {found.dtype} of shape {found.shape}, expected a list of dtype u8,u8")
    return found if _is_sorted(found) else np.sort(found)


def _mapped(file: BufferedIOBase) -> np.ndarray:
    """Maps a file that lies on a disk, with or without a header."""
    file.seek(0)
    if file.read(len(_MAGIC)) != _MAGIC:
        return np.memmap(file, HALVES, "r")  # type: ignore[call-overload, no-any-return]
    file.seek(0)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, _, kind = read_header[npy.read_magic(file)](file)
    return np.memmap(file, kind, "r", offset=file.tell(), shape=shape)  # type: ignore[call-overload, no-any-return]


def halves(uids: Sequence[str]) -> Uids:
    """Splits uids in hex into halves, in their order; shorter ones are filled with zeros on the left.

    Raises: `UserError` for text that is no uid.
    """
    try:
        joined = bytes.fromhex("".join(uid.rjust(32, "0") for uid in uids))
    except ValueError:
        joined = b""
    if len(joined) != 16 * len(uids):
        wrong = next(uid for uid in uids if len(uid) > 32 or not set(uid) <= set("0123456789abcdefABCDEF"))
        raise UserError(f"uid {wrong!r} is none: expected 32 hex digits")
    return np.frombuffer(joined, ">u8").astype("<u8").view(HALVES)


def held(uids: Uids, wanted: Shaped[np.ndarray, " k"]) -> Bool[np.ndarray, " k"]:
    """Says for each of `wanted` whether the sorted list holds it."""
    if not len(uids):
        return np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(uids, wanted), len(uids) - 1)
    same: np.ndarray = uids[at] == wanted
    return same


def count_different(uids: Uids) -> int:
    """Counts the uids of a sorted list, each once."""
    return sum(
        int(np.count_nonzero(uids[at + 1 : at + 1 + _AT_ONCE] != uids[at : at + _AT_ONCE][: len(uids) - 1 - at]))
        for at in range(0, len(uids) - 1, _AT_ONCE)
    ) + bool(len(uids))


def _is_sorted(uids: Uids) -> bool:
    for at in range(0, len(uids) - 1, _AT_ONCE):
        part = uids[at : at + _AT_ONCE + 1]
        first, last = part["f0"], part["f1"]
        if np.any((first[1:] < first[:-1]) | ((first[1:] == first[:-1]) & (last[1:] < last[:-1]))):
            return False
    return True
