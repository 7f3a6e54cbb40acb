"""Videos: sampling by time, clips and stills, and videos that are broken in every way."""

import os
from pathlib import Path

import numpy as np
import pytest
from made_media import STEP, write_video
from reading_datasets import source_of

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.video_clips import VideoOptions, rows
from pipelines.sources.video_frames import VideoError, sampled
from pipelines.sources.videos import Videos
from visent.errors import UserError

FOURS = VideoOptions(fps=5.0, frames_per_clip=4)


def video(folder: Path, name: str = "a.mp4", **options: object) -> Path:
    return write_video(folder / "videos" / name, **options)


def brightness(path: Path, fps: float) -> list[tuple[float, int]]:
    """Time and number of each sampled frame: the fixture paints frame n with brightness STEP n."""
    return [(round(time, 3), round(float(frame.mean()) / STEP)) for time, frame, _ in sampled(str(path), fps)]


def test_frames_are_taken_by_time(tmp_path: Path) -> None:
    assert brightness(video(tmp_path), 2.0) == [(0.0, 0), (0.5, 5), (1.0, 10), (1.5, 15)]


def test_a_rate_above_the_videos_gives_each_frame_once(tmp_path: Path) -> None:
    assert [time for time, _ in brightness(video(tmp_path), 50.0)] == [number / 10 for number in range(20)]


def test_a_variable_rate_is_sampled_by_time_stamps(tmp_path: Path) -> None:
    times = [0, 1, 2, 3, 4, 5, 100, 101, 102, 250, 251, 299]
    assert brightness(video(tmp_path, frames=12, times=times), 1.0) == [(0.0, 0), (1.0, 6), (2.5, 9)]


def test_clips_hold_runs_of_frames_and_the_last_what_is_left(tmp_path: Path) -> None:
    item = Item(key="v", files={"video": "a.mp4"})
    found = [example for example in rows(item, str(video(tmp_path)), FOURS) if isinstance(example, Example)]
    assert [example.key for example in found] == ["v#00000", "v#00001", "v#00002"]
    assert [len(example.media["frames"]) for example in found] == [4, 4, 2]
    assert found[1].meta["times"] == [0.8, 1.0, 1.2, 1.4]


def test_stills_are_one_example_for_each_frame(tmp_path: Path) -> None:
    found = list(
        rows(Item(key="v", files={"video": "a.mp4"}), str(video(tmp_path)), VideoOptions(fps=1.0, stills=True))
    )
    assert [(example.key, example.meta["time"]) for example in found if isinstance(example, Example)] == [
        ("v#000000", 0.0), ("v#000001", 1.0)
    ]  # fmt: skip


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


def test_large_frames_are_reduced_while_reading(tmp_path: Path) -> None:
    (_, frame, _), *_ = sampled(str(video(tmp_path, size=(1280, 720), frames=2)), 1.0)
    assert frame.shape == (512, 910, 3)


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


def test_metadata_that_is_not_utf8_does_not_stop_a_video(tmp_path, samples: Path) -> None:
    (path,) = (samples / "hmdb51").rglob("*cartwheel*.avi")
    assert len(list(sampled(str(path), 5.0))) > 3
