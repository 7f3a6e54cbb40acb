"""Prompts of a person's own pictures, pairs and clips, each continued `count` times."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt16

from tokenizer.tokenizer import Tokenizer
from trainer import own_pictures
from trainer.prompts import Prompts
from visent.errors import UserError


def nothing(count: int, new_images: int, tokens_per_image: int, context: int) -> Prompts:
    """Returns empty prompts: images are generated from nothing.

    Raises:
        UserError: the images are more than the model was trained on.
    """
    _check_room(0, new_images, tokens_per_image, context)
    empty = np.empty((count, 0), np.uint16)
    return Prompts(name="free", prompt=empty, new_tokens=new_images * tokens_per_image, labels=[[]] * count)


def from_files(
    paths: Sequence[str], count: int, new_images: int, tokenizer: Tokenizer, context: int, name: str = "prompt"
) -> Prompts:
    """Returns images, in this order, as one prompt.

    Raises:
        UserError: a file is missing or no image, or the sentence is longer than the model was trained on.
    """
    _check_room(len(paths), new_images, tokenizer.card.tokens_per_image, context)
    pictures = own_pictures.of_files(paths, tokenizer)
    return Prompts(
        name=name,
        prompt=_repeated(pictures.codes, count),
        new_tokens=new_images * tokenizer.card.tokens_per_image,
        labels=[pictures.names] * count,
    )


def from_pairs(pairs: Sequence[tuple[str, str]], query: str, count: int, tokenizer: Tokenizer, context: int) -> Prompts:
    """Returns pairs of images, then `query`: its partner is to be generated.

    Raises:
        UserError: as `from_files`.
    """
    paths = [path for pair in pairs for path in pair]
    return from_files([*paths, query], count, 1, tokenizer, context, name="pair")


def from_clip(
    path: str,
    count: int,
    frames_in: int,
    frames_out: int,
    tokenizer: Tokenizer,
    context: int,
    *,
    fps: float = 5.0,
    start: float = 0.0,
) -> Prompts:
    """Returns the first frames of a clip as a prompt; those that follow are the truth, if the clip has them all.

    Raises:
        UserError: the clip is missing, no video or too short, or the sentence is longer than the model was trained on.
    """
    _check_room(frames_in, frames_out, tokenizer.card.tokens_per_image, context)
    found = own_pictures.of_clip(path, frames_in + frames_out, fps, start, tokenizer)
    if len(found.names) < frames_in:
        raise UserError(
            f"clip {path} has {len(found.names)} frames at {fps:g} a second from {start:g} s on, --frames-in is "
            f"{frames_in}: use a higher --fps, an earlier --start or fewer frames"
        )
    whole = len(found.names) == frames_in + frames_out
    return Prompts(
        name="clip",
        prompt=_repeated(found.codes[:frames_in], count),
        truth=_repeated(found.codes[frames_in:], count) if whole else None,
        new_tokens=frames_out * tokenizer.card.tokens_per_image,
        labels=[[f"{start + i / fps:.2f} s" for i in range(frames_in + frames_out)]] * count,
        clips=[list(range(frames_in + frames_out))] * count,
        fps=fps,
    )


def from_top_halves(paths: Sequence[str], count: int, tokenizer: Tokenizer) -> Prompts:
    """Returns the upper half of each image's codes; the lower half is the truth.

    Raises:
        UserError: a file is missing or no image.
    """
    pictures = own_pictures.of_files(paths, tokenizer)
    codes = np.repeat(pictures.codes, count, axis=0)
    half = tokenizer.card.grid // 2 * tokenizer.card.grid
    return Prompts(
        name="half",
        prompt=codes[:, :half],
        truth=codes[:, half:],
        new_tokens=codes.shape[1] - half,
        labels=[[name] for name in pictures.names for _ in range(count)],
    )


def _repeated(codes: UInt16[np.ndarray, "n t"], count: int) -> UInt16[np.ndarray, "count n*t"]:
    return np.repeat(codes.reshape(1, -1), count, axis=0)


def _check_room(given: int, new: int, tokens_per_image: int, context: int) -> None:
    most = context // tokens_per_image
    if given + new > most:
        raise UserError(
            f"{given} images given and {new} to be generated are more than the {most} that the model was trained on "
            f"(context {context}): take fewer"
        )
