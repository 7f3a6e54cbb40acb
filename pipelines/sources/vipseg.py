"""VIPSeg (Miao et al., Large-scale Video Panoptic Segmentation in the Wild: A Benchmark, CVPR 2022)."""

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from manifests.legend import Legend
from pipelines.render.labels import paint
from pipelines.render.legends import legend
from pipelines.render.palettes import Colour, vipseg
from pipelines.render.panoptic import decode_ids, segment_colours
from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import option
from pipelines.sources.files import below, read_list, readable
from pipelines.sources.frame_files import names_in
from pipelines.sources.frame_folders import AnnotatedFolders
from pipelines.sources.frames import drawn, frame, video_item
from pipelines.sources.reading import parsed_once, read_json
from pipelines.sources.video_masks import OfVideo, paint_segments
from tokenizer.images import ImageError, decode_labels
from visent.errors import UserError

JSON, SPLIT_JSON = "panoptic_gt_VIPSeg.json", "panoptic_gt_VIPSeg_{}.json"
VALUES = np.arange(1 << 16, dtype=np.uint16)
CLASSES = np.where(VALUES < 125, VALUES, VALUES // 100)  # of a 16-bit value: the class, or class * 100 + object
COLOURS: Mapping[int, Colour] = {n: (int(r), int(g), int(b)) for n, (r, g, b) in enumerate(vipseg()) if n}


@dataclass(frozen=True, kw_only=True)
class VIPSeg(AnnotatedFolders):
    """VIPSeg: videos of which every pixel has one of 124 classes and, of things, an object.

    <root>/{imgs,images}/<video>/00000123.jpg ...
    <root>/panomasks/<video>/00000123.png ...  (16 bit: 0, class, or class * 100 + object)
    <root>/{train,val,test}.txt                (<video>; the test videos have no masks)

    What the publisher's scripts make of it (VIPSeg_720P), when there is no panomasks:
    <root>/panomasksRGB/<video>/00000123.png   (segment = R + 256 G + 65536 B)
    <root>/panoptic_gt_VIPSeg.json, panoptic_gt_VIPSeg_{train,val,test}.json

    Without the lists, a json for each split names its videos; without these, all videos are of train.
    """

    root: str
    annotations: tuple[str, ...] = option(("panoptic",), "Roles beside the frames, of panoptic and semantic.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    drawings: ClassVar[tuple[str, ...]] = ("panoptic", "semantic")

    @property
    def legends(self) -> Mapping[str, Legend]:
        """124 classes; 0, void, is ignored. Class 49 has the colour of class 7, as in ADE20K, and is read as that."""
        return {"semantic": legend(vipseg(), ignored=(0,))}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the videos of the split's list."""
        frames = "images" if places.is_folder(below(self.root, "images")) else "imgs"
        of_segments = self._json(split)
        for name in self._videos(split, frames):
            folders = {"frames": f"{frames}/{name}"}
            masks = "panomasksRGB" if of_segments else "panomasks"
            folders |= dict.fromkeys(self.annotations, f"{masks}/{name}")
            item = video_item(self.root, name, folders)
            if of_segments and self.annotations:
                size = places.size_of(below(self.root, of_segments))
                item = replace(item, files={**folders, "annotations": of_segments}, size=size)
            yield item

    def _json(self, split: str) -> str:
        """Returns the file that says the classes of panomasksRGB's segments, "" where panomasks has them."""
        if places.is_folder(below(self.root, "panomasks")):
            return ""
        names = (SPLIT_JSON.format(split), JSON)
        return next((name for name in names if places.is_file(below(self.root, name))), "")

    def _videos(self, split: str, frames: str) -> list[str]:
        """Names the videos of a split: by the lists, else by a json for each split, else all folders are of train."""
        if self._have("{}.txt"):
            return read_list(self.root, f"{split}.txt")
        if self._have(SPLIT_JSON):
            path = below(self.root, SPLIT_JSON.format(split))
            return list(segments_by_video(path)) if places.is_file(path) else []
        return names_in(self.root, frames) if split == "train" else []

    def _have(self, name: str) -> bool:
        return any(places.is_file(below(self.root, name.format(split))) for split in self.splits)

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the frames and their masks."""
        patterns = {role: f"{item.files[role]}/%d" for role in self.roles}
        roles: dict[str, Callable[[bytes], Any]] = {"frames": frame}
        if self.annotations:
            draw = self._in_rgb(item) if "annotations" in item.files else self._in_16_bit(item)
            roles |= {role: partial(drawn, decode=draw[role]) for role in self.annotations}
        return self.clips(item, patterns, roles)

    def _in_16_bit(self, item: Item) -> dict[str, Callable[[bytes], Any]]:
        folder = below(self.root, item.files[self.annotations[0]])
        colours = OfVideo(lambda: segment_colours(segments_in(folder), COLOURS, item.key))
        return {
            "panoptic": lambda data: paint_segments(decode_labels(data), colours()),
            "semantic": lambda data: paint(np.take(CLASSES, decode_labels(data)), vipseg()),
        }

    def _in_rgb(self, item: Item) -> dict[str, Callable[[bytes], Any]]:
        segments = segments_by_video(below(self.root, item.files["annotations"])).get(item.key, {})
        colours = OfVideo(lambda: segment_colours(segments, COLOURS, item.key))
        classes = OfVideo(lambda: {number: COLOURS[category] for number, category in segments.items()})
        return {
            "panoptic": lambda data: paint_segments(decode_ids(data), colours()),
            "semantic": lambda data: paint_segments(decode_ids(data), classes()),
        }


def segments_in(folder: str) -> dict[int, int]:
    """Finds all segments in the 16-bit masks of a video and their classes, the one of most pixels first.

    A mask that cannot be decoded, or a class that VIPSeg does not have, is passed over: its frame is rejected itself.
    """
    sizes = np.zeros(1 << 16, np.int64)
    masks = fnmatch.filter(places.names_in(folder), "*.png") if places.is_folder(folder) else []
    for of_mask in places.at_once(_sizes, [below(folder, name) for name in masks], folder):
        sizes += of_mask
    there = np.flatnonzero(sizes)
    by_size = there[np.argsort(-sizes[there], kind="stable")].tolist()
    classes = {number: int(CLASSES[number]) for number in by_size}
    return {number: category for number, category in classes.items() if category in COLOURS}


def _sizes(path: str) -> Any:
    try:
        return np.bincount(decode_labels(places.read(path)).ravel(), minlength=1 << 16)
    except (ImageError, OSError):
        return 0


@parsed_once
def segments_by_video(path: str) -> Mapping[str, Mapping[int, int]]:
    """Reads panoptic_gt_VIPSeg.json: of each video the segment ids and their classes, the one of most pixels first.

    Raises: `UserError` when it is no such file.
    """
    try:
        return {video["video_id"]: _by_size(video["annotations"]) for video in read_json(path)["annotations"]}
    except (KeyError, TypeError) as error:
        raise UserError(f"{readable(path)} is no panoptic_gt_VIPSeg.json: {error!r}; make it again") from error


def _by_size(frames: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    sizes: Counter[int] = Counter()
    classes = {}
    for segment in (segment for one in frames for segment in one["segments_info"]):
        sizes[segment["id"]] += segment["area"]
        classes[segment["id"]] = segment["category_id"] + 1  # counts classes from 0
    return {number: classes[number] for number, _ in sizes.most_common() if classes[number] in COLOURS}
