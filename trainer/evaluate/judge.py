"""The work of `visent evaluate`: a trained run and a split in, scores of every stage's tasks out."""

import dataclasses
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from manifests import files
from manifests.corpus import Corpus
from manifests.lock import Lock
from trainer import batches
from trainer import model as llama
from trainer.choosing import choose_kernel
from trainer.config import ComputeConfig
from trainer.evaluate import heldout, plots
from trainer.evaluate.scores import TaskScore
from trainer.evaluate.tokens import make_evaluation
from trainer.memory import advised
from trainer.mesh import batch_parts, make_mesh
from trainer.run_folder import SavedRun
from visent import __version__
from visent.errors import UserError
from visent.progress import track


@dataclass(frozen=True, kw_only=True)
class StageScores:
    """The scores of a stage's tasks; `missing` are those of which the split has no row."""

    tasks: Mapping[str, TaskScore]
    missing: list[str]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was evaluated, on what."""

    step: int
    split: str
    lock_digest: str
    stages: Mapping[str, StageScores]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        stages = {
            name: {
                "per_task": {task: score.to_json() for task, score in found.tasks.items()},
                "without_rows": found.missing,
            }
            for name, found in self.stages.items()
        }
        return {"step": self.step, "split": self.split, "lock_digest": self.lock_digest, "version": __version__,
                "stages": stages}  # fmt: skip


def judge(
    run: SavedRun,
    lock: Lock,
    compute: ComputeConfig,
    *,
    stages: Sequence[str],
    split: str,
    sentences: int,
    batch: int | None = None,
) -> Judged:
    """Scores a checkpoint of a run on at most `sentences` of each task of `stages`, `batch` at a time.

    Raises:
        UserError: the lock has codes of another tokenizer, or lacks a stage or the split.
    """
    return judge_each([run], lock, compute, stages=stages, split=split, sentences=sentences, batch=batch)[0]


def judge_each(
    runs: Sequence[SavedRun],
    lock: Lock,
    compute: ComputeConfig,
    *,
    stages: Sequence[str],
    split: str,
    sentences: int,
    batch: int | None = None,
) -> list[Judged]:
    """Scores several checkpoints of one run as `judge` does, all on the same sentences.

    Raises:
        UserError: as `judge` does.
    """
    run = runs[0]
    if lock.card.fingerprint != run.facts.fingerprint:
        raise UserError(
            f"the run was trained on tokens of tokenizer {run.facts.fingerprint}, the manifest has those of "
            f"{lock.card.fingerprint}: evaluate it on shards of its own tokenizer"
        )
    names = list(stages) or [name for name in run.config.stages if name in lock.stages] or list(lock.stages)
    mesh = make_mesh(compute)
    chosen = choose_kernel(run.config.model, compute, max(lock.stage(name).context for name in names), mesh)
    print(chosen.line, file=sys.stderr, flush=True)
    corpus = Corpus(lock, split=split)
    with (
        jax.set_mesh(mesh),
        advised("while evaluating", "use a smaller --batch, or --set compute.loss_chunk_tokens=1024"),
    ):
        held = {name: heldout.read(corpus, name, sentences) for name in names}
        if not any(len(read.codes) for read in held.values()):
            raise UserError(
                f"no task of stages {', '.join(names)} has a row in split {split!r}: tokenize their datasets with "
                "--holdout, or name another --split"
            )
        evaluate = make_evaluation(run.config.model, chosen.compute, mesh)
        found = [_stages(each, held, evaluate, mesh, batch) for each in runs]
    return [Judged(step=each.step, split=split, lock_digest=lock.digest, stages=stages)
            for each, stages in zip(runs, found, strict=True)]  # fmt: skip


def _stages(
    run: SavedRun, held: Mapping[str, heldout.Heldout], evaluate: Any, mesh: Mesh, batch: int | None
) -> dict[str, StageScores]:
    params = run.params(mesh)  # of one checkpoint at a time
    return {name: _stage(name, read, run, evaluate, params, mesh, batch) for name, read in held.items()}


def _stage(
    name: str, held: heldout.Heldout, run: SavedRun, evaluate: Any, params: llama.Params, mesh: Mesh, batch: int | None
) -> StageScores:
    put = partial(batches.spread_whole, mesh)
    size = heldout.batch_size(held, batch_parts(mesh), batch)
    with track(f"evaluate {name}", len(held.codes), "sentences") as bar:
        scores = heldout.score(held, run.config.model, evaluate, params, size, put, bar.advance)
    return StageScores(tasks=scores, missing=held.missing)


def here(compute: ComputeConfig) -> ComputeConfig:
    """Returns how a run is evaluated on the devices at hand, which need not be those that trained it."""
    return dataclasses.replace(compute, data=0, fsdp=1, tensor=1, attention="auto", remat="none")


def write(judged: Judged, out: str | Path) -> list[str]:
    """Writes the scores as JSON and a picture for each stage; returns their names.

    Raises:
        UserError: they cannot be written.
    """
    files.make_folder(out)
    base = f"step-{judged.step}-{judged.split}"
    written = [files.join(out, f"{base}.json")]
    files.write_json(written[0], judged.to_json())
    for name, found in judged.stages.items():
        if found.tasks:
            data = io.BytesIO()
            plots.by_position(found.tasks, f"{name}, step {judged.step}, split {judged.split}").save(data, "PNG")
            written.append(files.join(out, f"{base}-{name}.png"))
            files.write_bytes(written[-1], data.getvalue())
    return written
