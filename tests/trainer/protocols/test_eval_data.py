"""The rows that a model is judged on: their codes and pixels, and what is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from made_data import PAIR, Made, codes, picture, rows, write_data

from manifests.schema import RoleKind
from manifests.testing import TINY_CARD
from trainer.protocols.data import EvalData, judged_rows
from visent.errors import UserError

CLIP: dict[str, RoleKind] = {"frames": "clip"}


def opened(folder: Path, split: str = "val") -> EvalData:
    return EvalData.open("made", str(folder), split, TINY_CARD)


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "stills"
    val = [rows("a", 3), rows("b", 4)]
    write_data(folder, {"train": [rows("t", 2)], "val": val, "test": [rows("x", 1)]})
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "clips"
    write_data(folder, {"val": [[Made("a", frames=5), Made("b", frames=3)]]}, CLIP)
    return folder


def test_codes_and_pixels_of_one_number_are_of_one_key(stills: Path) -> None:
    data = opened(stills)
    assert data.keys == ["a/000", "a/001", "a/002", "b/000", "b/001", "b/002", "b/003"]
    some = np.array([5, 0, 5])
    for role in PAIR:
        got = data.codes(role, some)
        assert got.shape == (3, 1, 16)
        assert data.pixels(role, some).shape == (3, 1, 32, 32, 3)
        for at, number in enumerate(some):
            assert np.array_equal(got[at, 0], codes(data.keys[number])[role])
            assert np.array_equal(data.pixels(role, some)[at], picture(data.keys[number], role))


def test_the_first_frames_of_clips_are_read(clips: Path) -> None:
    data = opened(clips)
    assert data.lengths("frames").tolist() == [5, 3]
    got = data.codes("frames", np.array([1, 0]), 3)
    assert np.array_equal(got[1], codes("a", CLIP, 5)["frames"][:3])
    assert np.array_equal(got[0], codes("b", CLIP, 3)["frames"])
    assert np.array_equal(data.pixels("frames", np.array([1, 0]), 3)[1], picture("a", "frames", 5)[:3])
    assert data.codes("frames", np.array([0])).shape == (1, 5, 16)


def test_clips_that_cannot_be_read_alike_are_named(clips: Path) -> None:
    data = opened(clips)
    with pytest.raises(UserError, match="'b' of dataset 'made' has 3 frames, 4 are to be read"):
        data.codes("frames", np.array([0, 1]), 4)
    with pytest.raises(UserError, match="have 3 to 5 frames"):
        data.codes("frames", np.array([0, 1]))


def test_pixels_may_be_of_some_rows(tmp_path: Path) -> None:
    write_data(tmp_path / "few", {"val": [rows("a", 5), rows("b", 5)]}, most=4)
    data = opened(tmp_path / "few")
    assert len(data) == 10
    assert len(data.judged) == 4
    backwards = data.judged[::-1]
    for at, number in enumerate(backwards.tolist()):
        assert np.array_equal(data.pixels("image", backwards)[at], picture(data.keys[number], "image"))
    other = np.setdiff1d(np.arange(10), data.judged)[:1]
    with pytest.raises(UserError, match=rf"{data.keys[other[0]]!r} of .* has no pixels, as only 4 rows have"):
        data.pixels("image", other)


def test_metas_have_what_was_asked_for(tmp_path: Path) -> None:
    made = [Made("a", {"class": "cat", "size": [2, 3]}), Made("b", {"size": [1, 1]})]
    write_data(tmp_path / "d", {"val": [made]})
    assert opened(tmp_path / "d").metas(("class",)) == [{"class": "cat"}, {}]


def test_numbers_outside_the_split_are_refused(stills: Path) -> None:
    data = opened(stills)
    for wrong in (-1, 7):
        with pytest.raises(UserError, match=f"rows 0 to 6 in split 'val'; asked for row {wrong}"):
            data.codes("image", np.array([0, wrong]))
        with pytest.raises(UserError, match=f"rows 0 to 6 in split 'val'; asked for row {wrong}"):
            data.pixels("image", np.array([wrong]))


def test_a_split_without_rows_names_those_with_rows(stills: Path) -> None:
    with pytest.raises(
        UserError, match=r"no rows in split 'validation'; those with rows: test \(1\), train \(2\), val "
    ):
        opened(stills, "validation")


def test_another_tokenizers_dataset_is_refused(stills: Path) -> None:
    other = dataclasses.replace(TINY_CARD, name="other", weights_sha256="1" * 64)
    with pytest.raises(UserError, match=rf"tokenizer 'random' \({TINY_CARD.fingerprint}\), the model .*'other'"):
        EvalData.open("made", str(stills), "val", other)


def test_missing_pixels_say_how_to_make_them(stills: Path) -> None:
    with pytest.raises(UserError, match=r"visent pixels .* --split test"):
        opened(stills, "test")
    assert opened(stills).with_split("test").keys == ["x/000"]  # prompts need none


def test_a_missing_role_is_named_with_those_that_are_there(stills: Path, clips: Path) -> None:
    with pytest.raises(UserError, match=r"'made' has roles image, edge; part 'image to seg' needs semantic: tokenize"):
        opened(stills).check_role("semantic", "still", "image to seg")
    with pytest.raises(UserError, match=r"has role image as still; part 'video' needs it as clip: .* leave --stills"):
        opened(stills).check_role("image", "clip", "video")
    opened(clips).check_role("frames", "clip", "video")


def test_pixels_of_other_rows_are_refused(stills: Path) -> None:
    other = opened(stills)
    with pytest.raises(UserError, match=r"dataset 'made' has 2 rows and pixels of 7 others, such as 'x' for 'a/001'"):
        judged_rows("made", ["a/000", "x"], other.store)
