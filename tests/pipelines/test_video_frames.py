"""Frames of a video: by time, by span and by count, the same as other readers give, and in the right colours."""

import contextlib
import io
import math
import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_media import STEP, write_video
from numbered_videos import number_of, numbered_video, picture

from pipelines.sources.video_frames import VideoError, frame_rate, sampled, seconds

CODECS = {"mp4": ("libx264", {"bf": "2"}), "avi": ("mpeg4", {"bf": "2", "qmax": "2"}), "webm": ("libvpx-vp9", {}),
          "mkv": ("libx264", {"bf": "0"})}  # fmt: skip


def brightness(path: Path, fps: float) -> list[tuple[float, int]]:
    """Time and number of each sampled frame: `write_video` paints frame n with brightness STEP n."""
    return [(round(time, 3), round(float(frame.mean()) / STEP)) for time, frame, _ in sampled(str(path), fps)]


def numbers(video: object, *arguments: object, **options: object) -> list[int]:
    return [number_of(sample.pixels) for sample in sampled(video, *arguments, **options)]


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same 200 frames at 10 a second, with a key frame every 3.5 seconds, in several containers."""
    folder = tmp_path_factory.mktemp("long")
    return {
        ending: str(numbered_video(folder / f"a.{ending}", 200, codec=codec, gop=35, **options))
        for ending, (codec, options) in CODECS.items()
    }


def test_frames_are_taken_by_time(tmp_path: Path) -> None:
    assert brightness(write_video(tmp_path / "a.mp4"), 2.0) == [(0.0, 0), (0.5, 5), (1.0, 10), (1.5, 15)]


def test_a_rate_above_the_videos_gives_each_frame_once(tmp_path: Path) -> None:
    assert [time for time, _ in brightness(write_video(tmp_path / "a.mp4"), 50.0)] == [n / 10 for n in range(20)]


def test_a_variable_rate_is_sampled_by_time_stamps(tmp_path: Path) -> None:
    times = [0, 1, 2, 3, 4, 5, 100, 101, 102, 250, 251, 299]
    video = write_video(tmp_path / "a.mp4", frames=12, times=times)
    assert brightness(video, 1.0) == [(0.0, 0), (1.0, 6), (2.5, 9)]


@pytest.mark.parametrize("ending", CODECS)
def test_without_a_rate_every_frame_comes(long: dict[str, str], ending: str) -> None:
    assert numbers(long[ending], None) == list(range(200))


@settings(max_examples=25)
@given(start=st.floats(0, 21), length=st.floats(0.01, 25), ending=st.sampled_from(list(CODECS)))
def test_a_span_gives_the_frames_that_the_whole_gives_there(
    long: dict[str, str], start: float, length: float, ending: str
) -> None:
    end = start + length
    expected = [n for n in range(200) if start - 1e-3 <= n / 10 < end - 1e-3]
    if expected:
        found = list(sampled(long[ending], None, start, end))
        assert [number_of(sample.pixels) for sample in found] == expected
        assert [sample.time for sample in found] == pytest.approx([n / 10 for n in expected], abs=2e-3)
    else:
        with pytest.raises(VideoError, match="no-frames"):
            list(sampled(long[ending], None, start, end))


def test_spans_side_by_side_share_no_frame_and_miss_none(long: dict[str, str]) -> None:
    spans = [(0.0, 4.7), (4.7, 12.0), (12.0, 12.1), (12.1, None)]
    assert [n for span in spans for n in numbers(long["mp4"], None, *span)] == list(range(200))


def test_ticks_are_counted_from_the_start_of_the_span(long: dict[str, str]) -> None:
    assert numbers(long["mp4"], 0.5, 7.3, 14.0) == [73, 93, 113, 133]


@pytest.mark.parametrize(("start", "end"), [(0.0, 5.0), (14.0, 16.0), (15.0, None)])
def test_at_most_one_seek_and_no_second_decoding(
    long: dict[str, str], monkeypatch: pytest.MonkeyPatch, start: float, end: float | None
) -> None:
    counted: dict[str, int] = {"seek": 0, "decoded": 0}
    whole = av.open

    class Counting:
        """Passes everything on and counts."""

        def __init__(self, container: object) -> None:
            self.container = container

        def __getattr__(self, name: str) -> object:
            return getattr(self.container, name)

        def __enter__(self) -> "Counting":
            return self

        def __exit__(self, *error: object) -> None:
            self.container.close()

        def seek(self, *arguments: object, **options: object) -> None:
            counted["seek"] += 1
            self.container.seek(*arguments, **options)

        def decode(self, stream: object):
            for frame in self.container.decode(stream):
                counted["decoded"] += 1
                yield frame

    monkeypatch.setattr(av, "open", lambda *arguments, **options: Counting(whole(*arguments, **options)))
    found = numbers(long["mp4"], None, start, end, frames=8)
    assert len(found) == 8
    assert counted["seek"] == (1 if start > 4 else 0)
    span = ((end or 20.0) - start) * 10
    assert counted["decoded"] <= span + 35 + 20 + 2  # a distance of key frames, the seek's margin, and the ends


@pytest.mark.parametrize("ending", CODECS)
@pytest.mark.parametrize("count", [1, 5, 16, 64, 199, 200])
def test_a_count_is_spread_evenly(long: dict[str, str], ending: str, count: int) -> None:
    expected = [math.ceil(n * 200 / count - 0.01) for n in range(count)]  # frames at ticks, a millisecond forgiven
    assert numbers(long[ending], None, frames=count) == expected


def test_a_count_above_the_frames_gives_each_once(tmp_path: Path) -> None:
    assert numbers(str(numbered_video(tmp_path / "a.mp4", 7)), None, frames=64) == list(range(7))


def test_a_count_in_a_span_is_spread_over_the_span(long: dict[str, str]) -> None:
    assert numbers(long["mkv"], None, 5.0, 9.0, frames=4) == [50, 60, 70, 80]
    assert numbers(long["mkv"], None, 18.0, 99.0, frames=4) == [180, 185, 190, 195]  # over what is there


def test_sound_that_lasts_longer_than_the_pictures_does_not_stretch_a_count(tmp_path: Path) -> None:
    video = numbered_video(tmp_path / "a.mkv", 20, sound=6)
    assert numbers(str(video), None, frames=4) == [0, 5, 10, 15]


@pytest.mark.parametrize("ending", CODECS)
def test_an_open_file_is_read_as_its_path(long: dict[str, str], ending: str) -> None:
    file = io.BytesIO(Path(long[ending]).read_bytes())
    assert numbers(file, 2.0, 9.0, 16.0, frames=6) == numbers(long[ending], 2.0, 9.0, 16.0, frames=6)
    assert numbers(file, None) == list(range(200))  # again, from the front
    assert seconds(file) == pytest.approx(20.0, abs=0.2)
    assert frame_rate(file) == pytest.approx(10.0)


def test_a_file_that_is_gone_is_missing(tmp_path: Path) -> None:
    for options in ({}, {"frames": 4}):
        with pytest.raises(VideoError, match="missing"):
            list(sampled(str(tmp_path / "a.mp4"), None, **options))


@pytest.mark.parametrize("part", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("ending", ["avi", "mkv", "webm"])
def test_a_file_that_was_cut_gives_what_is_there_and_says_so(long: dict[str, str], ending: str, part: float) -> None:
    content = Path(long[ending]).read_bytes()
    samples, found = sampled(io.BytesIO(content[: int(len(content) * part)]), None), []
    with pytest.raises(VideoError, match=r"stops-early|damaged"):
        found.extend(number_of(sample.pixels) for sample in samples)  # keeps what came before
    assert 20 < len(found) < 195
    assert found[:-2] == list(range(len(found) - 2))


def test_a_codec_that_nobody_knows_is_named(tmp_path: Path) -> None:
    path = numbered_video(tmp_path / "a.mkv", 5)
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ"))
    with pytest.raises(VideoError, match="unknown-codec"):
        list(sampled(str(path), None))
    assert frame_rate(str(path)) == 25.0


@pytest.mark.parametrize(("aspect", "shape"), [("2", (48, 128, 3)), ("1/2", (48, 32, 3)), ("16", None), ("1/16", None)])
def test_pixels_become_square_and_those_of_a_senseless_shape_are_refused(
    tmp_path: Path, aspect: str, shape: tuple[int, ...] | None
) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(1), format="rgb24")))
        container.mux(stream.encode())
    if shape is None:
        with pytest.raises(VideoError, match="damaged: its pixels are"):
            list(sampled(str(path), None))
    else:
        assert [sample.pixels.shape for sample in sampled(str(path), None)] == [shape]


@given(data=st.data(), ending=st.sampled_from(list(CODECS)))
def test_damage_of_any_kind_gives_frames_or_a_reason(long: dict[str, str], data: st.DataObject, ending: str) -> None:
    content = bytearray(Path(long[ending]).read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(1, len(content))) :]
    places = st.integers(0, data.draw(st.sampled_from([600, len(content)])) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=12)):
        content[place % len(content)] = value
    count = data.draw(st.sampled_from([None, 4]))
    with contextlib.suppress(VideoError):
        list(sampled(io.BytesIO(bytes(content)), 5.0, 4.5, frames=count))


def test_large_frames_are_reduced_while_reading(tmp_path: Path) -> None:
    ((_, frame, _),) = sampled(str(write_video(tmp_path / "a.mp4", size=(1280, 720), frames=1)), 1.0)
    assert frame.shape == (512, 910, 3)


@pytest.mark.parametrize("side", [64, 640])  # the larger is reduced
@pytest.mark.parametrize("matrix", [1, 5])  # BT.709, BT.601
@pytest.mark.parametrize("levels", [1, 2])  # 16 to 235, 0 to 255
def test_colours_come_back_whatever_matrix_and_range_the_video_uses(
    tmp_path: Path, side: int, matrix: int, levels: int
) -> None:
    colours = np.array([[(200, 60, 30), (20, 180, 60)], [(40, 50, 220), (250, 250, 250)]], np.uint8)
    pixels = np.repeat(np.repeat(colours, side // 2, axis=0), side // 2, axis=1)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, levels
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=levels)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    ((_, read, _),) = sampled(str(tmp_path / "a.mp4"), None)
    quarter, half = len(read) // 4, len(read) // 2
    assert len(read) == min(side, 512)
    np.testing.assert_allclose(
        read[quarter::half, quarter::half].astype(int), colours.astype(int), atol=4
    )  # a wrong matrix is 20 off


@pytest.mark.parametrize("size", [(64, 48), (720, 576)])
@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (0, -1, 1, 0), (-1, 0, 0, -1)])
def test_a_phones_video_is_turned_upright_as_opencv_turns_it(
    tmp_path: Path, size: tuple[int, int], matrix: tuple[int, ...]
) -> None:
    path = numbered_video(tmp_path / "a.mp4", 1, size=size)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44  # the matrix of the track's header: a b u, c d v, x y w
    a, b, c, d = (value << 16 for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    ((_, read, _),) = sampled(str(path), None)
    _, expected = cv2.VideoCapture(str(path)).read()
    expected = cv2.resize(expected, read.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert (read.shape[0] > read.shape[1]) == (matrix[0] == 0)
    np.testing.assert_allclose(read.astype(int), expected[..., ::-1].astype(int), atol=6)


@pytest.mark.parametrize("format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gray", "bgr0"])
def test_any_pixel_format_becomes_rgb_at_any_size(tmp_path: Path, format: str) -> None:
    for side in (66, 1024):
        path = tmp_path / f"{side}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = side, side, format
            grey = av.VideoFrame.from_ndarray(np.full((side, side, 3), 77, np.uint8), format="rgb24")
            container.mux(stream.encode(grey.reformat(format=format)))
            container.mux(stream.encode())
        ((_, read, _),) = sampled(str(path), None)
        assert read.shape == (min(side, 512), min(side, 512), 3)
        np.testing.assert_allclose(read.astype(int), 77, atol=2)


def videos_of(samples: Path) -> list[Path]:
    found = [path for path in sorted(samples.rglob("*")) if path.suffix in (".mp4", ".avi", ".mkv", ".webm")]
    return [path for path in found if path.name != "corrupted.mp4" and path.stat().st_size < 1 << 20]


@pytest.mark.slow
def test_real_videos_give_the_frames_and_times_of_opencv_and_of_their_packets(samples: Path) -> None:
    for path in videos_of(samples):
        found = [(sample.time, sample.pixels.mean()) for sample in sampled(str(path), None)]
        times = [time for time, _ in found]
        assert all(before < after for before, after in pairwise(times)), path
        if path.name == "torchcodec_nasa_13013.mp4":
            continue  # two video streams: OpenCV reads the first, FFmpeg and visent the larger
        shown = _opencv(path)
        assert len(found) == len(shown), path
        np.testing.assert_allclose([mean for _, mean in found], shown, atol=2.5, err_msg=str(path))
        if path.suffix != ".avi":  # whose packets carry no presentation times
            assert times == pytest.approx(_packet_times(path), abs=2e-3), path


def _opencv(path: Path) -> list[float]:
    """The mean of each frame that OpenCV decodes."""
    capture, means = cv2.VideoCapture(str(path)), []
    while True:
        there, frame = capture.read()
        if not there:
            return means
        means.append(float(frame.mean()))


def _packet_times(path: Path) -> list[float]:
    """Presentation times of the packets that are shown, from the first, without decoding."""
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        shown = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        times = sorted(float(packet.pts * stream.time_base) for packet in shown)
    return [time - times[0] for time in times]


@pytest.mark.slow
def test_spans_of_real_videos_are_what_the_whole_gives(samples: Path) -> None:
    for path in videos_of(samples):
        whole = [(sample.time, sample.pixels.mean()) for sample in sampled(str(path), None)]
        start, end = whole[-1][0] * 0.55, whole[-1][0] * 0.8
        expected = [one for one in whole if start - 1e-3 <= one[0] < end - 1e-3]
        found = [(sample.time, sample.pixels.mean()) for sample in sampled(str(path), None, start, end)]
        assert [time for time, _ in found] == [time for time, _ in expected], path
        np.testing.assert_allclose([mean for _, mean in found], [mean for _, mean in expected], atol=0.01)


def test_a_clip_that_was_cut_without_encoding_gives_what_its_edit_list_shows(samples: Path) -> None:
    path = samples / "videos" / "clip-video-encode_vid2.mp4"  # 179 frames stored, 134 shown
    assert len(list(sampled(str(path), None))) == 134


def test_metadata_that_is_not_utf8_does_not_stop_a_video(samples: Path) -> None:
    (path,) = (samples / "hmdb51").rglob("*cartwheel*.avi")
    assert len(list(sampled(str(path), 5.0))) > 3
