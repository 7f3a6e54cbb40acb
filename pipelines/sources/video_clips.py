"""Rows of one video: clips or stills, by the options that every video dataset has."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import RoleKind, option
from pipelines.sources.files import readable
from pipelines.sources.video_frames import Sample, Video, VideoError, sampled, seconds
from visent.errors import UserError

MOST_SPANS = 10_000  # of one video; a container may state any length, and the last span goes to its end
PROBED = 200  # videos opened for the estimate


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Which frames of a video are kept, and how they become rows."""

    fps: float = option(5.0, "Frames per second of video, by time; never more than the video has; 0 takes every frame.")
    frames: int | None = option(None, "This many frames, spread evenly over the video, instead of --fps.")
    frames_per_clip: int = option(64, "Frames in one row; the last clip of a video has what is left.")
    max_frames: int | None = option(None, "Stop each video, or span of one, after this many frames.")
    scene_cuts: bool = option(False, "Begin a new clip at each hard cut.")
    stills: bool = option(False, "Make each frame a row of role image instead.")

    def __post_init__(self) -> None:
        check_rate(self.fps or None, "--fps")
        for name in ("frames", "frames_per_clip", "max_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} is {value}, expected 1 or more")

    @property
    def video_roles(self) -> dict[str, RoleKind]:
        """A clip `frames`, or a still `image`."""
        return {"image": "still"} if self.stills else {"frames": "clip"}

    def frames_of(self, length: float) -> float:
        """Guesses how many frames are kept of so many seconds of video."""
        kept = length * (self.fps or 30.0) if self.frames is None else float(self.frames)
        return kept if self.max_frames is None else min(kept, float(self.max_frames))


def check_rate(fps: float | None, option: str) -> None:
    """Refuses a rate that is not a positive number of frames per second.

    Raises: `UserError`.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise UserError(f"{option} is {fps}, expected frames per second of video between 0 and 1000")


def rows(item: Item, video: Video, options: VideoOptions) -> Iterator[Example | Reject]:
    """Gives the clips or stills of a video; its unreadable rest is a reject after the good part.

    `item.files["video"]` names the source. `item.data` may hold `span`, [start, end] in seconds, end null for the
    video's own; `meta`, which goes into every row beside `times` (or `time`), seconds since the first frame; and
    `actions`, each with its `start` and `end` in seconds, of which a row's meta has those that happen in it.
    """
    kept: list[Sample] = []
    number = 0
    until = span(item)[1] or math.inf
    failed: VideoError | None = None
    size = 1 if options.stills else options.frames_per_clip
    try:
        for taken, sample in enumerate(_sampled(item, video, options)):
            if taken == options.max_frames:
                until = sample.time
                break
            if kept and (len(kept) == size or sample.scene != kept[0].scene):
                yield _row(item, number, kept, sample.time, options.stills)
                number, kept = number + 1, []
            kept.append(sample)
    except VideoError as error:
        failed = error
    if kept:
        yield _row(item, number, kept, until, options.stills)
    if failed:
        source = readable(item.files["video"])
        yield Reject(key=item.key, source=source, stage="read", reason=failed.reason, detail=failed.detail)


def _sampled(item: Item, video: Video, options: VideoOptions) -> Iterator[Sample]:
    start, end = span(item)
    return sampled(video, options.fps or None, start, end, frames=options.frames, scene_cuts=options.scene_cuts)


def _row(item: Item, number: int, samples: Sequence[Sample], until: float, stills: bool) -> Example:
    """Makes the row of frames that are shown until a time."""
    pixels, times = [sample.pixels for sample in samples], [round(sample.time, 3) for sample in samples]
    media: Mapping[str, Any] = {"image": pixels[0]} if stills else {"frames": pixels}
    meta = {**item.data.get("meta", {}), **({"time": times[0]} if stills else {"times": times})}
    if "actions" in item.data:
        first = samples[0].time
        meta["actions"] = [one for one in item.data["actions"] if one["start"] < until and one["end"] >= first]
    key = f"{item.key}#{number:06d}" if stills else f"{item.key}#{number:05d}"
    return Example(key=key, source=readable(item.files["video"]), media=media, meta=meta)


def span(item: Item) -> tuple[float, float | None]:
    """Returns the part of its video that an item stands for, in seconds."""
    start, end = item.data.get("span", (0.0, None))
    return start, end


def spans(length: float, seconds_each: float) -> list[list[float | None]]:
    """Cuts a video of so many seconds (0 for unknown) into spans; the last has no end, and up to a second more."""
    whole = (length - 1.0) / seconds_each if math.isfinite(length) else 0.0
    count = min(max(math.ceil(whole), 1), MOST_SPANS)
    starts = [n * seconds_each for n in range(count)]
    return [[start, end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


def frames_expected(items: Sequence[Item], paths: Sequence[str], options: VideoOptions) -> int:
    """Guesses how many frames are kept, from the lengths that some of the containers state; for the ETA only."""
    if not items:
        return 0
    every = -(-len(items) // PROBED)
    lengths = list(places.at_once(_length, zip(items[::every], paths[::every], strict=True), paths[0]))
    return round(sum(map(options.frames_of, lengths)) * len(items) / len(lengths))


def _length(video: tuple[Item, str]) -> float:
    item, path = video
    start, end = span(item)
    return (seconds(path) if end is None else end) - start
