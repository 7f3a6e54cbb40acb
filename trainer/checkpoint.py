"""Checkpoints: what was learned, where the run stood, and what it read; written by orbax, atomically."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp

from trainer.config import RunConfig
from trainer.step import TrainState
from visent import __version__
from visent.errors import UserError

_SHOWN = 6  # differences listed in one message


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a checkpoint belongs to; stored in it and compared before a run goes on from it."""

    config: RunConfig
    lock_digest: str
    fingerprint: str  # of the tokenizer
    stage: str = ""  # in which the checkpoint was written
    version: str = __version__

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {**self.__dict__, "config": self.config.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RunFacts":
        """Reads what `to_json` wrote."""
        return cls(**{**data, "config": RunConfig.from_json(data["config"])})


class Checkpoints:
    """The checkpoints of one run, by step; closed at the end of a `with` block."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
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
        step = int(state.step)
        if step == self.latest:
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()), facts=ocp.args.JsonSave(facts.to_json())
        )
        try:
            self._manager.save(step, args=items)
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
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
        with self._readable():
            restored = self._manager.restore(self.latest, args=_only(state=ocp.args.StandardRestore(shapes)))
            return TrainState(**restored.state)

    @contextlib.contextmanager
    def _readable(self) -> Any:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            others = [step for step in self._manager.all_steps() if step != self.latest]
            fix = f"remove that folder to go on from step {max(others)}" if others else "start in a new folder"
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise UserError(f"checkpoint {self.folder / str(self.latest)} cannot be read ({reason}): {fix}") from error


def _only(**items: Any) -> Any:
    return ocp.args.Composite(**items)


def check_same_run(
    old: RunFacts,
    new: RunFacts,
    old_lock: Mapping[str, Any],
    new_lock: Mapping[str, Any],
    *,
    allow_other_lock: bool = False,
    allow_other_settings: bool = False,
) -> None:
    """Checks that a run may go on from a checkpoint.

    How often the run logs, evaluates and saves may change freely, and so may stages that have not begun.

    Raises:
        UserError: another tokenizer or model; another lock or other settings, unless allowed.
    """
    if old.fingerprint != new.fingerprint:
        raise UserError(
            f"the checkpoint was trained on tokens of tokenizer {old.fingerprint}, the lock has those of "
            f"{new.fingerprint}: use another --out folder"
        )
    before, after = old.config.to_json(), new.config.to_json()
    model = differences(before["model"], after["model"])
    if model:
        raise UserError(f"the checkpoint holds another model ({'; '.join(model)}): use --model and --set as before, "
                        "or another --out folder")  # fmt: skip
    begun = list(before["stages"])[: list(before["stages"]).index(old.stage) + 1] if old.stage else []
    settings = differences(
        {"seed": before["seed"], **{name: before["stages"][name] for name in begun}},
        {"seed": after["seed"], **{name: after["stages"].get(name) for name in begun}},
    )
    if settings and not allow_other_settings:
        raise UserError(f"the checkpoint was written with other settings ({'; '.join(settings[:_SHOWN])}): repeat the "
                        "first command, use another --out folder, or pass --allow-other-settings")  # fmt: skip
    if old.lock_digest != new.lock_digest and not allow_other_lock:
        found = differences(old_lock, new_lock)
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise UserError(
            f"the checkpoint read lock {old.lock_digest[:16]}, this manifest gives {new.lock_digest[:16]} "
            f"({'; '.join(found[:_SHOWN]) or 'unknown difference'}{more}): restore the manifest, use another --out "
            "folder, or pass --allow-other-lock"
        )


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Returns one phrase for each value that two JSON values do not share, such as `seed: 0, now 1`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*old, *(name for name in new if name not in old)]
        missing = object()
        pairs = ((old.get(name, missing), new.get(name, missing), f"{path}.{name}".lstrip(".")) for name in names)
        return [
            phrase
            for a, b, where in pairs
            for phrase in (
                [f"{where} {'added' if a is missing else 'removed'}"] if missing in (a, b) else differences(a, b, where)
            )
        ]
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        if len(old) != len(new):
            return [f"{path}: {len(old)} entries, now {len(new)}"]
        return [
            phrase
            for i, (a, b) in enumerate(zip(old, new, strict=True))
            for phrase in differences(a, b, f"{path}[{i}]")
        ]
    return [] if old == new else [f"{path}: {old}, now {new}"]
