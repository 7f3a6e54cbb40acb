"""Clips from folders of frames: which frames they take, and what becomes of faults."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import SIZE, squares, write_frames, write_ids
from made_media import picture_bytes
from reading_datasets import not_aligned, read_all, source_of

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.frame_files import FramesError, numbered, with_gaps
from pipelines.sources.frame_folders import AnnotatedFolders, TimedFolders
from pipelines.sources.frames import frame, picked, video_item
from pipelines.sources.rawframes import RawFrames
from pipelines.sources.video_masks import mask
from tokenizer.images import decode_image
from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Masked(AnnotatedFolders):
    """Frames and masks that count from 0 without gaps."""

    root: str
    annotations: tuple[str, ...] = ("mask",)
    drawings = ("mask",)

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        for name in ("a", "b"):
            yield video_item(
                self.root, name, {"frames": f"frames/{name}", "mask": f"masks/{name}"}, meta={"class": name}
            )

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        patterns = {role: f"{folder}/%d" for role, folder in item.files.items()}
        return self.clips(item, patterns, {"frames": frame, "mask": mask}, partial(with_gaps, first=0), rate=10.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Videos "a" of seven frames and "b" of two."""
    for name, count in (("a", 7), ("b", 2)):
        write_frames(tmp_path / "frames" / name, range(count))
        for number in range(count):
            write_ids(tmp_path / "masks" / name / f"{number:05d}.png", squares([number + 1]))
    return tmp_path


def made(root: Path, **options: Any) -> Masked:
    return Masked(root=str(root), **options)


def test_runs_of_frames_become_clips_with_their_numbers_and_times(root: Path) -> None:
    found = read_all(made(root, frames_per_clip=3))
    assert list(found.examples) == ["a#00000", "a#00001", "a#00002", "b#00000"]
    assert [found.examples[key].meta["frames"] for key in found.examples] == [[0, 1, 2], [3, 4, 5], [6], [0, 1]]
    assert found.examples["a#00001"].meta == {"class": "a", "frames": [3, 4, 5], "times": [0.3, 0.4, 0.5]}
    for key, example in found.examples.items():
        for place, number in enumerate(example.meta["frames"]):
            jpeg = (root / "frames" / key[0] / f"{number:05d}.jpg").read_bytes()
            assert np.array_equal(found.pixels[key]["frames"][place], decode_image(jpeg))
            white = found.pixels[key]["mask"][place][..., 0] == 255
            assert np.array_equal(white, squares([1]) > 0)
    assert found.rejects == {}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"stride": 3}, [[0, 3, 6], [0]]),
        ({"stride": 3, "frames_per_clip": 2}, [[0, 3], [6], [0]]),
        ({"frames": 3}, [[0, 3, 5], [0, 1]]),
        ({"frames": 1}, [[0], [0]]),
        ({"max_frames": 4, "frames_per_clip": 3}, [[0, 1, 2], [3], [0, 1]]),
        ({"stride": 2, "max_frames": 3}, [[0, 2, 4], [0]]),
    ],
)
def test_options_choose_frames(root: Path, options: dict[str, Any], expected: list[list[int]]) -> None:
    dataset = made(root, **options)
    found = read_all(dataset)
    assert [example.meta["frames"] for example in found.examples.values()] == expected
    assert source_of(dataset).estimate(found.items) == sum(map(len, expected))


@given(count=st.integers(1, 300), frames=st.integers(1, 400))
def test_frames_are_spread_evenly(count: int, frames: int) -> None:
    numbers = picked(range(count), frames=frames)
    assert numbers[0] == 0
    assert len(numbers) == len(set(numbers)) == min(count, frames)
    steps = np.diff([*numbers, count])
    assert steps.max() - steps.min() <= 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stride": 0}, "--stride is 0"),
        ({"frames_per_clip": 0}, "--frames-per-clip is 0"),
        ({"frames": 3, "stride": 2}, "give one"),
        ({"annotations": ("masks",)}, "did you mean"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        made(Path(), **options)


def test_a_mask_that_is_missing_rejects_its_clip_alone(root: Path) -> None:
    (root / "masks" / "a" / "00004.png").unlink()
    found = read_all(made(root, frames_per_clip=3))
    assert list(found.examples) == ["a#00000", "a#00002", "b#00000"]
    assert found.rejects == {"a#00001": "missing-mask"}


def test_a_frame_that_is_missing_leaves_no_jump_in_a_clip(root: Path) -> None:
    (root / "frames" / "a" / "00004.jpg").unlink()
    (root / "masks" / "a" / "00001.png").unlink()
    (root / "frames" / "a" / "00001.jpg").unlink()  # both: only the numbers tell
    found = read_all(made(root, frames_per_clip=3))
    assert list(found.examples) == ["a#00002", "b#00000"]
    assert found.rejects == {"a#00000": "missing-frames", "a#00001": "missing-frames"}


def test_a_reject_says_which_frames_are_missing(root: Path) -> None:
    for number in range(6):
        (root / "masks" / "a" / f"{number:05d}.png").unlink()
    dataset = made(root)
    (reject,) = dataset.examples(next(dataset.items("train", Counter())))
    assert isinstance(reject, Reject)
    assert reject.detail == "no file for frame 0, 1, 2, 3, 4, ..."


def test_frames_of_another_size_reject_the_clip(root: Path) -> None:
    (root / "frames" / "a" / "00004.jpg").write_bytes(picture_bytes(4, (36, 48), "JPEG"))
    write_ids(root / "masks" / "b" / "00001.png", squares([1], (24, 18)))
    found = read_all(made(root, frames_per_clip=3))
    assert list(found.examples) == ["a#00000", "a#00002"]
    assert found.rejects == {"a#00001": "sizes-differ", "b#00000": "sizes-differ"}


def test_masks_of_another_shape_do_not_fit_their_frames(root: Path) -> None:
    for number in range(2):
        write_ids(root / "masks" / "b" / f"{number:05d}.png", squares([1], SIZE[::-1]))
    dataset = made(root)
    found = read_all(dataset)
    assert not_aligned(dataset, found.examples["b#00000"]) == "sizes-differ"
    assert not_aligned(dataset, found.examples["a#00000"]) == ""


def test_damaged_files_reject_their_clip(root: Path) -> None:
    whole = (root / "frames" / "a" / "00000.jpg").read_bytes()
    (root / "frames" / "a" / "00000.jpg").write_bytes(whole[:-60])
    (root / "masks" / "a" / "00003.png").write_bytes(b"")
    (root / "masks" / "b" / "00000.png").write_bytes(picture_bytes(0, SIZE))
    found = read_all(made(root, frames_per_clip=3))
    assert list(found.examples) == ["a#00002"]
    assert found.rejects == {"a#00000": "truncated", "a#00001": "empty", "b#00000": "not-labels"}


def test_videos_without_frames_or_folders_are_rejects(root: Path) -> None:
    for path in [*(root / "frames" / "a").iterdir(), *(root / "masks" / "a").iterdir(),
                 *(root / "masks" / "b").iterdir()]:  # fmt: skip
        path.unlink()
    (root / "frames" / "a" / "readme.txt").write_text("no frames")
    (root / "masks" / "b").rmdir()
    found = read_all(made(root))
    assert found.examples == {}
    assert found.rejects == {"a": "no-frames", "b": "missing-mask"}


def test_two_files_of_one_number_are_not_chosen_from(root: Path) -> None:
    write_frames(root / "frames" / "a", [3], "{:d}.png")
    found = read_all(made(root))
    assert found.rejects == {"a": "duplicate-frame"}


def test_a_number_far_from_the_others_does_not_fill_the_memory(root: Path) -> None:
    write_frames(root / "frames" / "a", [20201231235959])
    found = read_all(made(root))
    assert found.rejects == {"a": "missing-frames"}


def test_frames_are_reduced_while_they_are_decoded(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames" / "a", range(2), size=(1920, 1080))
    for number in range(2):
        write_ids(tmp_path / "masks" / "a" / f"{number:05d}.png", squares([number + 1], (1920, 1080)))
    found = read_all(made(tmp_path))
    pixels = found.pixels["a#00000"]
    assert {still.shape for role in pixels.values() for still in role} == {(512, 910, 3)}
    assert set(np.unique(pixels["mask"][0])) == {0, 255}  # picked, not mixed


def test_numbers_stand_where_the_pattern_says(tmp_path: Path) -> None:
    for name in ("img_00002.jpg", "img_1.JPG", "x_00001.jpg", "img_3.txt", "clip2-7.png", "7-depth.png", "7.png.tmp"):
        (tmp_path / name).touch()
    assert list(numbered(str(tmp_path), {"frames": "img_%d"})) == [1, 2]
    assert list(numbered(str(tmp_path), {"frames": "img_%d.jpg"})) == [1, 2]
    assert numbered(str(tmp_path), {"frames": "*-%d.png", "depth": "%d-depth.png"}) == {
        7: {"frames": "clip2-7.png", "depth": "7-depth.png"}
    }
    with pytest.raises(FramesError, match="duplicate-frame"):
        numbered(str(tmp_path), {"frames": "*_%d.jpg"})


@dataclass(frozen=True, kw_only=True)
class Timed(TimedFolders):
    """A folder of frames; numbers are tenths of a second, or nothing."""

    root: str
    timed: bool = True
    files_per_second = 10.0

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        yield video_item(self.root, "a", {"frames": "frames/a"})

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        return self.clips(item, {"frames": "frames/a/%d"}, {"frames": frame}, rate=10.0 if self.timed else None)


@pytest.mark.parametrize(
    ("fps", "numbers"), [(10.0, range(7)), (50.0, range(7)), (5.0, [0, 2, 4, 6]), (4.0, [0, 3, 5])]
)
def test_frames_are_chosen_by_time_as_those_of_videos_are(root: Path, fps: float, numbers: list[int]) -> None:
    dataset = Timed(root=str(root), fps=fps)
    found = read_all(dataset)
    assert found.examples["a#00000"].meta["frames"] == list(numbers)
    assert source_of(dataset).estimate(found.items) == pytest.approx(len(numbers), abs=1)


def test_times_that_nobody_knows_are_no_times(root: Path) -> None:
    assert read_all(Timed(root=str(root), timed=False, fps=2.0)).rejects == {"a": "no-times"}
    with pytest.raises(UserError, match="give one of them"):
        Timed(root=str(root), fps=2.0, stride=2)
    with pytest.raises(UserError, match="--fps is 0"):
        Timed(root=str(root), fps=0.0)
    with pytest.raises(UserError, match="need"):
        RawFrames(root=str(root), fps=2.0)
