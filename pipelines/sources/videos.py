"""Video files: sampled by time, cut into clips, or taken apart into stills."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import av
import cv2
import numpy as np
from jaxtyping import UInt8

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.files import VIDEO_ENDINGS, below, keys_of, listed, readable
from visent.errors import UserError

MAX_SHORT_SIDE = 512  # frames are reduced to this while reading, so that a clip of a 4K video fits in memory
CLOCK_TOLERANCE = 1e-3  # seconds; containers round their times to a millisecond
PROBED = 200  # videos opened for the estimate


class VideoError(ValueError):
    """A video, or the rest of one, that cannot be read; `reason` is a short stable word."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, kw_only=True)
class Videos(Dataset):
    """Any folder of videos: a row of role `frames` for each clip, or with --stills a row `image` for each frame.

    <root>/**/*.mp4, .avi, .mkv, .webm, .mov, ...
    """

    root: str
    fps: float = option(5.0, "Frames per second of video, sampled by time; never more than the video has.")
    frames_per_clip: int = option(64, "Frames in one row; the last clip of a video has what is left.")
    stills: bool = option(False, "Make each frame a row of role image instead.")

    items_per_shard: ClassVar[int] = 64

    def __post_init__(self) -> None:
        check_rate(self.fps, "--fps")
        if self.frames_per_clip < 1:
            raise UserError(f"--frames-per-clip is {self.frames_per_clip}, expected 1 or more")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """A clip `frames`, or a still `image`."""
        return {"image": "still"} if self.stills else {"frames": "clip"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the videos by their paths without ending."""
        for key, path in keys_of(listed(self.root, VIDEO_ENDINGS, "videos", left_out)).items():
            yield Item(key=key, files={"video": path})

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Gives clips or stills as pixels; the unreadable rest of a video is a reject after its good part."""
        path = below(self.root, item.files["video"])
        return stills(item, path, self.fps) if self.stills else clips(item, path, self.fps, self.frames_per_clip)

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Multiplies the rate by the lengths that the containers state."""
        return frames_in([below(self.root, item.files["video"]) for item in items], self.fps)


def frames_in(paths: Sequence[str], fps: float) -> int:
    """Guesses how many frames are sampled from videos, from the stated lengths of at most a few hundred."""
    if not paths:
        return 0
    probed = paths[:: -(-len(paths) // PROBED)]
    return round(sum(seconds(path) for path in probed) * fps * len(paths) / len(probed))


def check_rate(fps: float | None, option: str) -> None:
    """Refuses a rate that is not a positive number of frames per second.

    Raises: `UserError`.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise UserError(f"{option} is {fps}, expected frames per second of video between 0 and 1000")


def stills(item: Item, path: str, fps: float) -> Iterator[Example | Reject]:
    """Gives each sampled frame of a video as an example of role `image`, key `<video>#<n>`."""
    source = readable(item.files["video"])
    try:
        for n, (time, frame) in enumerate(sampled(path, fps)):
            meta = {"time": round(time, 3)}
            yield Example(key=f"{item.key}#{n:06d}", source=source, media={"image": frame}, meta=meta)
    except VideoError as error:
        yield Reject(key=item.key, source=source, stage="read", reason=error.reason, detail=error.detail)


def clips(item: Item, path: str, fps: float, frames_per_clip: int) -> Iterator[Example | Reject]:
    """Gives runs of sampled frames as examples of role `frames`, key `<video>#<n>`."""
    source = readable(item.files["video"])
    failed, number = None, 0
    frames: list[np.ndarray] = []
    times: list[float] = []

    def clip() -> Example:
        meta = {"times": list(times)}
        return Example(key=f"{item.key}#{number:05d}", source=source, media={"frames": list(frames)}, meta=meta)

    try:
        for time, frame in sampled(path, fps):
            frames.append(frame)
            times.append(round(time, 3))
            if len(frames) == frames_per_clip:
                yield clip()
                number += 1
                frames.clear()
                times.clear()
    except VideoError as error:
        failed = Reject(key=item.key, source=source, stage="read", reason=error.reason, detail=error.detail)
    if frames:
        yield clip()
    if failed:
        yield failed


def sampled(path: str, fps: float) -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
    """Yields (seconds since the first frame, upright RGB) of the first frame at or after each tick of 1/fps.

    Works by time stamps, so the rate may vary; no frame comes twice.

    Raises:
        VideoError: after all good frames, when the video cannot be opened, has none, is damaged or stops early.
    """
    try:
        with av.open(path, metadata_errors="ignore") as container:
            if not container.streams.video:
                raise VideoError("no-video-stream", f"{len(container.streams)} streams, none is video")
            yield from _ticks(container, fps)
    except av.FFmpegError as error:
        raise VideoError("unreadable", str(error)) from error


def _ticks(container: Any, fps: float) -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    rate = float(stream.average_rate or 0) or 25.0
    pixel_aspect = float(stream.codec_context.sample_aspect_ratio or 1)
    first, time, tick, count = None, 0.0, 0, 0
    try:
        for frame in container.decode(stream):
            stamp = frame.time if frame.time is not None else count / rate  # some AVI files carry no time stamps
            first = stamp if first is None else first
            time = stamp - first
            count += 1
            if time >= tick / fps - CLOCK_TOLERANCE:
                yield max(time, 0.0), _upright(frame, pixel_aspect)
                tick = int((time + CLOCK_TOLERANCE) * fps) + 1
    except av.FFmpegError as error:
        raise VideoError("damaged", f"after {time:.2f} s: {error}") from error
    if not count:
        raise VideoError("no-frames", "the container opens but no frame can be decoded")
    _check_length(stream, count, time + 1 / rate)


def _check_length(stream: Any, count: int, length: float) -> None:
    """Compares what came with what the container states; a quarter second and one frame in twenty are forgiven."""
    if stream.frames and count < 0.95 * stream.frames - 1:
        raise VideoError("stops-early", f"{count} of {stream.frames} frames")
    stated = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if length < 0.95 * stated - 0.25:
        raise VideoError("stops-early", f"{length:.2f} of {stated:.2f} seconds")


def _upright(frame: Any, pixel_aspect: float) -> UInt8[np.ndarray, "h w 3"]:
    """Converts a frame to RGB with square pixels, turned as its display matrix says, at most 512 on the short side."""
    pixels = frame.to_ndarray(format="rgb24")
    height, width = pixels.shape[:2]
    wide = width * pixel_aspect
    scale = min(1.0, MAX_SHORT_SIDE / min(wide, height))
    size = (max(round(wide * scale), 1), max(round(height * scale), 1))
    if size != (width, height):
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def seconds(path: str) -> float:
    """Returns the length that a video's container states, 0 where it states none; for estimates only."""
    try:
        with av.open(path, metadata_errors="ignore") as container:
            return float(container.duration or 0) / av.time_base
    except (av.FFmpegError, OSError):
        return 0.0
