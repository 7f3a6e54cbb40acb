"""Checkpoints: what was learned, where the run stood, and what it read; written by orbax beside the training.

One folder for each step: `params`, `rest` (the optimizer's moments and the step), `facts` (what the run is) and
`digests` (of every array, so that wrong bytes are noticed). A folder has its name only when it is whole; at `gs://`,
and other URLs, only when `commit_success.txt` is in it.
"""

import contextlib
import logging
import os
import re
import shutil
import sys
import time
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
from trainer.digest import digests
from trainer.mirror import Mirror
from trainer.run_facts import RunFacts, check_same_run, differences
from trainer.step import TrainState
from visent.errors import UserError

__all__ = ["Checkpoints", "Keep", "RunFacts", "check_same_run", "differences"]
_UNFINISHED = "*.orbax-checkpoint-tmp"
_ERRNO = re.compile(r"os_error_code='(\d+)'")


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
    """The checkpoints of one run, by step, in a folder or at a URL; closed at the end of a `with` block.

    Without `keep` they can only be read, also while the run that writes them goes on. Every process of a run must
    make one and call the same methods.
    """

    def __init__(self, folder: str | Path, keep: Keep | None = None) -> None:
        self.folder = str(folder) if files.is_url(folder) else str(Path(folder).absolute())
        self._writes = keep is not None
        self._mirror = _mirror(self.folder, self._writes)
        self._at = self.folder if self._mirror is None else str(self._mirror.folder)  # where orbax works
        self._saving: int | None = None  # the step that is being written
        self._failure: tuple[int, Exception] | None = None
        _quiet()
        options = ocp.CheckpointManagerOptions(read_only=True, save_interval_steps=0, create=False)
        if keep is not None:
            options = ocp.CheckpointManagerOptions(preservation_policy=keep.policy(), cleanup_tmp_directories=True)
        try:
            self._manager = ocp.CheckpointManager(self._at, options=options)
        except Exception as error:
            raise UserError(f"checkpoints at {self.folder} cannot be reached ({_reason(error)}): check that the place "
                            "is there and that you may use it, then run the same command again") from error  # fmt: skip

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._settle()
        try:
            self._manager.close()
        except Exception as failure:
            self._failed(failure)
        if self._failure is not None or error is not None:
            self._remove_unfinished()
        if error is None:
            self._raise_failure()

    @property
    def latest(self) -> int | None:
        """The step of the newest complete checkpoint; waits for one that is being written."""
        self._settle()
        step = self._manager.latest_step()
        return None if step is None else int(step)

    @property
    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, in order; waits for one that is being written."""
        self._settle()
        return sorted(int(step) for step in self._manager.all_steps())

    def save(self, state: TrainState, facts: RunFacts) -> None:
        """Writes a checkpoint of the state's step in the background; one that is there already is left as it is.

        Returns when the state was copied, so that it may be consumed. `check`, the next `save` and the end of the
        `with` block tell whether it was written.

        Raises:
            UserError: this or the one before could not be written; earlier checkpoints are untouched.
        """
        rest = {"moments": state.moments, "step": state.step}
        self._save(int(state.step), facts, params=state.params, rest=rest)

    def save_params(self, step: int, params: llama.Params, facts: RunFacts) -> None:
        """Writes, as `save` does, a checkpoint that runs can start from, but that cannot be resumed: without moments.

        Raises:
            UserError: as `save` does.
        """
        self._save(step, facts, params=params)

    def _save(self, step: int, facts: RunFacts, **trees: Any) -> None:
        at = self.latest
        self._raise_failure()
        if step == at:
            return
        self._saving = step
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        items["facts"] = ocp.args.JsonSave(facts.to_json())
        items["digests"] = ocp.args.JsonSave({name: digests(tree) for name, tree in trees.items()})
        try:
            self._manager.save(step, args=_only(**items))
        except Exception as error:
            self._failed(error)
        self._raise_failure()

    def check(self) -> None:
        """Tells, without waiting, whether what was to be written in the background could be.

        Raises:
            UserError: it could not; earlier checkpoints are untouched.
        """
        if not self._manager.is_saving_in_progress():
            self._settle()
        self._raise_failure()

    def _settle(self) -> None:
        """Waits until nothing is being written; orbax raises a failure only once, so it is kept here."""
        try:
            self._manager.wait_until_finished()
            if self._mirror is not None and self._writes:
                self._mirror.send(int(step) for step in self._manager.all_steps())
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Keeps the failure to be raised where it can be told."""
        self._failure = (self._saving or 0, error)
        self._manager.reload()  # what it thought of as removed is still there

    def _remove_unfinished(self) -> None:
        """Gives the room back that an unfinished checkpoint took; what cannot be removed now, the next run removes."""
        if not self._writes or jax.process_index() or files.is_url(self._at):
            return  # in a bucket nothing says which one is unfinished until orbax looks for its commit file
        for pause in (0.0, 0.1, 0.5):  # other threads may still be on their way to it
            time.sleep(pause)
            for unfinished in Path(self._at).glob(_UNFINISHED):
                shutil.rmtree(unfinished, ignore_errors=True)

    def _raise_failure(self) -> None:
        if self._failure is None:
            return
        (step, error), self._failure = self._failure, None
        last = self._manager.latest_step()
        begins = "from the beginning" if last is None else f"from step {last}, which is whole"
        raise UserError(
            f"checkpoint of step {step} cannot be written to {self.folder} ({_reason(error)}): {_mend(error)}, then "
            f"run the same command again: it goes on {begins}"
        ) from error

    def facts(self, step: int | None = None) -> RunFacts:
        """Returns what a checkpoint (the newest one) belongs to."""
        step = self.latest if step is None else step
        with self._readable(step):
            return RunFacts.from_json(self._manager.restore(step, args=_only(facts=ocp.args.JsonRestore())).facts)

    def restore(self, like: TrainState) -> TrainState:
        """Returns the newest checkpoint's state, laid over devices as `like` is (arrays or their shapes).

        Raises:
            UserError: it cannot be read, its bytes are not those that were written, or it has parameters only.
        """
        if not files.exists(files.join(self._at, str(self.latest), "rest")):
            raise UserError(f"checkpoint {self._path(self.latest)} holds parameters only and cannot be resumed: "
                            "start a run from it in another folder, with --from")  # fmt: skip
        found = self._restore(self.latest, params=like.params, rest={"moments": like.moments, "step": like.step})
        return TrainState(found["params"], **found["rest"])

    def restore_params(self, like: llama.Params, step: int | None = None) -> llama.Params:
        """Returns a checkpoint's parameters (the newest one's), laid over devices as `like` is (arrays or shapes).

        The mesh that they were trained on does not matter; shapes without a layout come to lie on one device.

        Raises:
            UserError: it cannot be read, or its bytes are not those that were written.
        """
        params: llama.Params = self._restore(self.latest if step is None else step, params=like)["params"]
        return params

    def params_digests(self, step: int) -> dict[str, int]:
        """Returns the digest of every parameter's array in a checkpoint, without reading the arrays.

        Raises:
            UserError: it cannot be read.
        """
        with self._readable(step):
            found = self._manager.restore(step, args=_only(digests=ocp.args.JsonRestore()))
            return dict(found.digests["params"])

    def _restore(self, step: int | None, **trees: Any) -> dict[str, Any]:
        items = {name: ocp.args.StandardRestore(jax.tree.map(_laid, tree)) for name, tree in trees.items()}
        with self._readable(step):
            found = self._manager.restore(step, args=_only(digests=ocp.args.JsonRestore(), **items))
            for name in trees:
                wrong = differences(found.digests[name], digests(found[name]))
                if wrong:
                    raise ValueError(f"wrong bytes in {name}: {wrong[0].split(':')[0]}")
            return {name: found[name] for name in trees}

    def _path(self, step: int | None) -> str:
        return files.join(self.folder, str(step))

    @contextlib.contextmanager
    def _readable(self, step: int | None) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            others = [other for other in self._manager.all_steps() if other != step]
            fix = f"remove that folder to go on from step {max(others)}" if others else "start in a new folder"
            if files.is_url(self.folder):  # it may have been the answer that was wrong, not the file
                fix = f"run the same command again; if that does not help, {fix}"
            raise UserError(f"checkpoint {self._path(step)} cannot be read ({_reason(error)}): {fix}") from error


def _mirror(folder: str, writes: bool) -> Mirror | None:
    """Returns the local copies of a place that orbax cannot write to."""
    if not files.is_url(folder) or folder.startswith("gs://"):
        return None
    if jax.process_count() > 1:
        raise UserError(f"checkpoints of several hosts cannot be kept at {folder}: expected a shared folder or gs://")
    return Mirror(folder, writes=writes)


def _code(error: Exception) -> int:
    """Returns the operating system's number of an error, 0 where it is none of its own."""
    found = _ERRNO.search(str(error))
    return int(found.group(1)) if found else getattr(error, "errno", None) or 0


def _mend(error: Exception) -> str:
    return "free space or make it writable" if _code(error) > 0 else "look at the network and the storage"


def _reason(error: Exception) -> str:
    """Returns the operating system's words for it where it has some, or the first line of the error."""
    if _code(error) > 0:
        return os.strerror(_code(error))
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _quiet() -> None:
    """Keeps what threads of orbax and tensorstore say of an error off the terminal: it is raised, and told once."""
    for name in ("absl", "gcsfs", "asyncio"):
        logging.getLogger(name).addFilter(_is_news)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


def _unraisable(found: Any) -> None:
    """Tells of an error that nobody can catch, but not of writes that were under way when orbax gave up on one."""
    if "Event loop is closed" not in str(found.exc_value):
        sys.__unraisablehook__(found)


def _is_news(record: logging.LogRecord) -> bool:
    """Drops errors that are logged with tracebacks by several threads and raised too, and what is said of reading."""
    said = record.levelno >= logging.ERROR or "read only" in str(record.msg)
    return not (said and ("orbax" in record.pathname or record.name in ("gcsfs", "asyncio")))


def _laid(leaf: Any) -> jax.ShapeDtypeStruct:
    one: Any = jax.sharding.SingleDeviceSharding
    lies = getattr(leaf, "sharding", None) or one(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies)  # type: ignore[no-untyped-call]


def _only(**items: Any) -> Any:
    return ocp.args.Composite(**items)
