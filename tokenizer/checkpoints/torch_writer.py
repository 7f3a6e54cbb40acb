"""Writes tensors as torch's zip archive (the format of `torch.save` since 1.6), without torch.

The pickle in it is assembled from opcodes, since Python's pickler would have to import torch to name its functions.
"""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from visent.errors import UserError

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
}
HOOKS = b"ccollections\nOrderedDict\n)R"  # no backward hooks


def write_torch(path: Path, tensors: Mapping[str, np.ndarray], *, below: str | None = None) -> None:
    """Writes a mapping of names to tensors, or that mapping under the one key `below`.

    Raises:
        UserError: torch has no storage for a tensor's type.
    """
    items = [_text(name) + _tensor(str(i), name, tensor) for i, (name, tensor) in enumerate(tensors.items())]
    content = b"}(" + b"".join(items) + b"u"
    if below is not None:
        content = b"}(" + _text(below) + content + b"u"
    partial = path.with_name(path.name + ".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("archive/byteorder", b"little")
        for i, tensor in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{i}", np.ascontiguousarray(tensor).tobytes())
        archive.writestr("archive/version", b"3\n")
    partial.replace(path)


def _tensor(key: str, name: str, tensor: np.ndarray) -> bytes:
    """A call of torch's own function: storage, offset, shape, strides, no gradient, no hooks."""
    if tensor.dtype.name not in STORAGES:
        raise UserError(f"cannot write tensor {name} of type {tensor.dtype} for torch; expected {list(STORAGES)}")
    strides = [int(np.prod(tensor.shape[axis + 1 :])) for axis in range(tensor.ndim)]
    storage = b"(" + _text("storage") + f"ctorch\n{STORAGES[tensor.dtype.name]}\n".encode()
    storage += _text(key) + _text("cpu") + _integer(tensor.size) + b"tQ"
    view = _integer(0) + _tuple(tensor.shape) + _tuple(strides) + b"\x89" + HOOKS
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + view + b"tR"


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _tuple(values: list[int] | tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
