"""A protocol made from what a run was trained on: a part for each task of its last stage that has held-out rows."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from manifests.lock import Lock, LockedTask
from manifests.sentence import Grammar
from trainer.protocols.part import FigureName, Part, Protocol
from visent.errors import UserError

IMAGES: tuple[FigureName, ...] = ("fid", "is", "psnr", "ssim")
CLIPS: tuple[FigureName, ...] = ("fvd", "clip-is", "psnr", "ssim")
SPLIT = "val"


class ByTasks(NamedTuple):
    """The protocol, where its data lies by name, and why tasks have no part."""

    protocol: Protocol
    folders: dict[str, str]
    notes: tuple[str, ...]


def by_tasks(lock: Lock, stages: Sequence[str], has_legend: Callable[[str, str], bool]) -> ByTasks:
    """Makes the parts of the last of a run's `stages`.

    Clips are continued after a third of a sentence's frames. Pairs are made from their first image after one pair as
    prompt: pictures of any kind, and label maps where `has_legend(dataset, role)` says that the role is one. Of single
    images the lower half is made.

    Raises:
        UserError: no task has a part.
    """
    stage = lock.stage([name for name in stages if name in lock.stages][-1])
    parts, notes = [], []
    for locked in stage.tasks:
        made = _part(lock, stage.name, locked, has_legend)
        if isinstance(made, Part):
            parts.append(made)
        else:
            notes.append(f"task {locked.task.name!r} has no part: {made}")
    if not parts:
        raise UserError(f"stage {stage.name!r} has no task to judge: {'; '.join(notes)}")
    return ByTasks(
        Protocol(name="tasks", about=f"the tasks of stage {stage.name!r}, on their held-out rows", parts=tuple(parts)),
        {part.data: lock.folder(part.data) for part in parts},
        tuple(notes),
    )


def _part(lock: Lock, stage: str, locked: LockedTask, has_legend: Callable[[str, str], bool]) -> Part | str:
    """Returns the part of a task, or why it has none."""
    task = locked.task
    count = locked.splits.get(SPLIT)
    if count is None or not count.eligible:
        return f"dataset {task.dataset!r} has no held-out rows for it; tokenize it with --holdout"
    roles, kinds = task.sentence, [lock.datasets[task.dataset].roles[role] for role in task.sentence]
    if kinds == ["clip"]:
        return _clips(locked, lock.grammar(stage, task.name))
    if kinds == ["still"]:
        return Part(name=task.name, data=task.dataset, kind="halves", made=roles[0], figures=IMAGES)
    if kinds != ["still", "still"]:
        return f"only clips, single images and pairs of images are judged, not {' and '.join(roles)}"
    labels = has_legend(task.dataset, roles[1])
    return Part(
        name=task.name,
        data=task.dataset,
        kind="labels" if labels else "images",
        given=roles[0],
        made=roles[1],
        figures=_figures_of_pair(locked, labels),
        pairs=min(1, locked.images_per_sentence // 2 - 1),
    )


def _clips(locked: LockedTask, grammar: Grammar) -> Part | str:
    task, frames = locked.task, grammar.frames_per_clip
    if frames < 2:
        return "its sentences have one frame of a clip each"
    given = max(1, frames // 3)
    return Part(name=task.name, data=task.dataset, kind="clips", made=task.sentence[0], figures=CLIPS,
                frames_given=given, frames_made=frames - given)  # fmt: skip


def _figures_of_pair(locked: LockedTask, labels: bool) -> tuple[FigureName, ...]:
    if labels:
        return ("miou", "fid")
    return IMAGES if locked.task.kind == "generative" else ("psnr", "ssim", "fid")
