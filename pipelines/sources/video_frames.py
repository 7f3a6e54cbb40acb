"""Frames of one video, sampled by time: decoded once, from front to back, after at most one seek."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BufferedIOBase
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import UInt8

from pipelines.augment import LARGEST_ASPECT
from pipelines.sources import places
from pipelines.sources.video_scenes import with_scenes
from visent.untrusted.films import DECODING, OPENING

Video = str | BufferedIOBase  # a path or URL, or an open file that can seek

MAX_SHORT_SIDE = 512  # frames are reduced to this while reading, so that a clip of a 4K video fits in memory
STUCK = 120.0  # seconds that opening or one read may take: a made-up index can lead in circles
STUCK_REMOTE = 900.0  # longer than a bucket is asked again before the job ends: no video is to blame for that
WIDEST_PIXEL = 8  # times the height; more is a damaged header
CLOCK_TOLERANCE = 1e-3  # seconds; containers round their times to a millisecond
SEEK_MARGIN = 2.0  # seconds before a span to seek to: a container's index orders frames as they are stored, not shown

SCALING = Interpolation.AREA | Interpolation.BITEXACT


class VideoError(ValueError):
    """A video, or the rest of one, that cannot be read; `reason` is a short stable word."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Sample(NamedTuple):
    """One sampled frame: seconds since the video's first frame, upright RGB, and the number of hard cuts before it."""

    time: float
    pixels: UInt8[np.ndarray, "h w 3"]
    scene: int


def sampled(
    video: Video,
    fps: float | None,
    start: float = 0.0,
    end: float | None = None,
    *,
    frames: int | None = None,
    scene_cuts: bool = False,
) -> Iterator[Sample]:
    """Yields the first frame at or after each tick of 1/fps seconds, counted from `start`; without `fps` every frame.

    Works by time stamps, so the rate may vary; no frame comes twice. Of a span, frames with start <= time < end come.
    `frames` spreads that many ticks evenly over the span instead. With `scene_cuts` every decoded frame is compared
    with the one before; else all frames have scene 0.

    Raises:
        VideoError: after all good frames, when the video cannot be opened, has none in the span, is damaged or stops
            early.
    """
    try:
        if frames is not None:
            length = _span_length(video, start, end)
            fps = frames / length if length > 0 else None
        with _opened(video) as container:
            yield from _samples(container, fps, start, end, frames, scene_cuts)
    except FileNotFoundError as error:  # PyAV's own is one too
        raise VideoError("missing", "gone since the listing") from error
    except av.FFmpegError as error:
        raise VideoError("unreadable", str(error)) from error


@contextmanager
def _opened(video: Video) -> Iterator[Any]:
    if not isinstance(video, str):
        video.seek(0)
    remote = isinstance(video, str) and places.is_url(video)
    patience = STUCK_REMOTE if remote else STUCK
    with (
        places.openable(video) if isinstance(video, str) else nullcontext(video) as file,
        av.open(file, metadata_errors="ignore", options=dict(OPENING), timeout=patience) as container,
    ):
        yield container


def _stream(container: Any) -> Any:
    """Returns the video stream; a cover picture is none where there is another."""
    stream = container.streams.best("video")
    if stream is None:
        raise VideoError("no-video-stream", f"{len(container.streams)} streams, none is video")
    if stream.codec_context is None:
        raise VideoError("unknown-codec", "FFmpeg has no decoder for its pictures")
    if not stream.codec_context.is_open:
        stream.codec_context.options = dict(DECODING)
    return stream


def _samples(
    container: Any, fps: float | None, start: float, end: float | None, most: int | None, scene_cuts: bool
) -> Iterator[Sample]:
    stream = _stream(container)
    convert = _Converter(stream)
    shown = _shown(container, stream, start, end)
    tick = taken = 0
    for time, frame, scene in with_scenes(shown) if scene_cuts else ((*one, 0) for one in shown):
        since = time - start + CLOCK_TOLERANCE
        if fps is None or since >= tick / fps:
            yield Sample(max(time, 0.0), convert(frame), scene)
            taken += 1
            if taken == most:
                return
            tick = int(since * fps) + 1 if fps else 0


def _shown(container: Any, stream: Any, start: float, end: float | None) -> Iterator[tuple[float, Any]]:
    """Yields (seconds since the video's first frame, frame) of a span."""
    stream.thread_type = "AUTO"
    time, count = 0.0, 0
    try:
        for time, frame in _timed(container, stream, start):
            if end is not None and time >= end - CLOCK_TOLERANCE:
                break
            if time >= start - CLOCK_TOLERANCE:
                count += 1
                yield time, frame
        else:
            _check_length(container, stream, time)
    except av.FFmpegError as error:
        raise VideoError("damaged", f"after {time:.2f} s: {error}") from error
    if not count:
        until = "the end" if end is None else f"{end:g} s"
        raise VideoError("no-frames", f"the container opens but no frame can be decoded from {start:g} s to {until}")


def _timed(container: Any, stream: Any, start: float) -> Iterator[tuple[float, Any]]:
    """Yields every decoded frame, from the key frame before `start`, with its seconds since the video's first."""
    frames = container.decode(stream)
    frame = next(frames, None)
    if frame is None:
        return
    clock = _stored_clock if container.format.name == "avi" else _shown_clock
    first = clock(frame)
    if first is not None and start > 2 * SEEK_MARGIN:
        container.seek(round((first + start - SEEK_MARGIN) / stream.time_base), stream=stream)
        frames = container.decode(stream)
    else:
        yield 0.0, frame
    time, step = 0.0, 1 / _rate(stream)
    for frame in frames:
        stamp = clock(frame)
        time = time + step if stamp is None or first is None else stamp - first
        yield time, frame


def _shown_clock(frame: Any) -> float | None:
    """Returns a frame's time stamp in seconds, where it has one."""
    return None if frame.time is None else float(frame.time)


def _stored_clock(frame: Any) -> float | None:
    """Returns the stamp of AVI, which only numbers frames as they are stored; FFmpeg's guess of the rest jumps."""
    return None if frame.dts is None else float(frame.dts * frame.time_base)


def _rate(stream: Any) -> float:
    return float(stream.average_rate or 0) or 25.0


def _check_length(container: Any, stream: Any, last: float) -> None:
    """Compares the end that came with what the container states; a quarter second and one in twenty are forgiven.

    Frames are not counted: a clip cut without encoding holds more than it shows.
    """
    length = last + 1 / _rate(stream)
    stated = _stated_seconds(container, stream) or float(container.duration or 0) / av.time_base
    if length < 0.95 * stated - 0.25:
        raise VideoError("stops-early", f"{length:.2f} of {stated:.2f} seconds")


def _stated_seconds(container: Any, stream: Any) -> float:
    """Returns the video stream's length as its container states it, 0 where it does not."""
    if container.format.name == "avi":  # whose duration FFmpeg shortens to what is there
        return float(stream.frames / _rate(stream))
    if stream.duration:
        return float(stream.duration * stream.time_base)
    told = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))  # Matroska, by FFmpeg
    return int(told[1]) * 3600 + int(told[2]) * 60 + float(told[3]) if told else 0.0


def _span_length(video: Video, start: float, end: float | None) -> float:
    """Returns the seconds of video in a span; reads the packets, without decoding, where the container states none."""
    with _opened(video) as container:
        stream = _stream(container)
        whole = _stated_seconds(container, stream) or _packet_seconds(container, stream)
    return (whole if end is None else min(end, whole)) - start


def _packet_seconds(container: Any, stream: Any) -> float:
    stamps = [packet.pts for packet in container.demux(stream) if packet.size and packet.pts is not None]
    return float((max(stamps) - min(stamps)) * stream.time_base) + 1 / _rate(stream) if stamps else 0.0


class _Converter:
    """Frames as RGB with square pixels, turned as their display matrix says, at most 512 on the short side."""

    def __init__(self, stream: Any) -> None:
        self._aspect = float(stream.sample_aspect_ratio or 1)
        if not 1 / WIDEST_PIXEL <= self._aspect <= WIDEST_PIXEL:
            raise VideoError("damaged", f"its pixels are {self._aspect:g} times as wide as high")
        self._scaler, self._painter = VideoReformatter(), VideoReformatter()  # kept for their tables

    def __call__(self, frame: Any) -> UInt8[np.ndarray, "h w 3"]:
        wide, turns = frame.width * self._aspect, round(frame.rotation / 90)
        if max(wide, frame.height) > LARGEST_ASPECT * min(wide, frame.height):
            raise VideoError(
                "too-narrow", f"{frame.width} x {frame.height}, one side is over {LARGEST_ASPECT} times the other"
            )
        scale = min(1.0, MAX_SHORT_SIDE / min(wide, frame.height))
        size = max(round(wide * scale), 1), max(round(frame.height * scale), 1)
        if size != (frame.width, frame.height):  # before the colours: three times as fast as both in one
            between = frame.format.name if frame.format.name.startswith("yuv") else "rgb24"
            frame = self._scaler.reformat(frame, *size, between, interpolation=SCALING, threads=1)
        pixels = self._painter.reformat(frame, format="rgb24", interpolation=SCALING, threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, turns))


def seconds(video: Video) -> float:
    """Returns the length that a container states, of its longest stream; 0 where it states none or cannot be read."""
    try:
        with _opened(video) as container:
            return float(container.duration or 0) / av.time_base
    except (av.FFmpegError, OSError):
        return 0.0


def frame_rate(video: Video) -> float:
    """Returns the frames per second that a container states, 25 where it states none or cannot be read."""
    try:
        with _opened(video) as container:
            return _rate(_stream(container))
    except (av.FFmpegError, OSError, VideoError):
        return 25.0
