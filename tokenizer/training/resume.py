"""The checkpoint of a tokenizer's training: one safetensors file that a killed run goes on from."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from tokenizer.training.config import TrainConfig
from tokenizer.training.train import Trainer
from visent.errors import UserError


def save_state(path: Path, trainer: Trainer) -> None:
    """Writes the state of a run beside its configuration; an older checkpoint stays whole until the new one is."""
    tensors = {name: np.asarray(value) for name, value in _named(trainer.state)}
    metadata = {"config": _config_text(trainer.config), "pictures": trainer.pictures.digest}
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
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the checkpoint {path}: {error}; delete it to start again") from error
    _check(path, metadata, int(tensors[".step"]), trainer)
    leaves = [jnp.asarray(tensors[name]) for name, _ in _named(trainer.state)]
    trainer.state = jax.tree.unflatten(jax.tree.structure(trainer.state), leaves)


def _check(path: Path, metadata: dict[str, str], step: int, trainer: Trainer) -> None:
    ours, theirs = json.loads(_config_text(trainer.config)), json.loads(metadata["config"])
    changed = {name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)}
    if changed == {"steps"} and step <= min(trainer.config.fall_begins, _fall_begins(trainer.config, theirs["steps"])):
        changed = set()
    if trainer.pictures.digest != metadata["pictures"]:
        changed.add("pictures")
    if changed:
        raise UserError(
            f"the checkpoint {path} (step {step}) is of another run: {', '.join(sorted(changed))} changed; "
            "repeat the command it was made with, or name another --out"
        )


def _fall_begins(config: TrainConfig, steps: int) -> int:
    return dataclasses.replace(config, steps=steps).fall_begins


def _config_text(config: TrainConfig) -> str:
    return json.dumps(dataclasses.asdict(config))


def _named(state: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), value) for path, value in jax.tree_util.tree_leaves_with_path(state)]
