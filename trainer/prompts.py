"""Where prompts come from: held-out sentences of a task, or a person's own image files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from manifests.corpus import Corpus
from manifests.lock import Lock
from tokenizer import images
from tokenizer.tokenizer import Tokenizer
from visent.errors import UserError, unknown


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Sentences cut into a prompt and what follows; `truth` is None where nobody knows it."""

    prompt: UInt16[np.ndarray, "n p"]
    truth: UInt16[np.ndarray, "n new"] | None
    new_tokens: int
    labels: list[list[str]]  # of every image of each sentence, prompt first: role and key


def from_task(
    lock: Lock, stages: Sequence[str], task: str, split: str, count: int, prompt_images: int | None, seed: int
) -> Prompts:
    """Composes `count` sentences of a task, in the last of `stages` that has it, and cuts them.

    `prompt_images` None cuts so that a pair task shows everything but its last image, a clip the first third, and a
    single image nothing.

    Raises:
        UserError: no stage has the task, the split no row of it, or the prompt fills the sentence.
    """
    having = [name for name in stages if task in [t.task.name for t in lock.stage(name).tasks]]
    if not having:
        raise unknown("task", task, {t.task.name for name in stages for t in lock.stage(name).tasks})
    stage = having[-1]
    corpus = Corpus(lock, split=split)
    grammar = lock.grammar(stage, task)
    total = grammar.images_per_sentence
    cut = _default_cut(len(grammar.roles), total) if prompt_images is None else prompt_images
    if not 0 <= cut < total:
        raise UserError(
            f"--prompt-images is {cut}: a sentence of task {task!r} has {total} images, expected 0 to {total - 1}"
        )
    codes = corpus.task_sentences(stage, task, np.arange(count, dtype=np.int64), seed)
    at = cut * lock.card.tokens_per_image
    slots = [corpus.describe(stage, task, number, seed) for number in range(count)]
    return Prompts(
        prompt=codes[:, :at],
        truth=codes[:, at:],
        new_tokens=codes.shape[1] - at,
        labels=[[_label(slot["role"], slot["key"], slot["frame"]) for slot in sentence] for sentence in slots],
    )


def _default_cut(roles: int, images_per_sentence: int) -> int:
    if roles > 1:
        return images_per_sentence - 1
    return images_per_sentence // 3


def _label(role: str, key: str, frame: int | None) -> str:
    return f"{role} {Path(key).name}"[:24] + ("" if frame is None else f" #{frame}")


def from_files(paths: Sequence[str], count: int, new_images: int, tokenizer: Tokenizer, context: int) -> Prompts:
    """Encodes images as one prompt, used `count` times.

    Raises:
        UserError: a file is missing or no image, or the sentence is longer than the model was trained on.
    """
    card = tokenizer.card
    most = context // card.tokens_per_image
    if len(paths) + new_images > most:
        raise UserError(
            f"{len(paths)} prompt images and {new_images} new ones are more than the {most} that the model was trained "
            "on: give fewer --prompt or --images"
        )
    pixels = np.stack([_read(path, card.preset, card.image_size) for path in paths])
    codes = tokenizer.encode(pixels).reshape(1, -1)
    return Prompts(
        prompt=np.repeat(codes, count, axis=0),
        truth=None,
        new_tokens=new_images * card.tokens_per_image,
        labels=[[Path(path).name[:24] for path in paths]] * count,
    )


def _read(path: str, preset: str, size: int) -> np.ndarray:
    try:
        return images.prepare(images.decode_image(Path(path).read_bytes()), preset, size)
    except OSError as error:
        raise UserError(f"--prompt {path} cannot be read: {error.strerror or error}") from error
    except images.ImageError as error:
        raise UserError(f"--prompt {path} is no usable image ({error.reason}): {error}") from error
