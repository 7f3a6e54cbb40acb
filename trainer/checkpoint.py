"""Checkpoints: what was learned, where the run stood, and what it read; written by orbax, atomically."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp

from manifests import files
from trainer import model as llama
from trainer.config import RunConfig
from trainer.run_facts import RunFacts, check_same_run, differences
from trainer.step import TrainState
from visent.errors import UserError

__all__ = ["Checkpoints", "Keep", "RunFacts", "check_same_run", "differences"]


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which checkpoints stay when a newer one is written: those that any of the three rules names."""

    newest: int = 2
    every: int = 0  # steps divisible by this; 0 for none
    steps: tuple[int, ...] = ()  # these; a run keeps the ends of its stages

    @classmethod
    def of(cls, config: RunConfig) -> "Keep":
        """Returns the rules of a run."""
        ends, last = [], 0
        for stage in config.stages.values():
            last += stage.steps
            ends.append(last)
        return cls(newest=config.keep_checkpoints, every=config.keep_every, steps=tuple(ends))

    def policy(self) -> Any:
        """Returns the rules as orbax wants them."""
        rules = ocp.checkpoint_managers
        chosen = [rules.LatestN(self.newest), rules.CustomSteps(list(self.steps))]
        return rules.AnyPreservationPolicy(chosen + ([rules.EveryNSteps(self.every)] if self.every else []))


class Checkpoints:
    """The checkpoints of one run, by step, in a folder or at a `gs://` URL; closed at the end of a `with` block.

    Without `keep` they can only be read, also while the run that writes them goes on. Every process of a run must
    make one and call the same methods.
    """

    def __init__(self, folder: str | Path, keep: Keep | None = None) -> None:
        self.folder = _place(folder)
        options = ocp.CheckpointManagerOptions(read_only=True, save_interval_steps=0, create=False)
        if keep is not None:
            options = ocp.CheckpointManagerOptions(preservation_policy=keep.policy(), enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        step = self._manager.latest_step()
        return None if step is None else int(step)

    def save(self, state: TrainState, facts: RunFacts) -> None:
        """Writes a checkpoint of the state's step; one that is there already is left as it is.

        Raises:
            UserError: the disk is full or cannot be written; earlier checkpoints are untouched.
        """
        rest = {"moments": state.moments, "step": state.step}
        self._save(int(state.step), facts, params=state.params, rest=rest)

    def save_params(self, step: int, params: llama.Params, facts: RunFacts) -> None:
        """Writes a checkpoint that other runs can start from, but that cannot be resumed: it has no moments.

        Raises:
            UserError: the disk is full or cannot be written; earlier checkpoints are untouched.
        """
        self._save(step, facts, params=params)

    def _save(self, step: int, facts: RunFacts, **trees: Any) -> None:
        if step == self.latest:
            return
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        try:
            self._manager.save(step, args=_only(facts=ocp.args.JsonSave(facts.to_json()), **items))
        except (OSError, ValueError) as error:
            raise UserError(
                f"checkpoint of step {step} cannot be written to {self.folder}: {error}; free space or make it "
                f"writable, then run the same command again: it goes on from step {self.latest or 0}"
            ) from error

    def facts(self) -> RunFacts:
        """Returns what the newest checkpoint belongs to."""
        with self._readable():
            return RunFacts.from_json(
                self._manager.restore(self.latest, args=_only(facts=ocp.args.JsonRestore())).facts
            )

    def restore(self, like: TrainState) -> TrainState:
        """Returns the newest checkpoint's state, laid over devices as `like` is (arrays or their shapes)."""
        rest = {"moments": like.moments, "step": like.step}
        found = self._restore(params=like.params, rest=rest)
        return TrainState(found.params, **found.rest)

    def restore_params(self, like: llama.Params, step: int | None = None) -> llama.Params:
        """Returns a checkpoint's parameters (the newest one's), laid over devices as `like` is (arrays or shapes).

        The mesh that they were trained on does not matter; shapes without a layout come to lie on one device.
        """
        params: llama.Params = self._restore(step, params=like).params
        return params

    def _restore(self, step: int | None = None, **trees: Any) -> Any:
        items = {name: ocp.args.StandardRestore(jax.tree.map(_laid, tree)) for name, tree in trees.items()}
        with self._readable():
            return self._manager.restore(self.latest if step is None else step, args=_only(**items))

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            others = [step for step in self._manager.all_steps() if step != self.latest]
            fix = f"remove that folder to go on from step {max(others)}" if others else "start in a new folder"
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            where = files.join(self.folder, str(self.latest))
            raise UserError(f"checkpoint {where} cannot be read ({reason}): {fix}") from error


def _place(folder: str | Path) -> str:
    if not files.is_url(folder):
        return str(Path(folder).absolute())
    if not str(folder).startswith("gs://"):
        raise UserError(f"checkpoints cannot be kept at {folder}: expected a folder or gs://bucket/path")
    return str(folder)


def _laid(leaf: Any) -> jax.ShapeDtypeStruct:
    one: Any = jax.sharding.SingleDeviceSharding
    lies = getattr(leaf, "sharding", None) or one(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies)


def _only(**items: Any) -> Any:
    return ocp.args.Composite(**items)
