"""What an ordered run forgets: every task's held-out loss where each stage ended."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manifests.lock import Lock
from trainer.checkpoint import Keep
from trainer.config import ComputeConfig
from trainer.evaluate.judge import Judged, judge_each
from trainer.evaluate.scores import perplexity
from trainer.protocols.plots import Line, lines
from trainer.protocols.tables import Grid
from trainer.run_folder import open_run, steps_of
from visent.errors import UserError

ABOUT = (
    "Every task's held-out sentences, scored where each stage ended. Forgotten is the loss at the end less the least "
    "loss so far: 0 where the last checkpoint is the best one."
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One task at one checkpoint."""

    sentences: int
    loss: float  # nats per token
    accuracy: float

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that overflows."""
        return perplexity(self.loss)


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """A matrix of checkpoints and tasks; a task is that of the stage that trains it first."""

    stages: tuple[str, ...]  # that end at each checkpoint
    steps: tuple[int, ...]  # of the checkpoints
    tasks: Mapping[str, str]  # name -> stage
    scores: tuple[Mapping[str, Score], ...]  # of each checkpoint, by task
    notes: tuple[str, ...] = ()

    def forgotten(self, task: str) -> float:
        """Returns a task's loss at the end less the least so far, nats per token."""
        losses = [found[task].loss for found in self.scores]
        return losses[-1] - min(losses)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        scores = [{task: {**asdict(score), "perplexity": score.perplexity} for task, score in found.items()}
                  for found in self.scores]  # fmt: skip
        forgotten = {task: self.forgotten(task) for task in self.tasks}
        return {"stages": list(self.stages), "steps": list(self.steps), "tasks": dict(self.tasks), "scores": scores,
                "forgotten": forgotten, "notes": list(self.notes)}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Forgetting":
        """Reads `to_json`'s form."""
        scores = tuple({task: Score(sentences=score["sentences"], loss=float(score["loss"]),
                               accuracy=float(score["accuracy"]))
                        for task, score in found.items()} for found in data["scores"])  # fmt: skip
        return cls(stages=tuple(data["stages"]), steps=tuple(data["steps"]), tasks=dict(data["tasks"]), scores=scores,
                   notes=tuple(data["notes"]))  # fmt: skip


def measure(
    root: str | Path,
    lock: Lock,
    compute: ComputeConfig,
    *,
    split: str = "val",
    sentences: int,
    batch: int | None = None,
) -> Forgetting:
    """Scores every checkpoint at a stage's end on at most `sentences` held-out sentences of every task.

    Raises:
        UserError: fewer than two stages have ended with a checkpoint that is still there, or no task has held-out rows.
    """
    newest = open_run(root)
    ends = dict(zip(Keep.of(newest.config).steps, newest.config.stages, strict=True))
    there = steps_of(root)
    kept = [step for step in ends if step in there]
    missing = {step: stage for step, stage in ends.items() if step not in there}
    gone = ", ".join(f"{step} ({stage})" for step, stage in missing.items())
    if len(ends) < 2:
        raise UserError(f"{root} has one stage, {next(iter(ends.values()))!r}: forgetting compares two or more, as "
                        "`visent train continual` makes them")  # fmt: skip
    if len(kept) < 2:
        raise UserError(
            f"{root} has checkpoints of steps {', '.join(map(str, there))}, of those at its stages' ends it lacks "
            f"{gone}: expected two or more; a run keeps them unless they are removed, and others with --set "
            "keep_every=N or keep_checkpoints=N"
        )
    runs = [open_run(root, step) for step in kept]
    judged = judge_each(runs, lock, compute, stages=list(newest.config.stages), split=split, sentences=sentences,
                        batch=batch)  # fmt: skip
    note = f"not there: checkpoints of steps {gone}" if missing else ""
    if note:
        print(note, file=sys.stderr, flush=True)
    return collect([ends[step] for step in kept], judged, [note] if note else [])


def collect(stages: Sequence[str], judged: Sequence[Judged], notes: Sequence[str] = ()) -> Forgetting:
    """Makes the matrix of what was scored at the ends of `stages`."""
    tasks: dict[str, str] = {}
    for stage, found in judged[0].stages.items():
        for task in found.tasks:
            tasks.setdefault(task, stage)
    without = {task: stage for stage, found in judged[0].stages.items() for task in found.missing if task not in tasks}
    scores = []
    for each in judged:
        found_here = {task: each.stages[stage].tasks[task] for task, stage in tasks.items()}
        scores.append({task: Score(sentences=score.sentences, loss=score.loss, accuracy=score.accuracy)
                       for task, score in found_here.items()})  # fmt: skip
    lacking = [f"task {task!r} of stage {stage!r} has no held-out rows" for task, stage in without.items()]
    return Forgetting(stages=tuple(stages), steps=tuple(each.step for each in judged), tasks=tasks,
                      scores=tuple(scores), notes=(*notes, *lacking))  # fmt: skip


def grids(found: Forgetting) -> list[Grid]:
    """Returns the matrix for loss, perplexity and accuracy, a row for each task, a column for each checkpoint."""
    heads = [f"after {stage} ({step})" for stage, step in zip(found.stages, found.steps, strict=True)]
    made = []
    for title, name, digits, times in (("Loss, nats a token", "loss", 4, 1.0), ("Perplexity", "perplexity", 2, 1.0),
                                       ("Accuracy, %", "accuracy", 2, 100.0)):  # fmt: skip
        grid = Grid(title=title, head=["task", "trained in", *heads], words=2)
        for task, stage in found.tasks.items():
            values = [times * getattr(scores[task], name) for scores in found.scores]
            grid.rows.append([task, stage, *(f"{value:,.{digits}f}" for value in values)])
        if name == "loss":
            grid.head.append("forgotten")
            for row in grid.rows:
                row.append(f"{found.forgotten(row[0]):.4f}")
        made.append(grid)
    made[-1].below = list(found.notes)
    return made


def plot(found: Forgetting) -> str:
    """Draws each task's loss over the checkpoints, as SVG."""
    places = [float(place) for place in range(len(found.steps))]
    curves = [Line(label=task, x=places, y=[scores[task].loss for scores in found.scores]) for task in found.tasks]
    ticks = [(place, f"after {stage}") for place, stage in zip(places, found.stages, strict=True)]
    return lines(curves, x="checkpoint", y="held-out loss, nats a token", ticks=ticks)
