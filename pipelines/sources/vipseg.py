"""VIPSeg (Miao et al., Large-scale Video Panoptic Segmentation in the Wild: A Benchmark, CVPR 2022)."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import option
from pipelines.sources.files import below, read_list
from pipelines.sources.frames import AnnotatedFolders, drawn, frame, names_in, video_item
from pipelines.sources.video_panoptic import VideoColours, paint_segments
from tokenizer.images import decode_labels

STUFF = 125  # smaller values of a mask are classes, larger ones class * 100 + object


@dataclass(frozen=True, kw_only=True)
class VIPSeg(AnnotatedFolders):
    """VIPSeg: videos of which every pixel has one of 124 classes and, of things, an object.

    <root>/{imgs,images}/<video>/00000123.jpg ...
    <root>/panomasks/<video>/00000123.png ...  (16 bit: 0, class, or class * 100 + object)
    <root>/{train,val,test}.txt                (<video>; the test videos have no masks)

    What the publisher's scripts make of it (VIPSeg_720P), when there is no panomasks:
    <root>/panomasksRGB/<video>/00000123.png   (segment = R + 256 G + 65536 B)
    <root>/panoptic_gt_VIPSeg.json, panoptic_gt_VIPSeg_{train,val,test}.json

    Without any list, that json names the videos, and without it the folders.
    """

    root: str
    annotations: tuple[str, ...] = option(("panoptic",), "Roles beside the frames, of panoptic and semantic.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    drawings: ClassVar[tuple[str, ...]] = ("panoptic", "semantic")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the videos of the split's list."""
        frames = "images" if Path(below(self.root, "images")).is_dir() else "imgs"
        of_segments = self._json(split)
        for name in self._videos(split, frames, of_segments):
            folders = {"frames": f"{frames}/{name}"}
            masks = "panomasksRGB" if of_segments else "panomasks"
            folders |= dict.fromkeys(self.annotations, f"{masks}/{name}")
            item = video_item(self.root, name, folders)
            if of_segments and self.annotations:
                size = Path(below(self.root, of_segments)).stat().st_size
                item = replace(item, files={**folders, "annotations": of_segments}, size=size)
            yield item

    def _json(self, split: str) -> str:
        """Returns the file that says the classes of panomasksRGB's segments, "" where panomasks has them."""
        if Path(below(self.root, "panomasks")).is_dir():
            return ""
        names = (f"panoptic_gt_VIPSeg_{split}.json", "panoptic_gt_VIPSeg.json")
        return next((name for name in names if Path(below(self.root, name)).is_file()), "")

    def _videos(self, split: str, frames: str, of_segments: str) -> list[str]:
        if any(Path(below(self.root, f"{name}.txt")).is_file() for name in self.splits):
            return read_list(self.root, f"{split}.txt")
        if of_segments == "panoptic_gt_VIPSeg.json" or not of_segments:
            return names_in(self.root, frames) if split == "train" else []
        return list(segments_by_video(below(self.root, of_segments)))

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the frames and their masks."""
        folders = {role: item.files[role] for role in self.roles}
        decode, segments = decode_labels, None
        if "annotations" in item.files:
            decode = decode_rgb
            segments = segments_by_video(below(self.root, item.files["annotations"])).get(item.key, {})
        roles: dict[str, Callable[[bytes], Any]] = {"frames": frame}
        for role in self.annotations:
            colours = VideoColours(item.key, below(self.root, item.files[role]), PALETTE, decode, class_of, segments)
            classes = None if segments is None else {number: one[0] for number, one in segments.items()}
            roles["panoptic"] = partial(drawn, decode=partial(paint_segments, decode=decode, colours=colours))
            roles["semantic"] = partial(drawn, decode=partial(draw_classes, classes=classes))
        patterns = {role: f"{folder}/%d" for role, folder in folders.items()}
        return self.clips(item, patterns, {role: roles[role] for role in self.roles})
