"""The training run: its stages in order, with metrics, held-out evaluation, checkpoints and exact resume."""

import contextlib
import dataclasses
import functools
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from manifests.corpus import Corpus
from manifests.lock import Lock, load_lock, write_lock
from trainer import batches
from trainer.checkpoint import Checkpoints, RunFacts, check_same_run
from trainer.config import RunConfig, StageConfig
from trainer.evaluate import heldout
from trainer.journal import Journal
from trainer.metrics import Diverged, Window
from trainer.plan import RunFolder, fit
from trainer.step import TrainState, begin_stage, init_state, make_evaluation, make_step
from visent import __version__
from visent.errors import UserError
from visent.progress import Track, track


def train(
    config: RunConfig,
    lock: Lock,
    out: Path,
    *,
    allow_other_lock: bool = False,
    allow_other_settings: bool = False,
) -> list[dict[str, Any]]:
    """Trains all stages, or goes on from the newest checkpoint in `out`; returns the lines of eval.jsonl.

    Batches, and on one machine also losses, are the same whether the run was interrupted or not.

    Raises:
        UserError: the configuration does not fit the lock or the devices, `out` holds another run, a file cannot be
            written, or the loss is no longer finite.
    """
    config = fit(config, lock)
    mesh = batches.data_mesh()
    for name, stage in config.stages.items():
        batches.check_divides(stage.batch_sentences, mesh, f"stages.{name}.batch_sentences")
    folder = _make_folder(out)
    facts = RunFacts(config=config, lock_digest=lock.digest, fingerprint=lock.card.fingerprint)
    with Checkpoints(folder.checkpoints, config.keep_checkpoints) as checkpoints:
        if checkpoints.latest is not None:
            old_lock = load_lock(str(folder.lock)).to_json() if folder.lock.exists() else {}
            check_same_run(
                checkpoints.facts(),
                facts,
                old_lock,
                lock.to_json(),
                allow_other_lock=allow_other_lock,
                allow_other_settings=allow_other_settings,
            )
        _write_run(folder, facts, lock)
        run = _Run(facts, lock, folder, checkpoints, mesh)
        run.all_stages()
        return run.evaluations.read()


def _make_folder(out: Path) -> RunFolder:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made ({error}): choose a folder that can be written") from error
    return RunFolder(out)


def _write_run(folder: RunFolder, facts: RunFacts, lock: Lock) -> None:
    text = json.dumps({**facts.to_json(), "version": __version__, "card": lock.card.to_json()}, indent=2)
    temporary = folder.config.with_suffix(".tmp")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(folder.config)
    write_lock(str(folder.lock), lock)


class _Run:
    """One call of `train`: what stays the same over its stages."""

    def __init__(self, facts: RunFacts, lock: Lock, folder: RunFolder, checkpoints: Checkpoints, mesh: Mesh) -> None:
        self.facts, self.config, self.lock, self.mesh = facts, facts.config, lock, mesh
        self.checkpoints = checkpoints
        self.metrics, self.evaluations = Journal(folder.metrics), Journal(folder.evaluations)
        self.corpus, self.heldout = Corpus(lock), _heldout_corpus(lock)
        self.evaluate = make_evaluation(self.config.model, self.config.loss_chunk_tokens)

    def all_stages(self) -> None:
        """Trains what is left of every stage."""
        state = self._start()
        first = 0
        for name, stage in self.config.stages.items():
            if state.step < first + stage.steps or not self._is_evaluated(first + stage.steps):
                state = _Stage(self, name, stage, first).train(state)
            first += stage.steps

    def _start(self) -> TrainState:
        """Returns the newest checkpoint's state, or a fresh one; later lines of the journals are forgotten."""
        whole = batches.replicated(self.mesh)
        step = self.checkpoints.latest
        for journal in (self.metrics, self.evaluations):
            journal.forget_after(step or 0)
        if step is None:
            fresh: TrainState = jax.device_put(init_state(self.config), whole)
            return fresh
        shapes = jax.eval_shape(lambda: init_state(self.config))
        shape_on: Any = functools.partial(jax.ShapeDtypeStruct, sharding=whole)
        return self.checkpoints.restore(jax.tree.map(lambda x: shape_on(x.shape, x.dtype), shapes))

    def _is_evaluated(self, step: int) -> bool:
        return any(line["step"] == step for line in self.evaluations.read())


class _Stage:
    """One stage of a run; `first` is the run's step at which it begins."""

    def __init__(self, run: _Run, name: str, config: StageConfig, first: int) -> None:
        self.run, self.name, self.config, self.first = run, name, config, first
        self.last = first + config.steps
        self.tasks = run.corpus.task_names(name)
        self.window = Window(self.tasks)
        self.wait_seconds = 0.0
        self.heldout: heldout.Heldout | None = None

    def train(self, state: TrainState) -> TrainState:
        """Runs the steps that are left, and the evaluation at the end if it is missing."""
        begin = int(state.step)
        if begin == self.first:
            state = begin_stage(state, self.config)
        if begin < self.last:
            with track(self.name, self.last - begin, "steps") as bar, _explained(self):
                state = self._steps(state, begin, bar)
        if not self.run._is_evaluated(self.last):
            self._evaluate(state, self.last)
        return state

    def _steps(self, state: TrainState, begin: int, bar: Track) -> TrainState:
        with contextlib.closing(batches.read_ahead(self._batch, range(begin, self.last))) as waiting:
            step_function = None
            for step in range(begin + 1, self.last + 1):
                batch = self._next(waiting)
                if step_function is None:
                    bar.advance(0, "compiling")
                    made = make_step(self.run.config, self.config, self.first, len(self.tasks))
                    step_function = made.lower(state, *batch).compile()
                    self.window.restart_clock()
                    self.wait_seconds = 0.0
                state, metrics = step_function(state, *batch)
                self.window.add(step, metrics)
                self._report(state, step)
                bar.advance(1, f"loss {self.window.loss:.3f}" if math.isfinite(self.window.loss) else "")
        return state

    def _batch(self, step: int) -> tuple[Any, Any]:
        step, size, seed = step - self.first, self.config.batch_sentences, self.run.config.seed
        batches.prefetch(self.run.corpus, self.name, step + batches.FETCHED_AHEAD, size, seed)
        codes, tasks = batches.batch(self.run.corpus, self.name, step, size, seed)
        over = batches.split_over(self.run.mesh)
        return jax.device_put(codes, over), jax.device_put(tasks, over)

    def _next(self, waiting: Iterator[tuple[Any, Any]]) -> tuple[Any, Any]:
        began = time.monotonic()
        batch = next(waiting)
        self.wait_seconds += time.monotonic() - began
        return batch

    def _report(self, state: TrainState, step: int) -> None:
        """Writes what is due after `step`: a line of metrics, a checkpoint, an evaluation."""
        config, done, last = self.run.config, step - self.first, step == self.last
        saves = last or step % config.checkpoint_every == 0
        if saves or done % config.log_every == 0:
            line = self.window.flush(self.wait_seconds)
            self.wait_seconds = 0.0
            self.run.metrics.write({"stage": self.name, "step": step, "stage_step": done, **line})
        if saves:
            self.run.checkpoints.save(state, dataclasses.replace(self.run.facts, stage=self.name))
        evaluates = config.evaluate_every and done % config.evaluate_every == 0 and not last
        if evaluates:
            self._evaluate(state, step)
        if saves or evaluates:
            self.window.restart_clock()

    def _evaluate(self, state: TrainState, step: int) -> None:
        """Writes one line of eval.jsonl."""
        if self.heldout is None and self.run.heldout is not None:
            self.heldout = heldout.read(self.run.heldout, self.name, self.run.config.evaluate_sentences)
        found = self.heldout
        scores: Mapping[str, heldout.TaskScore] = {}
        if found is not None and len(found.codes):
            size = min(self.config.batch_sentences, -(-len(found.codes) // self.run.mesh.size) * self.run.mesh.size)
            scores = heldout.score(found, self.run.evaluate, state.params, size, self._put)
        line = {
            "stage": self.name,
            "step": step,
            "stage_step": step - self.first,
            "per_task": {task: score.to_json() for task, score in scores.items()},
            "without_heldout": self.tasks if found is None else found.missing,
        }
        self.run.evaluations.write(line)

    def _put(self, codes: np.ndarray) -> Any:
        return jax.device_put(codes, batches.split_over(self.run.mesh))


def _heldout_corpus(lock: Lock) -> Corpus | None:
    """Returns the reader of split "val", or None where no dataset has one."""
    has_one = any(shard.split == "val" for dataset in lock.datasets.values() for shard in dataset.shards)
    return Corpus(lock, split="val") if has_one else None


@contextlib.contextmanager
def _explained(stage: _Stage) -> Iterator[None]:
    """Turns divergence and a stop by the user into one line that says where the run stands."""
    try:
        yield
    except Diverged as diverged:
        kept = f"the last good checkpoint, step {stage.run.checkpoints.latest or 0}, is kept"
        start = (diverged.step - 1 - stage.first) * stage.config.batch_sentences
        raise UserError(
            f"{diverged.what} is {diverged.value} at step {diverged.step} (stage {stage.name!r}, sentences {start} to "
            f"{start + stage.config.batch_sentences - 1}): {kept}; to go on from it use a lower rate, as "
            f"--set stages.{stage.name}.learning_rate={stage.config.learning_rate / 3:.2g} --allow-other-settings"
        ) from diverged
    except KeyboardInterrupt:
        raise UserError(f"stopped; the same command goes on from step {stage.run.checkpoints.latest or 0}") from None
