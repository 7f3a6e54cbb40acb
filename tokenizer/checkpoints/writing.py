"""Writes a checkpoint in any layout that can hold it."""

import json
import pickle  # nosec B403 # writes; nothing is read with it
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tokenizer.card import TokenizerCard
from tokenizer.checkpoints.checkpoint import Checkpoint
from tokenizer.checkpoints.folder import write_folder
from tokenizer.checkpoints.layout import to_theirs
from tokenizer.checkpoints.sniff import FOREIGN
from tokenizer.checkpoints.tensors import write_safetensors
from tokenizer.checkpoints.torch_writer import write_torch
from visent.errors import UserError, unknown

LAYOUTS = ("visent", *FOREIGN)


def write(checkpoint: Checkpoint, layout: str, path: Path | str, *, card: TokenizerCard | None = None) -> None:
    """Writes a checkpoint; its numbers keep their type. `card` is for the layout visent, which holds one.

    `muse`, `diffusers` and `visent` are folders; `taming` is a `.ckpt` file, `lwm` a pickle of a tree of arrays.

    Raises:
        UserError: there is no such layout, it cannot hold this network, or the path cannot be written.
    """
    path = Path(path)
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    try:
        if layout == "visent":
            write_folder(path, checkpoint, card or checkpoint.card(name=path.name, about=checkpoint.notes))
        else:
            _write_foreign(checkpoint, layout, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}; free the disk or name another place") from error


def _write_foreign(checkpoint: Checkpoint, name: str, path: Path) -> None:
    layout, config = FOREIGN[name], checkpoint.config
    if why := layout.lacks(config):
        raise UserError(f"the layout {name} cannot hold this network: {why}; visent's own layout holds it")
    levels = len(config.channel_mult)
    tensors = {
        layout.rename(ours, levels): to_theirs(tensor, ours, layout.order)
        for ours, tensor in checkpoint.tensors.items()
    }
    if layout.to_json is not None:
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").write_text(json.dumps(layout.to_json(config), indent=1) + "\n", encoding="utf-8")
        if name == "diffusers":
            write_safetensors(path / "diffusion_pytorch_model.safetensors", tensors)
        else:
            write_torch(path / "pytorch_model.bin", tensors)  # the only file that LVM's loader knows
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == "taming":
        write_torch(path, tensors, below="state_dict")
    else:
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(pickle.dumps(_tree(tensors), protocol=4))
        partial.replace(path)


def _tree(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns nested mappings from dotted names."""
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = tensor
    return tree
