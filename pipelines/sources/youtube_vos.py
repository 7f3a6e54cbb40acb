"""YouTube-VOS (Xu et al., YouTube-VOS: A Large-Scale Video Object Segmentation Benchmark, 2018)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import option
from pipelines.sources.files import below
from pipelines.sources.frame_files import Frames, annotated, names_in
from pipelines.sources.frame_folders import AnnotatedFolders, TimedFolders
from pipelines.sources.frames import frame, video_item
from pipelines.sources.reading import read_json
from pipelines.sources.video_masks import ANY_ID, mask, objects
from visent.errors import UserError

FOLDERS = {"train": "train", "val": "valid", "test": "test"}
RATE = 30.0  # frames per second; every fifth is published


@dataclass(frozen=True, kw_only=True)
class YouTubeVOS(TimedFolders, AnnotatedFolders):
    """YouTube-VOS: videos with masks of their objects; outside of train, the frames where an object first appears.

    <root>/{train,valid,test}/JPEGImages/<video>/00000.jpg, 00005.jpg ...
    <root>/{train,valid,test}/Annotations/<video>/00000.png ...  (pixel = object's id)
    <root>/{train,valid,test}/meta.json  (objects of each video, their category and, in train, their frames)
    """

    root: str
    annotations: tuple[str, ...] = option(("instances",), "Roles beside the frames, of instances and mask.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    files_per_second: ClassVar[float | None] = RATE / 5
    drawings: ClassVar[tuple[str, ...]] = ("instances", "mask")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the videos of meta.json, or where there is none those with a folder of frames."""
        top = FOLDERS[split]
        there = names_in(self.root, f"{top}/JPEGImages")
        meta = _meta(below(self.root, top, "meta.json"))
        if meta is not None and set(there) - set(meta):
            left_out["videos that meta.json does not list"] += len(set(there) - set(meta))
        for name in there if meta is None else meta:
            folders = {"frames": f"{top}/JPEGImages/{name}"}
            folders |= dict.fromkeys(self.annotations, f"{top}/Annotations/{name}")
            yield video_item(self.root, name, folders, **_data(name, meta, split))

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the frames and their masks."""
        patterns = {role: f"{folder}/%d" for role, folder in item.files.items()}
        ids = [int(number) for number in item.data["meta"].get("objects", ANY_ID)]
        draw = {"instances": objects(item.key, ids), "mask": mask}
        keep: Any = dict
        if self.annotations:
            keep = partial(annotated, roles=self.annotations)
            keep = keep if item.data.get("masks") is None else partial(_meant, masks=item.data["masks"])
        return self.clips(item, patterns, {role: draw.get(role, frame) for role in self.roles}, keep, rate=RATE)


def _meta(path: str) -> Mapping[str, Any] | None:
    """Reads the objects of each video: {video: {id: {"category", "frames"}}}."""
    if not places.is_file(path):
        return None
    try:
        videos = read_json(path)["videos"]
        return {name: {str(int(number)): {**one, "frames": [int(frame) for frame in one.get("frames", ())]}
                       for number, one in video["objects"].items()} for name, video in videos.items()}  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is no meta.json of YouTube-VOS: {error!r}; fetch it again") from error


def _data(name: str, meta: Mapping[str, Any] | None, split: str) -> dict[str, Any]:
    """Returns what reading needs of a video: its objects' categories, and in train which frames must have masks."""
    if meta is None:
        return {"meta": {}}
    categories = {number: one.get("category", "") for number, one in sorted(meta[name].items(), key=_number)}
    if split != "train":
        return {"meta": {"objects": categories}}
    masks = sorted({number for one in meta[name].values() for number in one["frames"]})
    return {"meta": {"objects": categories}, "masks": masks}


def _number(entry: tuple[str, Any]) -> int:
    return int(entry[0])


def _meant(frames: Frames, masks: list[int]) -> Frames:
    """Keeps the frames that show an object by meta.json, and those with a mask; what they lack is a fault."""
    expected = {n: frames.get(n, {}) for n in masks}
    return dict(sorted({**{n: files for n, files in frames.items() if len(files) > 1}, **expected}.items()))
