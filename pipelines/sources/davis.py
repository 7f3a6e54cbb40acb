"""DAVIS 2016 (Perazzi et al., A Benchmark Dataset for Video Object Segmentation) and 2017 (Pont-Tuset et al.)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import option
from pipelines.sources.files import read_list
from pipelines.sources.frame_files import annotated, with_gaps
from pipelines.sources.frame_folders import AnnotatedFolders, TimedFolders
from pipelines.sources.frames import frame, video_item
from pipelines.sources.video_masks import VOID, mask, objects
from visent.errors import UserError

LISTS = {"train": ("train",), "val": ("val",), "test": ("test-dev", "test-challenge")}
RATE = 24.0  # frames per second


@dataclass(frozen=True, kw_only=True)
class DAVIS(TimedFolders, AnnotatedFolders):
    """DAVIS: videos with masks of their moving objects; of the test videos, the annotated first frame.

    <root>/JPEGImages/{480p,1080p,Full-Resolution}/<video>/00000.jpg ...
    <root>/Annotations/{480p,1080p,Full-Resolution}/<video>/00000.png ...

    2017 (pixel = object's id):
    <root>/ImageSets/2017/{train,val,test-dev,test-challenge}.txt  (<video>)

    2016 (0 or 255):
    <root>/ImageSets/480p/{train,val}.txt  (/JPEGImages/480p/<video>/00000.jpg /Annotations/480p/<video>/00000.png)
    """

    root: str
    year: Literal["2017", "2016"] = option("2017", "Whose lists to read; 2016 has one object in a video.")
    resolution: Literal["480p", "1080p", "Full-Resolution"] = option("480p", "Folder of the frames and masks.")
    annotations: tuple[str, ...] = option(("instances",), "Roles beside the frames, of instances and mask.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    files_per_second: ClassVar[float | None] = RATE
    drawings: ClassVar[tuple[str, ...]] = ("instances", "mask")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the videos of the split's list; those of 2016 with the number of their last frame."""
        if self.year == "2016":
            for name, last in self._of_2016(split).items():
                yield self._video(name, last=last)
            return
        for file in LISTS[split]:
            for name in read_list(self.root, f"ImageSets/2017/{file}.txt"):
                yield self._video(name, sparse=split == "test")

    def _of_2016(self, split: str) -> dict[str, int]:
        """Reads the list of frames and masks; videos in the order of their names."""
        last: dict[str, int] = {}
        file = f"ImageSets/{'480p' if self.resolution == '480p' else '1080p'}/{split}.txt"
        for line in read_list(self.root, file):
            path = PurePosixPath(line.split()[0])
            if not path.stem.isdecimal():
                raise UserError(f"{file}: {line!r} names no numbered frame; expected two paths, of a frame and a mask")
            last[path.parent.name] = max(last.get(path.parent.name, 0), int(path.stem))
        return last

    def _video(self, name: str, **data: Any) -> Item:
        folders = {"frames": f"JPEGImages/{self.resolution}/{name}"}
        folders |= dict.fromkeys(self.annotations, f"Annotations/{self.resolution}/{name}")
        return video_item(self.root, name, folders, **data)

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the frames and their masks; frames count from 0 without gaps, at 24 a second."""
        patterns = {role: f"{folder}/%d" for role, folder in item.files.items()}
        draw = {"instances": objects(item.key, void=VOID if self.year == "2017" else None), "mask": mask}
        keep = partial(with_gaps, first=0, last=item.data.get("last"))
        if item.data.get("sparse"):
            keep = partial(annotated, roles=self.annotations)
        return self.clips(item, patterns, {role: draw.get(role, frame) for role in self.roles}, keep, rate=RATE)
