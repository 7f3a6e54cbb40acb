"""Videos with annotations frame by frame, each in a folder of its own, as video files or folders of frames."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from pathlib import PurePath
from typing import Any, Literal

from manifests.legend import Legend
from pipelines.render.depth import draw_depth
from pipelines.render.labels import draw_labels
from pipelines.render.legends import any_labels
from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import RoleKind, option
from pipelines.sources.files import below, matched, readable
from pipelines.sources.frame_files import FramesError, names_in, numbered
from pipelines.sources.frame_folders import FrameFolders
from pipelines.sources.frames import drawn, frame, picked
from pipelines.sources.reading import read_file
from pipelines.sources.video_frames import VideoError, sampled
from pipelines.sources.video_lists import videos_in
from pipelines.sources.video_masks import objects
from visent.errors import UserError, unknown

Shown = tuple[float | None, Any]  # seconds, where known, and a Still


@dataclass(frozen=True, kw_only=True)
class VideoPairs(FrameFolders):
    """Any videos with annotations of each frame, paired by name; the annotations' folders name their roles.

    <root>/frames/<video>.mp4 ... or <root>/frames/<video>/*00001.jpg ...
    <root>/mask/<video>.mp4 ...   or <root>/mask/<video>/*00001.png ...

    Folders of frames are paired by the number in the files' names, a video file by position. A video file is taken as
    it looks; of pictures the options say what they hold.
    """

    root: str
    folders: tuple[str, ...] = option(("frames", "mask"), "Folders below the root, one for each role, the input first.")
    labels: tuple[str, ...] = option((), "Roles whose pictures hold class ids, to be drawn.")
    instances: tuple[str, ...] = option((), "Roles whose pictures hold object ids, to be drawn.")
    depth: tuple[str, ...] = option((), "Roles whose pictures hold depth, to be drawn.")
    depth_is: Literal["disparity", "distance"] = option("disparity", "Whether larger depth values are nearer.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.folders) < 2:
            raise UserError(f"--folders names {len(self.folders)}, expected two or more: frames,mask")
        for role in (*self.labels, *self.instances, *self.depth):
            if role not in self.folders:
                raise unknown("role", role, self.folders)

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """A clip for each folder."""
        return dict.fromkeys(self.folders, "clip")

    @property
    def legends(self) -> Mapping[str, Legend]:
        """Of the roles of --labels."""
        return dict.fromkeys(self.labels, any_labels())

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists every name that any role has."""
        return matched({role: videos(self.root, role) for role in self.folders})

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the roles side by side."""
        makers: dict[str, Callable[..., Any]] = dict.fromkeys(self.folders, frame)
        makers |= dict.fromkeys(self.labels, partial(drawn, decode=draw_labels))
        makers |= dict.fromkeys(self.instances, objects(item.key))
        depth = partial(drawn, decode=partial(draw_depth, depth_is=self.depth_is), exact=False)
        makers |= dict.fromkeys(self.depth, depth)
        return pair_clips(self, item, makers)


def videos(root: str, folder: str) -> Iterator[tuple[str, str]]:
    """Lists name and path of the videos in a folder of `root`: video files at any depth, and folders of frames in it.

    Raises: `UserError` when it cannot be listed.
    """
    files = videos_in(root, folder)
    yield from files.items()
    parents = {PurePath(path).relative_to(folder).parts[0] for path in files.values()}
    yield from ((name, below(folder, name)) for name in names_in(root, folder) if name not in parents)


def pair_clips(
    dataset: FrameFolders, item: Item, makers: Mapping[str, Callable[..., Any]], rate: float | None = None
) -> Iterator[Example | Reject]:
    """Gives the clips of a video whose roles are video files or folders of frames; see `VideoPairs`."""
    folders = {role: places.is_folder(below(dataset.root, path)) for role, path in item.files.items()}
    if all(folders.values()):
        patterns = {role: below(path, "*%d") for role, path in item.files.items()}
        return dataset.clips(item, patterns, makers, rate=rate)
    if dataset.frames is not None and any(folders.values()):
        raise UserError("--frames needs folders of frames alone, or video files alone; give --stride")
    sides = {
        role: _of_folder(dataset, role, path, makers[role]) if folders[role] else _of_video(dataset, path)
        for role, path in item.files.items()
    }
    return _side_by_side(item, sides, dataset.frames_per_clip, dataset.max_frames)


def _of_video(dataset: FrameFolders, path: str) -> Iterator[Shown]:
    samples = sampled(below(dataset.root, path), None, frames=dataset.frames)
    for sample in islice(samples, 0, None, dataset.stride):
        yield sample.time, sample.pixels


def _of_folder(dataset: FrameFolders, role: str, path: str, make: Callable[..., Any]) -> Iterator[Shown]:
    frames = numbered(dataset.root, {role: below(path, "*%d")})
    files = [frames[number][role] for number in picked(list(frames), dataset.stride)]
    found = places.at_once(lambda file: read_file("", readable(file), below(dataset.root, file)), files, dataset.root)
    for file, data in zip(files, found, strict=True):
        if isinstance(data, Reject):
            raise FramesError(data.reason, f"{readable(file)}: {data.detail}")
        yield None, make(data)


def _side_by_side(
    item: Item, sides: Mapping[str, Iterator[Shown]], frames_per_clip: int, most: int | None
) -> Iterator[Example | Reject]:
    """Gives clips of the frames in equal positions; when one side ends early or fails, the rest is a reject."""
    source = readable(next(iter(item.files.values())))
    kept: list[Mapping[str, Shown]] = []
    rows = 0
    failed: VideoError | FramesError | None = None
    try:
        for shown in islice(_together(sides), most):
            kept.append(shown)
            if len(kept) == frames_per_clip:
                yield _row(item, source, rows, kept)
                rows, kept = rows + 1, []
    except (VideoError, FramesError) as error:
        failed = error
    if kept:
        yield _row(item, source, rows, kept)
    if failed:
        yield Reject(key=item.key, source=source, stage="read", reason=failed.reason, detail=failed.detail)


def _together(sides: Mapping[str, Iterator[Shown]]) -> Iterator[dict[str, Shown]]:
    count = 0
    for count, frames in enumerate(zip_longest(*sides.values()), 1):
        ended = [role for role, shown in zip(sides, frames, strict=True) if shown is None]
        if ended:
            raise FramesError("lengths-differ", f"{', '.join(ended)}: only {count - 1} frames")
        yield dict(zip(sides, frames, strict=True))
    if not count:
        raise FramesError("no-frames", "no numbered picture")


def _row(item: Item, source: str, number: int, kept: Sequence[Mapping[str, Shown]]) -> Example:
    media = {role: [shown[role][1] for shown in kept] for role in kept[0]}
    times = [time for shown in kept for time, _ in islice(shown.values(), 1) if time is not None]
    meta = {**item.data.get("meta", {}), **({"times": [round(time, 3) for time in times]} if times else {})}
    return Example(key=f"{item.key}#{number:05d}", source=source, media=media, meta=meta)
