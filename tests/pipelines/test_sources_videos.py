"""Rows of videos: clips and stills by the options, and videos that are broken in every way."""

import os
from pathlib import Path

import numpy as np
import pytest
from made_media import write_video
from numbered_videos import number_of, numbered_video
from reading_datasets import read_all, source_of

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.video_clips import VideoOptions, rows
from pipelines.sources.video_frames import VideoError, sampled
from pipelines.sources.videos import Videos
from visent.errors import UserError

FOURS = VideoOptions(fps=5.0, frames_per_clip=4)


def video(folder: Path, name: str = "a.mp4", **options: object) -> Path:
    return write_video(folder / "videos" / name, **options)


def test_clips_hold_runs_of_frames_and_the_last_what_is_left(tmp_path: Path) -> None:
    item = Item(key="v", files={"video": "a.mp4"})
    found = [example for example in rows(item, str(video(tmp_path)), FOURS) if isinstance(example, Example)]
    assert [example.key for example in found] == ["v#00000", "v#00001", "v#00002"]
    assert [len(example.media["frames"]) for example in found] == [4, 4, 2]
    assert found[1].meta["times"] == [0.8, 1.0, 1.2, 1.4]


def test_stills_are_one_example_for_each_frame(tmp_path: Path) -> None:
    item = Item(key="v", files={"video": "a.mp4"})
    found = list(rows(item, str(video(tmp_path)), VideoOptions(fps=1.0, stills=True)))
    assert [(example.key, example.meta["time"]) for example in found if isinstance(example, Example)] == [
        ("v#000000", 0.0), ("v#000001", 1.0)
    ]  # fmt: skip


def clips(path: Path, options: VideoOptions, **data: object) -> list[list[int]]:
    """The numbers of the frames in each clip."""
    item = Item(key="v", files={"video": path.name}, data=data)
    found = [one for one in rows(item, str(path), options) if isinstance(one, Example)]
    return [[number_of(frame) for frame in one.media["frames"]] for one in found]


def test_options_choose_the_frames(tmp_path: Path) -> None:
    path = numbered_video(tmp_path / "a.mp4", 100)  # 10 frames a second
    assert clips(path, VideoOptions(fps=1.0)) == [list(range(0, 100, 10))]
    assert clips(path, VideoOptions(fps=0.0)) == [list(range(64)), list(range(64, 100))]
    assert clips(path, VideoOptions(fps=1.0, max_frames=3)) == [[0, 10, 20]]
    assert clips(path, VideoOptions(frames=5)) == [[0, 20, 40, 60, 80]]
    assert clips(path, VideoOptions(frames=5, frames_per_clip=2)) == [[0, 20], [40, 60], [80]]
    assert clips(path, VideoOptions(fps=5.0), span=[8.0, None]) == [[80, 82, 84, 86, 88, 90, 92, 94, 96, 98]]
    assert clips(path, VideoOptions(frames=2), span=[5.0, 6.0]) == [[50, 55]]


def test_a_row_has_the_actions_that_happen_in_it(tmp_path: Path) -> None:
    path = numbered_video(tmp_path / "a.mp4", 40)
    spans = {"begins": (0.0, 1.1), "moment": (1.9, 1.9), "ends": (2.0, 9.0), "after": (5.0, 6.0)}
    actions = [{"class": name, "start": start, "end": end} for name, (start, end) in spans.items()]
    item = Item(key="v", files={"video": "a.mp4"}, data={"actions": actions, "meta": {"class": "film"}})
    found = [one.meta for one in rows(item, str(path), VideoOptions(fps=5.0, frames_per_clip=5))]
    assert [[action["class"] for action in meta["actions"]] for meta in found] == [
        ["begins"], ["begins", "moment"], ["ends"], ["ends", "after"]
    ]  # fmt: skip
    assert found[1]["actions"][1] == actions[1]
    assert {meta["class"] for meta in found} == {"film"}
    (capped,) = rows(item, str(path), VideoOptions(fps=5.0, max_frames=9))  # to second 1.8
    assert [action["class"] for action in capped.meta["actions"]] == ["begins"]


def test_a_folder_of_videos_is_listed_by_name_and_estimated_by_length(tmp_path: Path) -> None:
    numbered_video(tmp_path / "b" / "two.mkv", 40)
    numbered_video(tmp_path / "one.mp4", 20)
    (tmp_path / "notes.txt").write_text("x")
    dataset = Videos(root=str(tmp_path), fps=2.0)
    found = read_all(dataset)
    assert {key: len(pixels["frames"]) for key, pixels in found.pixels.items()} == {"b/two#00000": 8, "one#00000": 4}
    assert found.note == "left out: 1 files of ending .txt"
    assert dataset.pictures(found.items) == pytest.approx(12, abs=1)
    assert Videos(root=str(tmp_path), frames=3).pictures(found.items) == 6
    assert Videos(root=str(tmp_path), fps=2.0, max_frames=1).pictures(found.items) == 2


@pytest.mark.parametrize("name", ["frames", "frames_per_clip", "max_frames"])
def test_a_count_below_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} is 0, expected 1 or more"):
        Videos(root=str(tmp_path), **{name: 0})


def test_a_video_that_is_cut_gives_its_good_part_and_one_reject(tmp_path: Path) -> None:
    path = video(tmp_path, "a.avi", frames=60)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    found = list(rows(Item(key="v", files={"video": "a.avi"}), str(path), FOURS))
    assert isinstance(found[0], Example)
    assert isinstance(found[-1], Reject)
    assert found[-1].reason in ("stops-early", "damaged", "unreadable")
    assert sum(isinstance(one, Reject) for one in found) == 1
    frames = sum(len(one.media["frames"]) for one in found if isinstance(one, Example))
    assert 5 < frames < 28


@pytest.mark.parametrize("content", [b"", b"no video at all", b"RIFF\x00\x00\x00\x00AVI "])
def test_what_is_no_video_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.mp4").write_bytes(content)
    (found,) = rows(Item(key="x", files={"video": "x.mp4"}), str(tmp_path / "x.mp4"), FOURS)
    assert isinstance(found, Reject)
    assert (found.key, found.stage) == ("x", "read")


def test_a_file_without_a_picture_stream_is_rejected(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="no-video-stream"):
        list(sampled(str(path), 1.0))


def test_a_span_that_lies_after_the_video_is_rejected(tmp_path: Path) -> None:
    path = numbered_video(tmp_path / "a.mp4", 20)
    for start in (2.5, 60.0):
        item = Item(key="v/1", files={"video": "a.mp4"}, data={"span": [start, start + 1]})
        (found,) = rows(item, str(path), FOURS)
        assert isinstance(found, Reject)
        assert (found.key, found.reason) == ("v/1", "no-frames")


def test_a_container_without_frames_is_rejected(tmp_path: Path) -> None:
    import av

    path = tmp_path / "none.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(VideoError) as failure:
        list(sampled(str(path), 1.0))
    assert failure.value.reason in ("no-frames", "unreadable", "no-video-stream")


def test_video_names_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    path = video(tmp_path)
    odd = Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff.mp4"))
    path.rename(odd)
    source = source_of(Videos(root=str(path.parent)))
    (item,) = source.listing()[0]
    assert item.key == "%FF"
    assert isinstance(next(iter(rows(item, str(odd), FOURS))), Example)


@pytest.mark.parametrize("fps", [-1.0, 2000.0, float("nan")])
def test_a_senseless_rate_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(UserError, match="--fps"):
        Videos(root=str(tmp_path), fps=fps)


def test_real_videos_of_many_containers_are_read_and_only_the_broken_one_is_rejected(samples: Path) -> None:
    source = source_of(Videos(root=str(samples / "video_misc"), fps=1.0, frames_per_clip=4))
    rejects = []
    for item in source.listing()[0]:
        found = list(source.dataset.examples(item))
        assert any(isinstance(one, Example) for one in found)
        rejects += [one.key for one in found if isinstance(one, Reject)]
    assert rejects == ["corrupted"]
