"""The training run: its stages in order, with metrics, held-out evaluation, checkpoints and exact resume."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from manifests import files
from manifests.corpus import Corpus
from manifests.lock import Lock, load_lock
from tokenizer.tokenizer import Tokenizer
from trainer import batches, hosts, memory
from trainer.checkpoint import Checkpoints, Keep
from trainer.choosing import choose_kernel
from trainer.config import RunConfig
from trainer.evaluate.tokens import make_evaluation
from trainer.journal import Journal
from trainer.mesh import check_model, make_mesh
from trainer.plan import fit
from trainer.run_facts import RunFacts, check_same_run
from trainer.run_folder import RunFolder
from trainer.sampling import load_tokenizer
from trainer.stage import Stage
from trainer.start import first_state
from trainer.step import TrainState, placed_shapes
from trainer.teacher import Lessons, open_lessons
from trainer.tensorboard import Board
from visent.errors import UserError


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
    lessons = open_lessons(config, lock)
    facts = RunFacts(
        config=config, lock_digest=lock.digest, fingerprint=lock.card.fingerprint, teacher=lessons.identity
    )
    hosts.agree(facts.to_json())
    mesh = make_mesh(config.compute)
    check_model(config.model, mesh)
    for name, stage in config.stages.items():
        batches.check_divides(stage.batch_sentences, stage.microbatches, mesh, name)
    folder = RunFolder(out)
    files.make_folder(out)
    hosts.check_shared(out)
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
        hosts.wait("checked")  # what the others still read is not written before
        if hosts.first():
            folder.write(facts, lock)
        run = Run(facts, lock, folder, checkpoints, mesh, lessons)
        with jax.set_mesh(mesh), contextlib.closing(run.board):
            run.all_stages()
        run.flush()
        return run.evaluations.read()


class Run:
    """One call of `train`: what stays the same over its stages."""

    def __init__(
        self,
        facts: RunFacts,
        lock: Lock,
        folder: RunFolder,
        checkpoints: Checkpoints,
        mesh: Mesh,
        lessons: Lessons,
    ) -> None:
        self.facts, self.lock, self.mesh = facts, lock, mesh
        self.config, self.kernel = _with_kernel(facts.config, mesh)
        self.lessons = lessons
        self.folder, self.checkpoints = folder, checkpoints
        self.metrics = Journal(folder.metrics, writes=hosts.first())
        self.evaluations = Journal(folder.evaluations, writes=hosts.first())
        self.board = Board(folder.tensorboard, json.dumps(self.config.to_json(), indent=1), writes=hosts.first())
        self.corpus, self.heldout = Corpus(lock), _heldout_corpus(lock)
        self.tokenizer = _decoder(self.config, lock, self.heldout) if _draws(self.config) else None
        self.evaluate = make_evaluation(self.config.model, self.config.compute, mesh)

    def all_stages(self) -> None:
        """Trains what is left of every stage."""
        with memory.explained(self.config, next(iter(self.config.stages)), self.mesh):
            state: TrainState = jax.block_until_ready(self._start())  # type: ignore[no-untyped-call]
            self.taught = self.lessons.load(self.facts.config, self.mesh)
        first = 0
        for name, stage in self.config.stages.items():
            last = first + stage.steps
            if state.step < last or (state.step == last and not self.is_evaluated(last)):
                with memory.explained(self.config, name, self.mesh):
                    state = Stage(self, name, stage, first).train(state)
            first = last

    def _start(self) -> TrainState:
        """Returns the newest checkpoint's state, or a fresh one; later lines of the journals are forgotten."""
        step = self.checkpoints.latest
        for journal in (self.metrics, self.evaluations, self.board):
            journal.forget_after(step or 0)
        self._evaluated = set(hosts.from_first([line["step"] for line in self.evaluations.read()]))
        if step is None:
            return first_state(self.config, self.lock, self.mesh)
        return self.checkpoints.restore(placed_shapes(self.config, self.mesh))

    def save(self, state: TrainState, stage: str) -> None:
        """Begins to write a checkpoint; what the journals say of the steps before it is safe first."""
        self.flush()
        self.checkpoints.save(state, dataclasses.replace(self.facts, stage=stage))

    def flush(self) -> None:
        """Makes sure that the journals are stored, where that needs an upload."""
        for journal in (self.metrics, self.evaluations, self.board):
            journal.flush()

    def is_evaluated(self, step: int) -> bool:
        """Returns whether the evaluation of a stage that ends at `step` was written when this call began."""
        return step in self._evaluated


def _with_kernel(config: RunConfig, mesh: Mesh) -> tuple[RunConfig, str]:
    """Returns the configuration with its kernel of attention named, and a line about it."""
    longest = max(stage.context or 0 for stage in config.stages.values())
    compute, line = choose_kernel(config.model, config.compute, longest, mesh)
    return dataclasses.replace(config, compute=compute), line


def _heldout_corpus(lock: Lock) -> Corpus | None:
    """Returns the reader of split "val", or None where no dataset has one."""
    has_one = any(shard.split == "val" for dataset in lock.datasets.values() for shard in dataset.shards)
    return Corpus(lock, split="val") if has_one else None


def _draws(config: RunConfig) -> str:
    """Returns the setting that asks for generated images, "" where none does."""
    return next((name for name in ("sample_every", "figures_every") if getattr(config, name)), "")


def _decoder(config: RunConfig, lock: Lock, heldout: Corpus | None) -> Tokenizer:
    """Returns the tokenizer that draws samples, before anything is trained that would have none.

    Raises:
        UserError: it is another one than the shards', or no dataset has held-out rows to begin samples with.
    """
    if heldout is None:
        setting = _draws(config)
        raise UserError(
            f"{setting} is {getattr(config, setting)}, but no dataset has held-out rows to continue: tokenize one with "
            f"--holdout, or use --set {setting}=0"
        )
    return load_tokenizer(config.tokenizer, lock)
