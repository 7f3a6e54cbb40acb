"""safetensors files to numpy arrays and back, bfloat16 included (the library's own numpy functions lack it)."""

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from safetensors import SafetensorError

from visent.errors import UserError

DTYPES = {
    **{name: np.dtype(f"<{name[0].lower()}{int(name[1:]) // 8}") for name in ("F64", "F32", "F16", "I64", "I32")},
    "BF16": np.dtype(ml_dtypes.bfloat16),
}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads every tensor of a file.

    Raises:
        UserError: the file is missing, cut, or no safetensors file.
    """
    try:
        entries = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}: {error}; it is truncated or damaged: fetch it again") from error
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in DTYPES:
            raise UserError(f"{path}: tensor {name} has type {entry['dtype']}, expected one of {sorted(DTYPES)}")
        tensors[name] = np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors in the order of their names; the file appears when it is whole."""
    whole = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(safetensors.numpy.save(whole, {"format": "pt"}))
    partial.replace(path)


def dtype_of(tensors: Mapping[str, np.ndarray]) -> str:
    """Returns the type that all tensors have, or their types joined by a plus sign."""
    return "+".join(sorted({tensor.dtype.name for tensor in tensors.values()}))
