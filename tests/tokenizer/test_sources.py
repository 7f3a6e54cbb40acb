"""Pictures out of tar files and videos."""

import io
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from small_run import read

from tokenizer.images import ImageError
from tokenizer.training import video
from tokenizer.training.ahead import ahead
from visent.errors import UserError

RATE = 10


def write_video(path: Path, seconds: float, *, first: int = 0) -> None:
    """A video whose frame n is grey of brightness 10 + 2 (first + n)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 48, 64, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(int(seconds * RATE)):
            pixels = np.full((64, 48, 3), 10 + 2 * (first + number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def brightness(picture: np.ndarray | None) -> int | None:
    return None if picture is None else round(float(picture.mean()))


def test_the_images_of_a_tar_are_those_of_its_files(photo_folder: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in sorted(photo_folder.rglob("*.png"))}
    members = {
        "000.txt": b"a caption",
        "deep/000.json": b"{}",
        **{f"deep/{name}": data for name, data in files.items()},
    }
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards" / "00000.tar", members)
    from_tar = read(tmp_path)
    assert from_tar.describe() == "20 photos to train on, 4 held out, of 24 files"
    pictures = {p.tobytes() for i in range(300) for p in [from_tar.pools[0].draw(np.random.default_rng(i))]}
    pool = read(photo_folder, holdout=0).pools[0]
    assert len(pictures) == 20
    assert pictures < {pool.draw(np.random.default_rng(i)).tobytes() for i in range(300)}
    np.testing.assert_array_equal(read(tmp_path, max_pictures=1).crops((0, 1), 20, 16), from_tar.crops((0, 1), 20, 16))


def test_a_tar_that_is_cut_or_compressed_is_refused(photo_folder: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in sorted(photo_folder.rglob("*.png"))}
    path = tmp_path / "00000.tar"
    write_tar(path, files)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cannot read the tar file .*00000\.tar.*expected an uncompressed, whole tar"):
        read(tmp_path)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(UserError, match="cannot read the tar file"):
        read(tmp_path)


def test_frames_come_by_time_whether_one_is_asked_for_or_all(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 12)
    assert video.length(tmp_path / "clip.mp4") == pytest.approx(12)
    times = [0.0, 0.05, 1.5, 8.0, 11.9, 30.0]
    together = [brightness(frame) for frame in video.frames(tmp_path / "clip.mp4", times)]
    assert together[-1] is None
    expected = [10 + 2 * int(np.ceil(time * RATE)) for time in times[:-1]]
    assert together[:-1] == pytest.approx(expected, abs=1)
    assert [brightness(video.frames(tmp_path / "clip.mp4", [time])[0]) for time in times] == together


def test_frames_are_spread_over_a_video_up_to_a_number(photo_folder: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 8)
    shades = {}
    for at_most in (2, 100):
        pool = read(tmp_path, holdout=0, frames_per_second=0.5, frames_per_video=at_most).pools[0]
        shades[at_most] = {brightness(pool.draw(np.random.default_rng(i))) for i in range(60)}
    assert {len(values) for values in shades.values()} == {2, 4}
    assert sorted(shades[2]) == pytest.approx([10 + 2 * 20, 10 + 2 * 60], abs=1)
    assert sorted(shades[100]) == pytest.approx([10 + 2 * 10, 10 + 2 * 30, 10 + 2 * 50, 10 + 2 * 70], abs=1)


def test_a_video_is_held_out_whole(tmp_path: Path) -> None:
    for number in range(4):
        write_video(tmp_path / f"{number}.mp4", 2, first=25 * number)
    pictures = read(tmp_path, holdout=2, frames_per_second=5.0)
    clips = {int((brightness(square) - 9) / 50) for square in pictures.held_out(exact=False)}
    drawn = {int((brightness(pictures.pools[0].draw(np.random.default_rng(i))) - 9) / 50) for i in range(80)}
    assert len(clips) == len(drawn) == 2
    assert not clips & drawn
    assert pictures.describe() == "20 photos to train on, 2 held out, of 4 files"
    few = read(tmp_path, holdout=2, frames_per_second=5.0, max_pictures=1)
    np.testing.assert_array_equal(few.crops((0, 0), 20, 16), pictures.crops((0, 0), 20, 16))


def test_a_broken_video_is_counted_and_the_rest_used(photo_folder: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "good.mp4", 2)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:500])
    Image.new("RGB", (40, 40)).save(tmp_path / "still.png")
    pictures = read(tmp_path, holdout=0)
    assert pictures.rejects == {"no-video": 1}
    assert pictures.describe() == "3 photos to train on, 0 held out, of 3 files, 1 unusable"
    with pytest.raises(ImageError, match="no-video"):
        video.length(tmp_path / "still.png.mp4")


def test_work_ahead_comes_in_order_and_passes_errors_on() -> None:
    assert list(ahead(lambda n: n * n, range(50), threads=3)) == [n * n for n in range(50)]
    results = ahead(lambda n: 1 // (3 - n), range(50), threads=3)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
