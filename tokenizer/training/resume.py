"""The checkpoint of a tokenizer's training: one safetensors file that a killed run goes on from."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from tokenizer.training.config import TrainConfig
from tokenizer.training.loop import Trainer
from visent.errors import UserError

UNDECIDING = ("recipe", "max_pictures", "min_usage", "patience")  # fields that change no weight
STATE_FILE = "state.safetensors"


def save_state(path: Path, trainer: Trainer) -> None:
    """Writes the state of a run beside its configuration; an older checkpoint stays whole until the new one is."""
    tensors = {name: np.asarray(value) for name, value in _named(trainer.state)}
    metadata = {"config": json.dumps(dataclasses.asdict(trainer.config)), "pictures": trainer.pictures.digest}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    safetensors.numpy.save_file(tensors, partial, metadata=metadata)
    partial.replace(path)


def restore_state(path: Path, trainer: Trainer) -> None:
    """Puts a saved state into a trainer of the same configuration; what follows is as if it had never stopped.

    The number of steps may differ as long as the fall of the learning rate has begun in neither.

    Raises:
        UserError: the checkpoint is unreadable, or of another configuration or other pictures.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        saved, step = json.loads(metadata["config"]), int(tensors[".step"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"cannot read the checkpoint {path}: {error}; delete it to start again") from error
    _check(path, saved, metadata["pictures"], step, trainer)
    _add_newer(tensors)
    named = _named(trainer.state)
    if {name for name, _ in named} != set(tensors):
        raise UserError(f"the checkpoint {path} holds another state than this version's; delete it to start again")
    leaves = [jax.device_put(tensors[name], value.sharding) for name, value in named]
    trainer.state = jax.tree.unflatten(jax.tree.structure(trainer.state), leaves)


def _check(path: Path, saved: Mapping[str, Any], pictures: str, step: int, trainer: Trainer) -> None:
    ours = json.loads(json.dumps(dataclasses.asdict(trainer.config)))
    initial = json.loads(json.dumps(dataclasses.asdict(TrainConfig())))
    theirs = {**initial, **saved}  # a field that came later is at its default, which is what was done before
    theirs["network"] = {**initial["network"], **theirs["network"]}
    changed = {name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)} - set(UNDECIDING)
    if changed == {"steps"} and step <= min(trainer.config.fall_begins, _fall_begins(trainer.config, theirs["steps"])):
        changed = set()
    if trainer.pictures.digest != pictures:
        changed.add("pictures")
    if changed:
        raise UserError(
            f"the checkpoint {path} (step {step}) is of another run: {', '.join(sorted(changed))} changed; "
            "repeat the command it was made with, or name another --out"
        )


def _add_newer(tensors: dict[str, np.ndarray]) -> None:
    """Adds what checkpoints did not hold at first and what follows from the rest of them."""
    tensors.setdefault(".frequency", tensors[".counts"])
    tensors.setdefault(".poor", np.zeros((), np.int32))


def _fall_begins(config: TrainConfig, steps: int) -> int:
    return dataclasses.replace(config, steps=steps).fall_begins


def _named(state: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), value) for path, value in jax.tree_util.tree_leaves_with_path(state)]
