"""Videos taken apart into frames by tools like denseflow, as MMAction2 and many loaders read them."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from manifests import files
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import option
from pipelines.sources.files import below, read_list, walk
from pipelines.sources.frame_files import Frames, annotated, fitting, with_gaps
from pipelines.sources.frame_folders import AnnotatedFolders, TimedFolders
from pipelines.sources.frames import frame, video_item
from pipelines.sources.video_clips import check_rate
from visent.errors import UserError

_LINE = re.compile(r"(?P<folder>.+?) (?P<count>[0-9]+)(?P<labels>( [0-9]+)*)")


@dataclass(frozen=True, kw_only=True)
class RawFrames(TimedFolders, AnnotatedFolders):
    """Any folders of frames: a row of role `frames` for each clip of a folder.

    <root>/**/<video>/img_00001.jpg ...
    <root>/**/<video>/{x,y}_00001.jpg ...  (optical flow, optional)
    <root>/<list>                          (<video> <number of frames> <class indices>, optional)
    """

    root: str
    pattern: str = option("img_%d", "Names of the frames, %d for the number; * stands for any text.")
    list_file: str | None = option(
        None, "List of the videos, below the root, absolute or a URL; {split} stands for train, val and test."
    )
    rate: float | None = option(None, "Frames per second, if times are wanted.")
    annotations: tuple[str, ...] = option((), "Roles beside the frames, of flow_x and flow_y.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    drawings: ClassVar[tuple[str, ...]] = ("flow_x", "flow_y")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pattern.count("%d") != 1 or "/" in self.pattern:
            raise UserError(f"--pattern {self.pattern!r}: expected a file name with one %d, as img_%d.jpg")
        check_rate(self.rate, "--rate")
        if self.fps is not None and self.rate is None:
            raise UserError("--fps needs the frames' --rate; or give --stride")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the videos of the list, or all folders that hold a frame."""
        if self.list_file is None:
            for name in self._folders() if split == "train" else ():
                yield video_item(self.root, name, {"frames": name})
        elif split == "train" or "{split}" in self.list_file:
            for line in read_list("", files.join(self.root, self.list_file.replace("{split}", split))):
                yield self._listed(line)

    def _folders(self) -> Iterator[str]:
        fits = fitting(self.pattern)
        found = (os.path.split(path) for path in walk(self.root))
        yield from dict.fromkeys(folder or "." for folder, name in found if fits.fullmatch(name))

    def _listed(self, line: str) -> Item:
        fields = _LINE.fullmatch(line)
        if fields is None:
            raise UserError(f"{self.list_file}: {line!r}, expected a folder, its number of frames and classes")
        labels = [int(label) for label in fields["labels"].split()]
        meta: dict[str, Any] = {"class_index": labels[0]} if len(labels) == 1 else {"class_indices": labels}
        folder = fields["folder"]
        return video_item(
            self.root, folder, {"frames": folder}, meta=meta if labels else {}, count=int(fields["count"])
        )

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the frames; of a listed video as many as the list says, with flow those that have it."""
        names = {"frames": self.pattern, "flow_x": "x_%d", "flow_y": "y_%d"}
        patterns = {role: below(item.files["frames"], names[role]) for role in self.roles}
        keep: Callable[[Frames], Frames] = partial(counted, count=item.data.get("count"))
        if self.annotations:
            keep = partial(annotated, roles=tuple(self.roles))
        return self.clips(item, patterns, dict.fromkeys(self.roles, frame), keep, self.rate)


def counted(frames: Frames, count: int | None) -> Frames:
    """Keeps the first `count` frames, without gaps; all, as they are numbered, where no list says how many."""
    return with_gaps(frames, last=min(frames) + count - 1) if frames and count else frames
