"""Tensors in safetensors files, one or many with an index, read and written one at a time.

Format: https://huggingface.co/docs/safetensors; many files are named and indexed as transformers does.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from trainer.exchange.tensors import Tensor
from visent.errors import UserError
from visent.progress import track
from visent.untrusted.documents import parse_json
from visent.untrusted.names import is_plain

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES: Mapping[str, Any] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(jnp.bfloat16),  # by this import numpy knows the type, and so safetensors' functions do
    "float16": np.dtype(np.float16),
}
_STORED = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_SHOWN = 6  # names listed in one message


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What the header of a file says of a tensor."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


def stored(folder: Path) -> dict[str, Stored]:
    """Returns every tensor of a folder, from the headers of its files.

    Raises:
        UserError: files are missing, cut short, not safetensors, or not those of the index.
    """
    index = _index(folder)
    found: dict[str, Stored] = {}
    for name in sorted(set(index.values())) if index else [ONE]:
        found |= _header(folder / name, folder)
    missing = [name for name in index if name not in found]
    if missing:
        raise UserError(f"{folder / INDEX} names tensors that its files lack: {listing(missing)}; fetch them again")
    return found


def _index(folder: Path) -> dict[str, str]:
    """Returns the file of each tensor; empty where there is a single file."""
    path = folder / INDEX
    if (folder / ONE).is_file():
        return {}
    if not path.is_file():
        raise _no_weights(folder)
    try:
        files = parse_json(path.read_bytes())["weight_map"]
        named = {str(name): str(file) for name, file in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no index of safetensors files ({error!r}): fetch it again") from error
    if wrong := next((file for file in named.values() if not is_plain(file)), None):
        raise UserError(f"{path} names the file {wrong[:80]!r}, expected files beside it: fetch it again")
    return named


def _no_weights(folder: Path) -> UserError:
    pickled = sorted(folder.glob("*.bin"))
    if not pickled:
        return UserError(f"{folder} has no weights: expected {ONE}, or several files with {INDEX}")
    return UserError(
        f"{folder} has its weights in {pickled[0].name}, a pickle that could run any program: write them as "
        'safetensors where you trust it, with transformers: python -c "from transformers import LlamaForCausalLM as L; '
        f"L.from_pretrained('{folder}').save_pretrained('{folder}-safetensors')\""
    )


def _header(path: Path, folder: Path) -> dict[str, Stored]:
    if not path.is_file():
        raise UserError(f"{folder} lacks {path.name}, which {INDEX} names: fetch the file")
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            return {name: _described(path, file.get_slice(name)) for name in names}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}): it is cut short or damaged, fetch it again") from error


def _described(path: Path, one: Any) -> Stored:
    kind = str(one.get_dtype())
    return Stored(file=path, shape=tuple(one.get_shape()), dtype=_STORED.get(kind, kind))


def check(found: Mapping[str, Stored], wanted: Sequence[Tensor], folder: Path) -> None:
    """Checks that a folder has exactly the tensors of a model.

    Raises:
        UserError: some are missing, not known, of another shape or of a type that is no plain number.
    """
    known = {tensor.name: tensor for tensor in wanted}
    problems = {
        "lacks": [name for name in known if name not in found],
        "has tensors that a Llama has not": [name for name in found if name not in known],
        "has tensors of another shape than its config.json says": [
            f"{name} {list(found[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in known.items()
            if name in found and found[name].shape != tensor.shape
        ],
        f"has tensors of other types than {', '.join(_STORED.values())}": [
            f"{name} {one.dtype}" for name, one in found.items() if one.dtype not in _STORED.values()
        ],
    }
    said = [f"{what}: {listing(names)}" for what, names in problems.items() if names]
    if said:
        raise UserError(f"{folder} {'; it '.join(said)}. Expected the files of a LlamaForCausalLM, whole")


def listing(names: Sequence[str]) -> str:
    """Returns the first few names and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def read(found: Mapping[str, Stored], wanted: Sequence[Tensor], put: Callable[[Tensor, np.ndarray], None]) -> None:
    """Hands every wanted tensor to `put`, file by file; only one is in memory at a time.

    Raises:
        UserError: a file cannot be read, or a number is not finite.
    """
    with track("reading", len(wanted), "tensors") as bar:
        for path, part in _by_file(found, wanted):
            try:
                with safe_open(path, framework="numpy") as file:
                    for tensor in part:
                        put(tensor, _finite(file.get_tensor(tensor.name), tensor.name, path))
                        bar.advance()
            except (OSError, SafetensorError) as error:
                raise UserError(f"{path} cannot be read ({error}): fetch it again") from error


def _by_file(found: Mapping[str, Stored], wanted: Sequence[Tensor]) -> Iterator[tuple[Path, list[Tensor]]]:
    for path in sorted({found[tensor.name].file for tensor in wanted}):
        yield path, [tensor for tensor in wanted if found[tensor.name].file == path]


def _finite(numbers: np.ndarray, name: str, place: object) -> np.ndarray:
    if not np.isfinite(numbers).all():
        raise UserError(f"{place}: tensor {name} holds numbers that are not finite: the model cannot compute with them")
    return numbers


def write(
    folder: Path, wanted: Sequence[Tensor], take: Callable[[Tensor], np.ndarray], dtype: str, file_bytes: int
) -> None:
    """Writes tensors into files of at most `file_bytes` (a larger tensor has one of its own), one file at a time.

    Raises:
        UserError: a file cannot be written, or a number does not fit the type.
    """
    parts = split(wanted, DTYPES[dtype].itemsize, file_bytes)
    names = (
        [ONE] if len(parts) == 1 else [f"model-{i + 1:05d}-of-{len(parts):05d}.safetensors" for i in range(len(parts))]
    )
    with track("writing", len(wanted), "tensors") as bar:
        for name, part in zip(names, parts, strict=True):
            file = {tensor.name: _rounded(take(tensor), tensor.name, dtype) for tensor in part}
            try:
                save_file(file, folder / name, {"format": "pt"})
            except (OSError, SafetensorError) as error:
                raise UserError(f"cannot write {name} ({error}): make room or choose another --out") from error
            bar.advance(len(part))
    if len(parts) > 1:
        numbers = sum(tensor.size for tensor in wanted)
        files = {tensor.name: name for name, part in zip(names, parts, strict=True) for tensor in part}
        totals = {"total_parameters": numbers, "total_size": numbers * DTYPES[dtype].itemsize}
        index = json.dumps({"metadata": totals, "weight_map": files}, indent=2)
        (folder / INDEX).write_text(index + "\n", encoding="utf-8")


def split(wanted: Sequence[Tensor], bytes_per_number: int, file_bytes: int) -> list[list[Tensor]]:
    """Cuts tensors into files in their order, each filled as far as `file_bytes` lets it."""
    parts: list[list[Tensor]] = [[]]
    room = file_bytes
    for tensor in wanted:
        size = tensor.size * bytes_per_number
        if parts[-1] and size > room:
            parts.append([])
            room = file_bytes
        parts[-1].append(tensor)
        room -= size
    return parts


def _rounded(numbers: np.ndarray, name: str, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(numbers.astype(DTYPES[dtype]))
    if not np.isfinite(rounded).all():
        raise UserError(f"tensor {name} holds {np.abs(numbers).max():.3g}, more than {dtype} can: use --dtype bfloat16")
    return rounded
