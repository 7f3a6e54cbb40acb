"""The samples of a part of any kind, after a look at whether its sentences fit the model."""

from trainer.protocols import clips, foreground, halves, pairs
from trainer.protocols.cases import Cases
from trainer.protocols.data import EvalData
from trainer.protocols.part import Part, pairs_in_words
from visent.errors import UserError


def make_cases(
    part: Part,
    data: EvalData,
    context_tokens: int,
    *,
    most: int | None = None,
    seed: int = 0,
    prompt: pairs.Prompt | None = None,
    prompt_split: str | None = None,
) -> Cases:
    """Returns the samples of a part for a model that was trained on sentences of so many tokens.

    `most` takes a fixed subset. `prompt`, keys or a person's own pairs, replaces the chosen one of kinds images and
    labels; `prompt_split` says where pairs come from.

    Raises:
        UserError: prompt and answer are longer than the model was trained on, the dataset lacks a role or rows, or the
            part has no such prompt.
    """
    check_room(part, data.tokens_per_image, context_tokens)
    if part.kind == "clips":
        return clips.cases(part, data, most=most, seed=seed, prompt=prompt)
    if part.kind == "halves":
        return halves.cases(part, data, most=most, seed=seed, prompt=prompt)
    make = foreground.cases if part.kind == "foreground" else pairs.cases
    return make(part, data, most=most, seed=seed, prompt=prompt, prompt_split=prompt_split)


def images_in_all(part: Part) -> int:
    """Returns the images of a sentence of a part: prompt and answer."""
    if part.kind == "clips":
        return part.frames_given + part.frames_made
    return 1 if part.kind == "halves" else 2 * part.pairs + 2


def check_room(part: Part, tokens_per_image: int, context_tokens: int) -> None:
    """Refuses a part whose sentences are longer than those the model was trained on.

    Raises:
        UserError: they are.
    """
    needed, most = images_in_all(part), context_tokens // tokens_per_image
    if needed <= most:
        return
    what = {"clips": f"{part.frames_given} frames given and {part.frames_made} made", "halves": "an image"}.get(
        part.kind, f"{pairs_in_words(part.pairs)}, a query and its answer"
    )
    fix = "evaluate a model that was trained on longer sentences"
    if part.kind not in ("clips", "halves") and most >= 2:
        fix = f"take at most {pairs_in_words(most // 2 - 1)}, or {fix}"
    raise UserError(
        f"part {part.name!r}: {what} are {needed} images, {needed * tokens_per_image:,} tokens; the model was trained "
        f"on {context_tokens:,}, {most} images: {fix}"
    )
