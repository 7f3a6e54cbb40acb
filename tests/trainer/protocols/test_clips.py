"""Clips to go on with: which frames are given, one clip of each video, and what is left out."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_data import Made, codes, picture, rows, write_data

from manifests.schema import RoleKind
from manifests.testing import TINY_CARD
from trainer.protocols import clips
from trainer.protocols.data import EvalData
from trainer.protocols.make_cases import make_cases
from trainer.protocols.part import Part
from visent.errors import UserError

CLIP: dict[str, RoleKind] = {"frames": "clip"}
PART = Part(name="video", data="made", kind="clips", made="frames", figures=("fvd",), frames_given=2, frames_made=3)


def opened(folder: Path, made: Sequence[Sequence[Made]], options: dict[str, float] | None = None) -> EvalData:
    write_data(folder, {"val": made}, CLIP, options=options)
    return EvalData.open("made", str(folder), "val", TINY_CARD)


def test_the_first_frames_are_given_and_the_whole_clip_is_judged(tmp_path: Path) -> None:
    found = clips.cases(
        PART, opened(tmp_path / "d", [[Made("a#00000", frames=7), Made("b#00000", frames=5)]], {"fps": 5})
    )
    whole = codes("a#00000", CLIP, 7)["frames"][:5]
    assert list(found.keys) == ["a#00000", "b#00000"]
    assert np.array_equal(found.prompt[0], whole[:2].reshape(-1))
    assert np.array_equal(found.truth_codes[0], whole.reshape(-1))
    assert (found.kept, found.new_tokens, found.frames) == (32, 48, 5)
    assert np.array_equal(found.truth(np.array([0]))[0], picture("a#00000", "frames", 7)[:5])
    assert found.notes == ("first 5 frames of one clip of each video, 5 a second",)


def test_one_clip_of_each_video_and_none_that_is_short(tmp_path: Path) -> None:
    """Keys are `<video>#<number>`; parts of one film that a list names have keys of their own, but one file."""
    made = [
        Made("a#00001", frames=5), Made("a#00000", frames=6), Made("b#00000", frames=4), Made("b#00001", frames=5),
        Made("film/00010#00000", {"source": "film.mp4"}, 5), Made("film/00000#00000", {"source": "film.mp4"}, 5),
        Made("tar/x#00000", {"source": "00000.tar"}, 5), Made("tar/y#00000", {"source": "00000.tar"}, 5),
        Made("short#00000", frames=2),
    ]  # fmt: skip
    found = clips.cases(PART, opened(tmp_path / "d", [made]))
    assert list(found.keys) == ["a#00000", "b#00001", "film/00000#00000", "tar/x#00000", "tar/y#00000"]
    assert "clips left out, of fewer than 5 frames: 2" in found.notes
    assert "clips left out, of videos that have an earlier one: 2" in found.notes


def test_clips_that_are_all_too_short_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no clip of 5 frames in split 'val'.*\(2 given, 3 made\); its longest has 4"):
        clips.cases(PART, opened(tmp_path / "d", [[Made("a", frames=4)]]))


def test_clips_have_no_prompt_and_need_room(tmp_path: Path) -> None:
    data = opened(tmp_path / "d", [[Made("a", frames=5)]])
    with pytest.raises(UserError, match="its prompts are their own frames"):
        clips.cases(PART, data, prompt=["a"])
    with pytest.raises(
        UserError, match="2 frames given and 3 made are 5 images, 80 tokens; the model was trained on 64"
    ):
        make_cases(PART, data, 64)
    assert len(make_cases(PART, data, 80)) == 1


def test_stills_are_no_clips(tmp_path: Path) -> None:
    write_data(tmp_path / "d", {"val": [rows("a", 2)]})
    with pytest.raises(UserError, match=r"role image as still; part 'video' needs it as clip: .* leave --stills out"):
        clips.cases(
            dataclasses.replace(PART, made="image"), EvalData.open("made", str(tmp_path / "d"), "val", TINY_CARD)
        )


VIDEOS = st.lists(st.lists(st.integers(3, 7), min_size=1, max_size=3), min_size=1, max_size=5)


@settings(max_examples=10)
@given(VIDEOS, st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_same_clips_whatever_the_order_of_rows(videos: list[list[int]], random: object, most: int) -> None:
    made = [Made(f"v{i}#{n:05d}", frames=frames) for i, video in enumerate(videos) for n, frames in enumerate(video)]
    if not any(one.frames >= 5 for one in made):
        return
    shuffled = sorted(made, key=lambda _: random.random())  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        one, two = opened(Path(folder) / "one", [made]), opened(Path(folder) / "two", [[row] for row in shuffled])
        found, again = (clips.cases(PART, data, most=most) for data in (one, two))
        whole = clips.cases(PART, two)
        assert sorted(found.keys) == sorted(again.keys)
        assert set(again.keys) <= set(whole.keys)
        first_long = {f"v{i}#{next(n for n, frames in enumerate(video) if frames >= 5):05d}"
                      for i, video in enumerate(videos) if max(video) >= 5}  # fmt: skip
        assert set(whole.keys) == first_long
