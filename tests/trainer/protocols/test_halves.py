"""Images whose upper half is given."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from made_data import codes, picture, rows, write_data

from manifests.testing import TINY_CARD
from tokenizer.card import TokenizerCard
from trainer.protocols import halves
from trainer.protocols.data import EvalData
from trainer.protocols.make_cases import make_cases
from trainer.protocols.part import Part
from visent.errors import UserError

PART = Part(name="inpainting", data="made", kind="halves", made="image", figures=("fid",))


def opened(folder: Path, card: TokenizerCard = TINY_CARD) -> EvalData:
    write_data(folder, {"val": [rows("a", 3)]}, card=card)
    return EvalData.open("made", str(folder), "val", card)


@pytest.mark.parametrize(("grid", "given"), [(4, 8), (5, 10), (2, 2)])
def test_the_upper_rows_of_codes_are_given_and_the_image_is_judged(tmp_path: Path, grid: int, given: int) -> None:
    """Of an odd number of rows the smaller half is given."""
    card = dataclasses.replace(TINY_CARD, grid=grid, image_size=8 * grid)
    found = halves.cases(PART, opened(tmp_path / "d", card))
    whole = codes("a/001", card=card)["image"]
    assert np.array_equal(found.prompt[1], whole[:given])
    assert np.array_equal(found.truth_codes[1], whole)
    assert (found.kept, found.new_tokens, found.frames) == (given, grid * grid - given, 1)
    assert np.array_equal(found.truth(np.array([1]))[0], picture("a/001", "image", size=8 * grid))


def test_what_cannot_be_halved_is_refused(tmp_path: Path) -> None:
    one_row = dataclasses.replace(TINY_CARD, grid=1)
    with pytest.raises(UserError, match="images of tokenizer 'random' have one row of codes"):
        halves.cases(PART, opened(tmp_path / "one", one_row))
    data = opened(tmp_path / "d")
    with pytest.raises(UserError, match="its prompts are their own halves"):
        halves.cases(PART, data, prompt=["a/000"])
    with pytest.raises(UserError, match="an image are 1 images, 16 tokens; the model was trained on 8"):
        make_cases(PART, data, 8)
    assert len(make_cases(PART, data, 16, most=2)) == 2
