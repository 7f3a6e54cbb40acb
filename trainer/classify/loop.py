"""Trains the probe and scores it; a run folder as `visent train` makes it, which the same command continues."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from manifests import files
from trainer import batches
from trainer import mesh as meshes
from trainer.checkpoint import Checkpoints, Keep
from trainer.classify import model as probes
from trainer.classify.pictures import Pictures, find, pool_of
from trainer.classify.recipe import STAGE
from trainer.classify.step import Hits, Labelled, init_state, make_step
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
    mesh, stage = meshes.make_mesh(config.compute), config.stages[STAGE]
    batches.check_divides(stage.batch_sentences, stage.microbatches, mesh, STAGE)
    training = find(root, "train")
    heldout = find(root, "val", training.classes)
    facts = RunFacts(config=config, lock_digest=training.digest, fingerprint=PIXELS, stage=STAGE)
    folder = RunFolder(out)
    with Checkpoints(folder.checkpoints, Keep.of(config)) as checkpoints:
        if checkpoints.latest is not None:
            check_same_run(checkpoints.facts(), facts, {}, {}, allow_other_settings=allow_other_settings)
        files.write_json(folder.config, {**facts.to_json(), "classes": list(training.classes)})
        with jax.set_mesh(mesh):
            return _Run(facts, folder, checkpoints, mesh, training, heldout).all_steps()


class _Run:
    """One call of `train`."""

    def __init__(
        self, facts: RunFacts, folder: RunFolder, checkpoints: Checkpoints, mesh: Mesh, training: Pictures,
        heldout: Pictures,
    ) -> None:  # fmt: skip
        assert facts.config.classify is not None
        self.facts, self.config, self.probe = facts, facts.config, facts.config.classify
        self.checkpoints, self.mesh, self.training, self.heldout = checkpoints, mesh, training, heldout
        self.stage = self.config.stages[STAGE]
        first = jax.process_index() == 0
        self.metrics = Journal(folder.metrics, writes=first)
        self.evaluations = Journal(folder.evaluations, writes=first)
        self.step, self.score = make_step(self.config, len(training.classes), mesh)

    def all_steps(self) -> list[dict[str, Any]]:
        """Runs the steps that are left, with what is due after each."""
        state = self._start()
        begin, steps = int(state.step), self.stage.steps
        for journal in (self.metrics, self.evaluations):
            journal.forget_after(begin)
        if begin < steps:
            with track("classify", steps - begin, "steps") as bar, pool_of(self.probe) as pool:
                state = self._steps(state, begin, bar, pool)
        if not any(line["step"] == steps for line in self.evaluations.read()):
            with pool_of(self.probe) as pool:
                self._evaluate(state, pool)
        return self.evaluations.read()

    def _start(self) -> TrainState:
        fresh = partial(init_state, self.config, len(self.training.classes))
        lies = meshes.layout(self.mesh, jax.eval_shape(fresh))
        if self.checkpoints.latest is not None:
            like = jax.tree.map(_placed, jax.eval_shape(fresh), lies)
            return self.checkpoints.restore(like)
        state = fresh()
        if self.config.start:
            trained = open_run(self.config.start).params()
            state = state._replace(params=probes.with_layers_of(state.params, trained))
        placed: TrainState = jax.device_put(state, lies)
        return placed

    def _steps(self, state: TrainState, begin: int, bar: Track, pool: Any) -> TrainState:
        began, at, wait = time.monotonic(), begin, 0.0
        with contextlib.closing(
            batches.read_ahead(partial(self._batch, pool), range(begin, self.stage.steps))
        ) as reads:
            for step in range(begin + 1, self.stage.steps + 1):
                asked = time.monotonic()
                batch = next(reads)
                wait += time.monotonic() - asked
                state, loss, rate = self.step(state, batch)
                saves = step == self.stage.steps or step % self.config.checkpoint_every == 0
                if saves or step % self.config.log_every == 0:
                    seconds = time.monotonic() - began
                    self._log(step, float(loss), float(rate), (step - at) / seconds, wait / seconds)
                    bar.advance(0, f"loss {float(loss):.3f}")
                    began, at, wait = time.monotonic(), step, 0.0
                if saves:
                    self.checkpoints.save(state, self.facts)
                if self.config.evaluate_every and step % self.config.evaluate_every == 0 and step < self.stage.steps:
                    self._evaluate(state, pool)
                    began = time.monotonic()
                bar.advance(1)
        return state

    def _log(self, step: int, loss: float, rate: float, steps_per_second: float, wait: float) -> None:
        if not np.isfinite(loss):
            raise UserError(
                f"loss is {loss} at step {step}: the last good checkpoint, step {self.checkpoints.latest or 0}, is "
                f"kept; go on from it with a lower rate, as --set stages.{STAGE}.learning_rate="
                f"{self.stage.learning_rate / 3:.2g} --allow-other-settings"
            )
        speed = steps_per_second * self.stage.batch_sentences
        self.metrics.write({"stage": STAGE, "step": step, "loss": loss, "learning_rate": rate,
                            "pictures_per_second": speed, "input_wait": wait})  # fmt: skip

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


def _placed(shape: Any, lies: Any) -> Any:
    place: Any = jax.ShapeDtypeStruct
    return place(shape.shape, shape.dtype, sharding=lies)
