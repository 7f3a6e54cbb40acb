"""Finds the weights in a file or folder and reads them as named arrays, whatever wrote them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tokenizer.checkpoints.pickles import StandIn, TensorView
from tokenizer.checkpoints.taming import LEFT_OUT
from tokenizer.checkpoints.tensors import read_safetensors
from tokenizer.checkpoints.torch_files import ZIP_MAGIC, read_pickled
from visent.errors import UserError
from visent.untrusted.documents import parse_json

CONFIG_FILE = "config.json"
# Full precision first, files without code first.
WEIGHTS_FILES = (
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin", "model.safetensors", "pytorch_model.bin",
    "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.fp16.bin", "model.fp16.safetensors",
    "flax_model.msgpack", "last.ckpt", "model.ckpt", "vqgan",
)  # fmt: skip
SUFFIXES = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".pkl", ".pickle")
SUBFOLDERS = ("vqvae", "vae", "checkpoints")  # of diffusers' pipelines, of open-muse's, of taming's runs
WRAPPED = "state_dict."  # lightning keeps the weights below this name
MOST_LEAVES = 10_000  # a few kilobytes of references to references may spell out more than any memory holds
LISTED = 12  # names of a folder that an error message shows


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a file of weights holds, under its own names, and the config beside it."""

    file: Path
    tensors: Mapping[str, np.ndarray]
    config: Mapping[str, Any] | None
    lightning: bool  # the tensors lay below `state_dict`
    left_out: int  # tensors of networks that took part in training only


def read_stored(path: Path, expected: str) -> Stored:
    """Reads the weights in a file, or in the first of the usual places of a folder; `expected` is for the error.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    file = _weights_file(path, expected) if path.is_dir() else path
    beside = file.parent / CONFIG_FILE
    config = _read_config(beside) if file.suffix in (".bin", ".safetensors") and beside.is_file() else None
    if file.stat().st_size == 0:
        raise UserError(f"{file} is empty; fetch it again")
    tensors, left_out = _read_tensors(file, expected)
    lightning = any(name.startswith(WRAPPED) for name in (*tensors, *left_out))
    named = {name.removeprefix(WRAPPED): tensor for name, tensor in tensors.items()}
    return Stored(file=file, tensors=named, config=config, lightning=lightning, left_out=len(left_out))


def _weights_file(folder: Path, expected: str) -> Path:
    for place in (folder, *(folder / name for name in SUBFOLDERS)):
        usual = [place / name for name in WEIGHTS_FILES if (place / name).is_file()]
        others = [p for p in sorted(place.glob("*")) if p.suffix in SUFFIXES and p.is_file()]
        if usual or len(others) == 1:
            return (usual or others)[0]
        if others:
            names = ", ".join(p.name for p in others[:LISTED])
            raise UserError(f"{place} holds {len(others)} files of weights ({names}): name the one to read")
    found = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    raise UserError(
        f"no tokenizer in {folder}: found {', '.join(found[:LISTED]) or 'no file'}{more}; expected {expected}"
    )


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        values = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; fetch it again") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}, expected a JSON object: the config of a network")
    return values


def _read_tensors(file: Path, expected: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the tensors by their dotted names, and the names of those left out by rule."""
    left_out: list[str] = []

    def choose(tree: Any) -> dict[str, Any]:
        leaves = _weights(tree, file)
        left_out.extend(name for name in leaves if name.removeprefix(WRAPPED).startswith(LEFT_OUT))
        return {name: leaf for name, leaf in leaves.items() if not name.removeprefix(WRAPPED).startswith(LEFT_OUT)}

    with file.open("rb") as opened:
        start = opened.read(9)
    if start[:4] == ZIP_MAGIC or (start[:1] == b"\x80" and file.suffix != ".msgpack"):
        return read_pickled(file, choose), left_out
    if file.suffix == ".msgpack":
        return choose(_read_msgpack(file)), left_out
    if file.suffix == ".safetensors" or start[8:9] == b"{":
        return choose(read_safetensors(file)), left_out
    raise UserError(f"{file} is no file of weights: it begins with {start[:8]!r}; expected {expected}")


def _read_msgpack(file: Path) -> Any:
    from flax.serialization import msgpack_restore

    try:
        return msgpack_restore(file.read_bytes())
    except Exception as error:  # msgpack raises a dozen kinds at cut or changed bytes
        raise UserError(f"cannot read {file}: {error}; it is truncated or damaged: fetch it again") from error


def _weights(tree: Any, file: Path) -> dict[str, Any]:
    """Returns the tensors of a tree by their dotted names: of lightning's `state_dict`, of Flax's `params`, or of all.

    Raises:
        UserError: something among them is no tensor.
    """
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        tree = {"state_dict": tree["state_dict"]}
    elif isinstance(tree, dict) and set(tree) == {"params"}:
        tree = tree["params"]
    pairs = list(islice(_leaves(tree, ()), MOST_LEAVES + 1))
    if len(pairs) > MOST_LEAVES:
        raise UserError(f"{file} holds more than {MOST_LEAVES:,} values, one inside the other: no file of weights")
    for name, leaf in pairs:
        if not isinstance(leaf, (TensorView, np.ndarray)):
            what = leaf.what if isinstance(leaf, StandIn) else type(leaf).__name__
            raise UserError(
                f"{file} holds {what} at {name or 'its top'}, expected tensors alone: save its weights with "
                "`safetensors.torch.save_file` where it was made and load that"
            )
    if len(leaves := dict(pairs)) < len(pairs):
        raise UserError(f"{file} holds {len(pairs)} tensors under {len(leaves)} names: one name stands for two of them")
    return leaves


def _leaves(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict):
        yield ".".join(path), tree
        return
    for key, value in tree.items():
        yield from _leaves(value, (*path, str(key)))
