"""Charades (Sigurdsson et al., 2016) with masks of its frames, which Charades itself does not have."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import RoleKind, option
from pipelines.sources.files import below, matched
from pipelines.sources.frame_folders import FrameFolders
from pipelines.sources.frames import drawn, frame
from pipelines.sources.video_lists import table
from pipelines.sources.video_masks import mask, objects
from pipelines.sources.video_pairs import pair_clips, videos
from tokenizer.images import decode_image

RATE = 24.0  # frames per second of Charades_v1_rgb
FRAMES = ("Charades_v1_rgb", "Charades_v1_480", "Charades_v1")


@dataclass(frozen=True, kw_only=True)
class CharadesMasks(FrameFolders):
    """Charades with masks: its frames, and a mask of each, from whatever made them.

    <root>/Charades_v1_rgb/<id>/<id>-000001.jpg ...   or <root>/Charades_v1_480/<id>.mp4
    <root>/Charades_v1_masks/<id>/<id>-000001.png ... or <root>/Charades_v1_masks/<id>.mp4
    <root>/Charades_v1_{train,test}.csv

    A folder of masks is paired with one of frames by number, else by position. Only videos that have masks are read.
    """

    root: str
    masks: Literal["mask", "instances", "colours"] = option(
        "mask", "What mask pictures hold: 0 and other values, object ids, or colours that are taken as they look."
    )

    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The frames and their masks."""
        return {"frames": "clip", "mask": "clip"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the videos of the split's table for which there are masks."""
        rows = list(table(self.root, [f"Charades_v1_{split}.csv"], ("id", "script")))
        captions = {row["id"]: row["script"] for row in rows}
        frames = next((name for name in FRAMES if places.is_folder(below(self.root, name))), FRAMES[0])
        found = {"frames": list(videos(self.root, frames)), "mask": list(videos(self.root, "Charades_v1_masks"))}
        names = {name for name, _ in found["mask"]}
        without = len(captions.keys() - names)
        if without:
            left_out["videos without masks"] += without
        for item in matched(found, names=[row["id"] for row in rows if row["id"] in names]):
            meta = {"caption": captions[item.key]} if captions[item.key] else {}
            yield replace(item, data={"meta": meta})

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the frames and masks side by side."""
        colours = partial(drawn, decode=decode_image)
        draw: dict[str, Callable[..., Any]] = {"mask": mask, "instances": objects(item.key), "colours": colours}
        return pair_clips(self, item, {"frames": frame, "mask": draw[self.masks]}, RATE)
