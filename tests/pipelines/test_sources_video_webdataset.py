"""Tars of videos: video2dataset's layout."""

import json
import tarfile
from pathlib import Path

import av
import pytest
from made_media import STEP, write_video
from reading_datasets import read_all, source_of

from pipelines.sources.video_webdataset import VideoWebdataset
from visent.errors import UserError

REAL = ("000000014", "000000025", "000000356", "0000008_00001", "0000030_00005", "0000038_00003")


def test_every_real_video_gives_its_frames_and_its_caption(samples: Path) -> None:
    dataset = VideoWebdataset(root=str(samples / "video_webdataset"), fps=2.0, meta=("caption", "url"))
    found = read_all(dataset)
    assert found.rejects == {}
    assert set(found.examples) == {f"00000/{key}#00000" for key in REAL}
    with tarfile.open(samples / "video_webdataset" / "00000.tar") as tar:
        for key in REAL:
            example = found.examples[f"00000/{key}#00000"]
            text, notes, content = (tar.extractfile(f"{key}.{ending}") for ending in ("txt", "json", "mp4"))
            assert text is not None
            assert notes is not None
            fields = json.loads(notes.read())
            assert example.meta["caption"] == fields.get("caption", text.read().decode())
            assert example.meta["url"] == fields["url"]
            with av.open(content) as video:
                shown = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
            frames = found.pixels[example.key]["frames"]
            assert frames[0].shape == shown[0].shape
            assert abs(frames[0].astype(int) - shown[0]).mean() < 2  # another conversion of the same frame
            assert (
                len(frames) == len(example.meta["times"]) == pytest.approx(len(shown) / float(rate(content) / 2), abs=1)
            )
    assert source_of(dataset).estimate(found.items) == pytest.approx(
        sum(len(pixels["frames"]) for pixels in found.pixels.values()), rel=0.5
    )


def rate(content: object) -> float:
    content.seek(0)  # type: ignore[attr-defined]
    with av.open(content) as video:
        return float(video.streams.video[0].average_rate or 0)


def write_tar(path: Path, members: list[tuple[str, Path]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, file in members:
            tar.add(file, name)


def test_clips_stills_and_faults_of_a_tar(tmp_path: Path) -> None:
    video = write_video(tmp_path / "made" / "v.mp4", frames=20)
    (tmp_path / "made" / "cut.mp4").write_bytes(video.read_bytes()[:200])
    (tmp_path / "made" / "text").write_text("a grey")
    root = tmp_path / "root"
    root.mkdir()
    text, cut = tmp_path / "made" / "text", tmp_path / "made" / "cut.mp4"
    members = [("0.mp4", video), ("0.txt", text), ("1.mp4", cut), ("2.txt", text), ("3.mp4", video),
               ("3.webm", video), ("0.json", video)]  # fmt: skip
    write_tar(root / "a.tar", members)
    found = read_all(VideoWebdataset(root=str(root), fps=10.0, frames_per_clip=15))
    assert {key: len(pixels["frames"]) for key, pixels in found.pixels.items()} == {"a/0#00000": 15, "a/0#00001": 5}
    assert found.examples["a/0#00001"].meta["caption"] == "a grey"
    assert found.rejects == {"a/0": "key-again", "a/1": "unreadable", "a/2": "no-video", "a/3": "several-videos"}
    for number, frame in enumerate(found.pixels["a/0#00000"]["frames"]):
        assert abs(float(frame.mean()) - STEP * number) < STEP  # as it was encoded
    stills = read_all(VideoWebdataset(root=str(root), fps=10.0, stills=True))
    assert [key for key in stills.examples if key.startswith("a/0")] == [f"a/0#{n:06d}" for n in range(20)]


def test_a_cut_tar_gives_the_videos_before_the_cut(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", frames=4)
    (tmp_path / "root").mkdir()
    write_tar(tmp_path / "root" / "a.tar", [("0.mp4", video), ("1.mp4", video)])
    content = (tmp_path / "root" / "a.tar").read_bytes()
    (tmp_path / "root" / "a.tar").write_bytes(content[: 512 + video.stat().st_size // 512 * 512 + 512 + 1000])
    found = read_all(VideoWebdataset(root=str(tmp_path / "root"), fps=10.0))
    assert list(found.examples) == ["a/0#00000"]
    assert found.rejects == {"a": "tar-cut"}


def test_a_rate_below_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--fps is -1"):
        VideoWebdataset(root=str(tmp_path), fps=-1.0)
