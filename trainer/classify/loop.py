"""Trains the probe and scores it; a run folder as `visent train` makes it, which the same command continues."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from manifests import files
from trainer import batches, hosts, memory
from trainer import mesh as meshes
from trainer.checkpoint import Checkpoints, Keep
from trainer.choosing import choose_kernel, choose_remat
from trainer.classify import model as probes
from trainer.classify.pictures import Pictures, find, pool_of
from trainer.classify.recipe import STAGE
from trainer.classify.step import Hits, Labelled, init_state, make_state, make_step
from trainer.config import RunConfig
from trainer.journal import Journal
from trainer.run_facts import RunFacts, check_same_run
from trainer.run_folder import RunFolder, open_run
from trainer.step import TrainState
from visent.errors import UserError
from visent.progress import Track, track

PIXELS = "pixels"  # stands where other runs name their tokenizer


def train(
    config: RunConfig, root: Path, out: str | Path, *, allow_other_settings: bool = False
) -> list[dict[str, Any]]:
    """Trains on `root/train`, scores on `root/val`, and returns the lines of eval.jsonl.

    Raises:
        UserError: folders, pictures or devices do not fit, `out` holds another run, or the loss is not finite.
    """
    assert config.classify is not None, "the recipe `classify` has one"
    training = find(root, "train")
    heldout = find(root, "val", training.classes)
    facts = RunFacts(config=config, lock_digest=training.digest, fingerprint=PIXELS, stage=STAGE)
    hosts.agree({**facts.to_json(), "pictures of val": heldout.digest})
    mesh, stage = meshes.make_mesh(config.compute), config.stages[STAGE]
    meshes.check_model(config.model, mesh)
    batches.check_divides(stage.batch_sentences, stage.microbatches, mesh, STAGE)
    folder = RunFolder(out)
    files.make_folder(out)
    hosts.check_shared(out)
    with Checkpoints(folder.checkpoints, Keep.of(config)) as checkpoints:
        if checkpoints.latest is not None:
            _check_same(checkpoints.facts(), facts, root, allow_other_settings=allow_other_settings)
        hosts.wait("checked")  # what the others still read is not written before
        if hosts.first():
            files.write_json(folder.config, {**facts.to_json(), "classes": list(training.classes)})
        with jax.set_mesh(mesh), memory.explained(config, STAGE, mesh):
            return _Run(facts, folder, checkpoints, mesh, training, heldout).all_steps()


def _check_same(old: RunFacts, new: RunFacts, root: Path, *, allow_other_settings: bool) -> None:
    check_same_run(old, new, {}, {}, allow_other_lock=True, allow_other_settings=allow_other_settings)
    if old.lock_digest != new.lock_digest:
        raise UserError(
            f"{root / 'train'} has other pictures or classes than when this run began: restore them, or use another "
            "--out folder"
        )


class _Run:
    """One call of `train`."""

    def __init__(
        self, facts: RunFacts, folder: RunFolder, checkpoints: Checkpoints, mesh: Mesh, training: Pictures,
        heldout: Pictures,
    ) -> None:  # fmt: skip
        assert facts.config.classify is not None
        self.facts, self.probe = facts, facts.config.classify
        self.config = _settled(facts.config, self.probe.positions, mesh)
        self.checkpoints, self.mesh, self.training, self.heldout = checkpoints, mesh, training, heldout
        self.stage = self.config.stages[STAGE]
        self.metrics = Journal(folder.metrics, writes=hosts.first())
        self.evaluations = Journal(folder.evaluations, writes=hosts.first())
        self.step, self.score = make_step(self.config, len(training.classes), mesh)

    def all_steps(self) -> list[dict[str, Any]]:
        """Runs the steps that are left, with what is due after each."""
        state = self._start()
        begin, steps = int(state.step), self.stage.steps
        for journal in (self.metrics, self.evaluations):
            journal.forget_after(begin)
        evaluated = hosts.from_first([line["step"] for line in self.evaluations.read()])
        if begin < steps:
            with track("classify", steps - begin, "steps") as bar, pool_of(self.probe) as pool:
                state = self._steps(state, begin, bar, pool)
        if steps not in evaluated:
            with pool_of(self.probe) as pool:
                self._evaluate(state, pool)
        self._flush()
        return self.evaluations.read()

    def _start(self) -> TrainState:
        classes = len(self.training.classes)
        if self.checkpoints.latest is not None:
            shapes = jax.eval_shape(partial(init_state, self.config, classes))
            return self.checkpoints.restore(meshes.placed(self.mesh, shapes))
        state = make_state(self.config, classes, self.mesh)
        if not self.config.start:
            return state
        trained = open_run(self.config.start).params(self.mesh)
        return state._replace(params=probes.with_layers_of(state.params, trained))

    def _steps(self, state: TrainState, begin: int, bar: Track, pool: Any) -> TrainState:
        began, at, wait = time.monotonic(), begin, 0.0
        with contextlib.closing(
            batches.read_ahead(partial(self._batch, pool), range(begin, self.stage.steps))
        ) as reads:
            for step in range(begin + 1, self.stage.steps + 1):
                asked = time.monotonic()
                batch = next(reads)
                wait += time.monotonic() - asked
                state, facts = self.step(state, batch)
                last = step == self.stage.steps
                saves = last or step % self.config.checkpoint_every == 0
                if saves or step % self.config.log_every == 0:
                    found = {name: float(value) for name, value in facts._asdict().items()}
                    seconds = time.monotonic() - began
                    self._log(step, found, (step - at) / seconds, wait / seconds)
                    bar.advance(0, f"loss {found['loss']:.3f}")
                    began, at, wait = time.monotonic(), step, 0.0
                if self.config.evaluate_every and step % self.config.evaluate_every == 0 and not last:
                    paused = time.monotonic()
                    self._evaluate(state, pool)
                    began += time.monotonic() - paused
                if saves:  # after the evaluation: a run that goes on from here has it
                    self._flush()
                    self.checkpoints.save(state, self.facts)
                bar.advance(1)
        return state

    def _flush(self) -> None:
        """Makes sure that the journals are stored, where that needs an upload."""
        for journal in (self.metrics, self.evaluations):
            journal.flush()

    def _log(self, step: int, found: Mapping[str, float], steps_per_second: float, wait: float) -> None:
        if not all(map(np.isfinite, found.values())):
            raise UserError(
                f"loss is {found['loss']}, gradient norm {found['gradient_norm']} at step {step}: the last good "
                f"checkpoint, step {self.checkpoints.latest or 0}, is kept; go on from it with a lower rate, as --set "
                f"stages.{STAGE}.learning_rate={self.stage.learning_rate / 3:.2g} --allow-other-settings"
            )
        speed = steps_per_second * self.stage.batch_sentences
        self.metrics.write({"stage": STAGE, "step": step, **found, "pictures_per_second": speed,
                            "input_wait": wait})  # fmt: skip

    def _batch(self, pool: Any, step: int) -> Labelled:
        size, seed = self.stage.batch_sentences, self.config.seed
        rows = batches.own_rows(self.mesh, size)
        numbers, epochs = (part[rows] for part in self.training.numbers(step, size, seed))
        crops = self.training.crops(numbers.tolist(), epochs.tolist(), self.probe, pool, seed)
        own = Labelled(crops, self.training.labels[numbers])
        laid: Labelled = batches.spread(self.mesh, rows, size, own)
        return laid

    def _evaluate(self, state: TrainState, pool: Any) -> None:
        """Writes one line of eval.jsonl: accuracy over all of `val`."""
        size = self.stage.batch_sentences // self.stage.microbatches
        rows = batches.own_rows(self.mesh, size)
        sums = np.zeros(len(Hits._fields))
        for numbers, count in _padded(len(self.heldout.names), size):
            mine = numbers[rows]
            own = Labelled(self.heldout.middles(mine.tolist(), self.probe, pool), self.heldout.labels[mine])
            hits = self.score(state.params, batches.spread(self.mesh, rows, size, own))
            sums += [float(np.asarray(part)[:count].sum(dtype=np.float64)) for part in hits]
        loss, first, five = (sums / len(self.heldout.names)).tolist()
        self.evaluations.write({"stage": STAGE, "step": int(state.step), "pictures": len(self.heldout.names),
                                "loss": loss, "accuracy": first, "accuracy_of_five": five})  # fmt: skip


def _padded(count: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the numbers of each batch, the last one filled up with number 0, and how many of them count."""
    for start in range(0, count, size):
        numbers = np.arange(start, min(start + size, count))
        yield np.pad(numbers, (0, size - len(numbers))), len(numbers)


def _settled(config: RunConfig, positions: int, mesh: Mesh) -> RunConfig:
    """Returns the configuration with nothing of its computing left open, and says how it is."""
    stage = dataclasses.replace(config.stages[STAGE], context=positions)
    compute, kernel = choose_kernel(config.model, config.compute, positions, mesh)
    compute, remat = choose_remat(config.model, compute, stage, mesh)
    if hosts.first():
        print(f"{STAGE}: {kernel}; {remat}", file=sys.stderr, flush=True)
    return dataclasses.replace(config, compute=compute)
