"""Parts that finish an image: the codes of its upper half are given, and the whole of it is judged."""

from collections.abc import Sequence

import numpy as np

from trainer.protocols.cases import Cases
from trainer.protocols.data import EvalData
from trainer.protocols.part import Part
from trainer.protocols.subset import fixed_subset
from visent.errors import UserError


def cases(
    part: Part,
    data: EvalData,
    *,
    most: int | None = None,
    seed: int = 0,
    prompt: Sequence[object] | None = None,
) -> Cases:
    """Returns images with the upper half of their rows of codes given, the smaller half of an odd number.

    Raises:
        UserError: the dataset lacks the role, its images have one row of codes, or there is a `prompt`: halves have
            none.
    """
    if prompt is not None:
        raise UserError(f"part {part.name!r} finishes images: its prompts are their own halves, leave the pairs out")
    data.check_role(part.made, "still", part.name, is_judged=True)
    grid = data.facts.schema.card.grid
    half = grid // 2 * grid
    if not half:
        raise UserError(f"part {part.name!r} gives the upper half of an image, but images of tokenizer "
                        f"{data.facts.schema.card.name!r} have one row of codes")  # fmt: skip
    numbers, notes = fixed_subset(data, np.arange(len(data)), most)
    codes = data.codes(part.made, numbers)[:, 0]
    return Cases(
        keys=[data.keys[number] for number in numbers.tolist()],
        prompt=codes[:, :half],
        kept=half,
        new_tokens=codes.shape[1] - half,
        truth_codes=codes,
        truth=lambda some: data.pixels(part.made, numbers[some]),
        notes=(f"{grid // 2} of {grid} rows of codes given", *notes),
    )
