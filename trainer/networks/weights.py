"""Weights on disk: their hash, which names them beside every figure, and the state dictionaries of torch's files."""

import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from manifests import files
from tokenizer.checkpoints.pickles import TensorView
from tokenizer.checkpoints.torch_files import ZIP_MAGIC, read_pickled
from visent.errors import UserError


def sha256_of(path: str | Path) -> str:
    """Returns the sha256 of a file; of a folder that of its files' names and hashes, in the order of their names."""
    folder = Path(path)
    if not folder.is_dir():
        return files.sha256(path)
    return sha256_of_files(
        folder, [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    )


def sha256_of_files(folder: Path, names: Iterable[str]) -> str:
    """Returns the sha256 of what `sha256sum` prints of files in a folder, in the order of their names."""
    told = "".join(f"{files.sha256(folder / name)}  {name}\n" for name in sorted(names))
    return hashlib.sha256(told.encode()).hexdigest()


def in_package(module: str, inside: str) -> Path | None:
    """Returns a file of an installed package, which is not imported; None where there is none."""
    spec = importlib.util.find_spec(module)
    places = [Path(place) / inside for place in (spec.submodule_search_locations or [])] if spec else []
    return next((place for place in places if place.is_file()), None)


def is_pickled(path: Path) -> bool:
    """Tells by its first bytes whether a file may be one of torch: a zip archive, or a pickle of protocol 2 or later.

    Raises:
        UserError: it cannot be read.
    """
    start = files.read_bytes(path, 2) if path.is_file() else b""
    return start[:2] == ZIP_MAGIC[:2] or (start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def names_of(path: Path) -> list[str]:
    """Returns the names of the tensors in a torch file, reading none of them; none where it holds something else.

    Raises:
        UserError: the file is cut or damaged, or its pickle names code.
    """
    names: list[str] = []

    def choose(tree: Any) -> dict[str, Any]:
        names.extend(_tensors(tree))
        return {}

    read_pickled(path, choose)
    return names


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a torch file by name.

    Raises:
        UserError: the file is cut or damaged, holds no tensors, or its pickle names code.
    """
    tensors = read_pickled(path, _tensors)
    if not tensors:
        raise UserError(f"{path} holds no tensors by name; expected a state dictionary of torch")
    return tensors


def check_shapes(path: Path, tensors: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]], network: str) -> None:
    """Compares the tensors of a file with those that a network needs.

    Raises:
        UserError: one is missing or of another shape.
    """
    for name, shape in shapes.items():
        if name not in tensors:
            raise UserError(f"{path} holds no {name}, which {network} has: the file is cut, or of another network")
        if tensors[name].shape != shape:
            raise UserError(
                f"{path} holds another network than {network}: {name} is {tensors[name].shape}, expected {shape}"
            )
        if not np.isfinite(tensors[name]).all():
            raise UserError(f"{path} is damaged: {name} holds numbers that are not finite; fetch it again")


def _tensors(tree: Any) -> dict[str, Any]:
    """Returns the tensors of a state dictionary, which may lie below `state_dict`."""
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        tree = tree["state_dict"]
    pairs = tree.items() if isinstance(tree, dict) else ()
    return {str(name): leaf for name, leaf in pairs if isinstance(leaf, (TensorView, np.ndarray))}
