"""Sentences to be continued: held-out ones of a task, also with a person's own picture as their last question."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16

from manifests.corpus import Corpus
from manifests.sentence import Grammar
from trainer.own_pictures import Pictures
from visent.errors import UserError, unknown


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Sentences cut into a prompt and what follows; `truth` is None where nobody knows it.

    A prompt may end within an image: the upper part of the image is then given and the rest generated.
    """

    name: str  # of what was asked for; files are called so
    prompt: UInt16[np.ndarray, "n p"]
    truth: UInt16[np.ndarray, "n new"] | None = None
    new_tokens: int
    labels: list[list[str]]  # of the images of each sentence, prompt first
    clips: list[list[int]] = dataclasses.field(default_factory=list)  # of each sentence, the images of its last clip
    fps: float = 5.0  # at which clips are played


def from_task(
    corpus: Corpus,
    stages: Sequence[str],
    task: str,
    count: int,
    *,
    prompt_images: int | None = None,
    shots: int | None = None,
    query: Pictures | None = None,
    seed: int = 0,
) -> Prompts:
    """Composes `count` sentences of a task, in the last of `stages` that has it, and cuts them.

    Of a task of pairs all but the last image is given: `shots` whole examples, as many as fit by default, and the
    beginning of one more, which `query` replaces. Of clips and single images the first third is given. `prompt_images`
    says it otherwise.

    Raises:
        UserError: no stage has the task, the split no row of it, the prompt fills the sentence, or `query` is of
            other images than an example begins with.
    """
    stage = _stage_of(corpus, stages, task)
    grammar, per_image = corpus.lock.grammar(stage, task), corpus.lock.card.tokens_per_image
    total, cut = _cut(grammar, task, shots, prompt_images)
    codes = corpus.task_sentences(stage, task, np.arange(count, dtype=np.int64), seed)[:, : total * per_image]
    slots = [corpus.describe(stage, task, number, seed)[:total] for number in range(count)]
    found = Prompts(
        name=task,
        prompt=codes[:, : cut * per_image],
        truth=codes[:, cut * per_image :],
        new_tokens=(total - cut) * per_image,
        labels=[[_label(slot["role"], slot["key"], slot["frame"]) for slot in sentence] for sentence in slots],
        clips=[_last_clip(sentence) for sentence in slots],
    )
    if query is None:
        return found
    asked = (total - 1) % _images_of_one(grammar) if len(grammar.roles) > 1 else 0
    if not asked or len(query.names) != asked or cut != total - 1:
        raise UserError(
            f"{len(query.names)} --query for task {task!r}: expected {asked or 'none'}, the images of an example "
            "before its last; continue single images with --prompt and clips with --clip"
        )
    return _with_query(found, query, [sentence[-1]["role"] for sentence in slots])


def _stage_of(corpus: Corpus, stages: Sequence[str], task: str) -> str:
    tasks = {stage: corpus.task_names(stage) for stage in stages}
    having = [stage for stage, names in tasks.items() if task in names]
    if not having:
        raise unknown("task", task, {name for names in tasks.values() for name in names})
    return having[-1]


def _images_of_one(grammar: Grammar) -> int:
    return int((grammar.example == 0).sum())


def _cut(grammar: Grammar, task: str, shots: int | None, prompt_images: int | None) -> tuple[int, int]:
    """Returns how many images of a sentence are used, and how many of these are given."""
    total, one = grammar.images_per_sentence, _images_of_one(grammar)
    if shots is not None:
        most = total // one - 1
        if len(grammar.roles) == 1 or not 0 <= shots <= most:
            fix = "use --prompt-images" if len(grammar.roles) == 1 else f"expected 0 to {most}"
            raise UserError(
                f"--shots is {shots}: a sentence of task {task!r} has {total // one} examples of "
                f"{' and '.join(grammar.roles)}; {fix}"
            )
        total = (shots + 1) * one
    cut = total - 1 if len(grammar.roles) > 1 else total // 3
    cut = cut if prompt_images is None else prompt_images
    if not 0 <= cut < total:
        raise UserError(
            f"--prompt-images is {cut}: a sentence of task {task!r} has {total} images, expected 0 to {total - 1}"
        )
    return total, cut


def _with_query(found: Prompts, query: Pictures, last_roles: Sequence[str]) -> Prompts:
    """Replaces the last given images: the examples before them show what to do with the query."""
    codes = np.broadcast_to(query.codes.reshape(-1), (len(found.prompt), query.codes.size))
    shown = found.prompt.shape[1] - codes.shape[1]
    examples = shown // query.codes.shape[1]  # images of them
    return dataclasses.replace(
        found,
        prompt=np.concatenate((found.prompt[:, :shown], codes), axis=1),
        truth=None,
        labels=[[*names[:examples], *query.names, role] for names, role in zip(found.labels, last_roles, strict=True)],
    )


def _last_clip(sentence: Sequence[dict[str, Any]]) -> list[int]:
    """Returns the images of the clip that the sentence ends with, if it does."""
    last = sentence[-1]
    of_last = [(at, slot) for at, slot in enumerate(sentence) if slot["example"] == last["example"]]
    return [at for at, slot in of_last if slot["frame"] is not None and slot["role"] == last["role"]]


def _label(role: str, key: str, frame: int | None) -> str:
    return f"{role} {Path(key).name}"[:24] + ("" if frame is None else f" #{frame}")
