"""What datasets of frame folders share: options that choose frames, and the way from a video to its rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.files import below, readable
from pipelines.sources.frame_files import Frames, FramesError, check_span, numbered
from pipelines.sources.frames import frame_clips, picked
from pipelines.sources.video_clips import check_rate
from pipelines.sources.video_frames import CLOCK_TOLERANCE
from visent.errors import UserError, unknown

PROBED = 50  # folders counted for the estimate


@dataclass(frozen=True, kw_only=True)
class FrameFolders(Dataset):
    """What datasets of frame folders share: which frames of a video are kept, and how they become rows.

    An item is a video; `item.files` names its folders, that of the frames first.
    """

    root: str
    frames_per_clip: int = option(64, "Frames in one row; the last clip of a video has what is left.")
    stride: int = option(1, "Take every n-th frame.")
    frames: int | None = option(None, "This many frames, spread evenly over the video, instead of --stride.")
    max_frames: int | None = option(None, "Stop each video after this many frames.")

    items_per_shard: ClassVar[int] = 64
    small_items: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("frames_per_clip", "stride", "frames", "max_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} is {value}, expected 1 or more")
        if self.frames is not None and self.stride != 1:
            raise UserError("--frames spreads the frames over the video, --stride fixes their distance; give one")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The clip."""
        return {"frames": "clip"}

    def clips(
        self,
        item: Item,
        patterns: Mapping[str, str],
        roles: Mapping[str, Callable[..., Any]],
        keep: Callable[[Frames], Frames] = dict,
        rate: float | None = None,
    ) -> Iterator[Example | Reject]:
        """Reads a video's frames as `numbered` finds them and `keep` keeps them; `rate` is in frames per second.

        `roles` says for each role what its bytes become; `item.data["meta"]` goes into every row.
        """
        try:
            frames = keep(numbered(self.root, patterns))
            check_span(frames)
        except FramesError as error:
            yield _video_reject(item, error)
            return
        first = min(frames, default=0)
        times = {n: (n - first) / rate for n in frames} if rate else None
        yield from self.cut(item, frames, roles, times)

    def cut(
        self,
        item: Item,
        frames: Frames,
        roles: Mapping[str, Callable[..., Any]],
        times: Mapping[int, float] | None = None,
    ) -> Iterator[Example | Reject]:
        """Cuts a video as the options say: see `frame_clips`."""
        try:
            numbers = self.chosen(list(frames), times)[: self.max_frames]
        except FramesError as error:
            return iter([_video_reject(item, error)])
        kept = {n: frames[n] for n in numbers}
        return frame_clips(self.root, item, kept, roles, self.frames_per_clip, times)

    def chosen(self, numbers: Sequence[int], times: Mapping[int, float] | None) -> Sequence[int]:
        """Chooses frames by their place."""
        return picked(numbers, self.stride, self.frames)

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Counts the files in some of the folders."""
        probed = items[:: -(-len(items) // PROBED)] if items else ()
        folders = [below(self.root, next(iter(item.files.values()))) for item in probed]
        counts = list(places.at_once(_count, folders, self.root))
        if not counts:
            return 0
        taken = [min(self.kept(count), self.max_frames or count) for count in counts]
        return round(sum(taken) * len(items) / len(counts))

    def kept(self, files: int) -> int:
        """Guesses how many frames are kept of a folder of so many."""
        return len(picked(range(files), self.stride, self.frames))


@dataclass(frozen=True, kw_only=True)
class TimedFolders(FrameFolders):
    """Frame folders whose frames have known times."""

    fps: float | None = option(None, "Frames per second, by time, instead of --stride; never more than there are.")

    files_per_second: ClassVar[float | None] = None  # where it is the same in all videos

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate(self.fps, "--fps")
        if self.fps is not None and (self.stride != 1 or self.frames is not None):
            raise UserError("--fps, --stride and --frames each choose frames; give one of them")

    def chosen(self, numbers: Sequence[int], times: Mapping[int, float] | None) -> Sequence[int]:
        """Chooses by place, or the first frame at or after each tick of --fps.

        Raises:
            FramesError: reason "no-times": of this video they are not known.
        """
        if self.fps is None:
            return super().chosen(numbers, times)
        if times is None:
            raise FramesError("no-times", "--fps needs the times of the frames; give --stride")
        found, tick = [], 0
        for number in numbers:
            if times[number] >= tick / self.fps - CLOCK_TOLERANCE:
                found.append(number)
                tick = int((times[number] + CLOCK_TOLERANCE) * self.fps) + 1
        return found

    def kept(self, files: int) -> int:
        """Guesses from the usual rate."""
        if self.fps is None or self.files_per_second is None:
            return super().kept(files)
        return round(files * min(1.0, self.fps / self.files_per_second))


@dataclass(frozen=True, kw_only=True)
class AnnotatedFolders(FrameFolders):
    """Frame folders with annotations of the frames, which can be chosen."""

    annotations: tuple[str, ...] = ()

    drawings: ClassVar[tuple[str, ...]] = ()  # the annotations that the dataset has

    def __post_init__(self) -> None:
        super().__post_init__()
        for role in self.annotations:
            if role not in self.drawings:
                raise unknown("annotation", role, self.drawings)

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The clip, and a clip of each annotation."""
        return {"frames": "clip", **dict.fromkeys(self.annotations, "clip")}


def _video_reject(item: Item, error: FramesError) -> Reject:
    source = readable(next(iter(item.files.values())))
    return Reject(key=item.key, source=source, stage="read", reason=error.reason, detail=error.detail)


def _count(folder: str) -> int:
    try:
        return len(places.names_in(folder))
    except OSError:
        return 0
