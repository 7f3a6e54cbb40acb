"""The training run: its stages in order, with metrics, held-out evaluation, checkpoints and exact resume."""

from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from manifests import files
from manifests.corpus import Corpus
from manifests.lock import Lock, load_lock
from trainer import batches
from trainer.checkpoint import Checkpoints, Keep
from trainer.config import RunConfig
from trainer.journal import Journal
from trainer.mesh import layout, make_mesh
from trainer.plan import fit
from trainer.run_facts import RunFacts, check_same_run
from trainer.run_folder import RunFolder
from trainer.stage import Stage
from trainer.step import TrainState, init_state, make_evaluation


def train(
    config: RunConfig,
    lock: Lock,
    out: str | Path,
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
    mesh = make_mesh(config.compute)
    for name, stage in config.stages.items():
        batches.check_divides(stage.batch_sentences, stage.microbatches, mesh, name)
    folder = RunFolder(out)
    files.make_folder(out)
    facts = RunFacts(config=config, lock_digest=lock.digest, fingerprint=lock.card.fingerprint)
    with Checkpoints(folder.checkpoints, Keep.of(config)) as checkpoints:
        if checkpoints.latest is not None:
            old_lock = load_lock(folder.lock).to_json() if files.exists(folder.lock) else {}
            check_same_run(
                checkpoints.facts(),
                facts,
                old_lock,
                lock.to_json(),
                allow_other_lock=allow_other_lock,
                allow_other_settings=allow_other_settings,
            )
        folder.write(facts, lock)
        run = Run(facts, lock, folder, checkpoints, mesh)
        with jax.set_mesh(mesh):
            run.all_stages()
        return run.evaluations.read()


class Run:
    """One call of `train`: what stays the same over its stages."""

    def __init__(self, facts: RunFacts, lock: Lock, folder: RunFolder, checkpoints: Checkpoints, mesh: Mesh) -> None:
        self.facts, self.config, self.lock, self.mesh = facts, facts.config, lock, mesh
        self.checkpoints = checkpoints
        self.metrics, self.evaluations = Journal(folder.metrics), Journal(folder.evaluations)
        self.corpus, self.heldout = Corpus(lock), _heldout_corpus(lock)
        self.evaluate = make_evaluation(self.config.model, self.config.compute, mesh)

    def all_stages(self) -> None:
        """Trains what is left of every stage."""
        state = self._start()
        first = 0
        for name, stage in self.config.stages.items():
            if state.step < first + stage.steps or not self.is_evaluated(first + stage.steps):
                state = Stage(self, name, stage, first).train(state)
            first += stage.steps

    def _start(self) -> TrainState:
        """Returns the newest checkpoint's state, or a fresh one; later lines of the journals are forgotten."""
        step = self.checkpoints.latest
        for journal in (self.metrics, self.evaluations):
            journal.forget_after(step or 0)
        shapes = jax.eval_shape(lambda: init_state(self.config))
        lies = layout(self.mesh, shapes)
        if step is None:
            fresh: TrainState = jax.device_put(init_state(self.config), lies)
            return fresh
        place: Any = jax.ShapeDtypeStruct
        placed = jax.tree.map(lambda x, on: place(x.shape, x.dtype, sharding=on), shapes, lies)
        return self.checkpoints.restore(placed)

    def is_evaluated(self, step: int) -> bool:
        """Returns whether the evaluation of a stage that ends at `step` is written."""
        return any(line["step"] == step for line in self.evaluations.read())


def _heldout_corpus(lock: Lock) -> Corpus | None:
    """Returns the reader of split "val", or None where no dataset has one."""
    has_one = any(shard.split == "val" for dataset in lock.datasets.values() for shard in dataset.shards)
    return Corpus(lock, split="val") if has_one else None
