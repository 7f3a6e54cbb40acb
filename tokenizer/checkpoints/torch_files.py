"""torch's `.bin`, `.pt` and `.ckpt` files, without torch: the zip archive of today and the stream from before 1.6."""

import io
import pickle  # nosec B403 # its error alone
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizer.checkpoints.pickles import Source, TensorView, load_pickle
from visent.errors import UserError, said

ZIP_MAGIC = b"PK\x03\x04"
OLD_MAGIC = 0x1950A86A20F9469CFC6C  # the first object of the old stream
Tree = Any  # nested mappings that end in TensorView, np.ndarray, or what a training framework left
# What pickle raises at a cut or changed stream is not only UnpicklingError.
DAMAGE = (
    pickle.UnpicklingError, EOFError, zipfile.BadZipFile, KeyError, IndexError, TypeError, ValueError, AttributeError,
    struct.error, OverflowError, UnicodeDecodeError, RuntimeError, MemoryError, OSError,
)  # fmt: skip


def read_pickled(path: Path, choose: Callable[[Tree], Mapping[str, Any]]) -> dict[str, Any]:
    """Reads a torch file or a plain pickle; `choose` picks the tensors to read from the tree of what it holds.

    Numbers are read for the chosen tensors only: the state of an optimizer costs nothing.

    Raises:
        UserError: the file is cut or damaged, or its pickle names code.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if start == ZIP_MAGIC:
            return _read_zip(path, choose)
        return _read_stream(path, choose)
    except DAMAGE as error:
        raise UserError(
            f"cannot read {path} ({path.stat().st_size:,} bytes): {type(error).__name__} {said(error)[:200]}; it is "
            "truncated or damaged, or no file of torch or pickle: fetch it again"
        ) from error


def _read_zip(path: Path, choose: Callable[[Tree], Mapping[str, Any]]) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        if packed := next((entry for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED), None):
            raise ValueError(f"{packed.filename} is compressed, which torch never does")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UserError(f"{path} is a zip archive of {len(archive.namelist())} files but no torch file")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise UserError(f"{path} was written on a big-endian machine; save it again on another")
        tree = load_pickle(io.BytesIO(archive.read(pickles[0])), path)
        return _materialised(choose(tree), lambda key: archive.read(f"{root}data/{key}"))


def _read_stream(path: Path, choose: Callable[[Tree], Mapping[str, Any]]) -> dict[str, Any]:
    """A plain pickle is one object; torch's old stream is five, then the storages, each behind its length."""
    with path.open("rb") as file:
        first = load_pickle(file, path)
        if not (isinstance(first, int) and first == OLD_MAGIC):
            return _materialised(choose(first), _no_storage)
        _protocol, _system, tree, keys = (load_pickle(file, path) for _ in range(4))
        widths = {view.storage.key: view.storage.dtype.itemsize for view in _views(tree)}
        storages = {}
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            size = count * widths.get(str(key), 1)
            if not 0 <= size <= path.stat().st_size - file.tell():
                raise ValueError(f"storage {key} of {size:,} bytes is not there")
            storages[str(key)] = file.read(size)
        return _materialised(choose(tree), storages.__getitem__)


def _materialised(chosen: Mapping[str, Any], source: Source) -> dict[str, Any]:
    return {name: value.read(source) if isinstance(value, TensorView) else value for name, value in chosen.items()}


def _views(tree: Tree) -> list[TensorView]:
    if isinstance(tree, TensorView):
        return [tree]
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return [view for value in values for view in _views(value)]


def _no_storage(key: str) -> bytes:
    raise pickle.UnpicklingError(f"a tensor outside of a torch file, storage {key}")
