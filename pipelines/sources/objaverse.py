"""Objaverse as Zero-1-to-3 renders it (Liu et al., Zero-1-to-3: Zero-shot One Image to 3D Object, 2023)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import option
from pipelines.sources.files import below
from pipelines.sources.frame_files import names_in, with_gaps
from pipelines.sources.frame_folders import FrameFolders
from pipelines.sources.frames import video_item
from pipelines.sources.multiview import view
from pipelines.sources.reading import read_json
from visent.errors import UserError

LIST = "valid_paths.json"
VIEWS = 12


@dataclass(frozen=True, kw_only=True)
class Objaverse(FrameFolders):
    """Objaverse renders of Zero-1-to-3: a clip of 12 random views of each object.

    <root>/views_release/<uid>/{000..011}.png  (RGBA)
    <root>/views_release/valid_paths.json      (list of uids; the last hundredth is the validation set)
    """

    root: str
    background: Literal["white", "black"] = option("white", "Colour behind the transparent parts.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    items_per_shard: ClassVar[int] = 256

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the publisher's valid objects, the first 99 of a hundred in the file's order for training."""
        valid = read_json(below(self.root, "views_release", LIST))
        if not isinstance(valid, list) or not all(isinstance(uid, str) for uid in valid):
            raise UserError(f"{LIST} holds no list of uids; fetch it again")
        there = set(names_in(self.root, "views_release"))
        if split == "train" and there - set(valid):
            left_out["objects that are not in the list of valid ones"] += len(there - set(valid))
        first = len(valid) * 99 // 100
        for uid in valid[:first] if split == "train" else valid[first:]:
            yield video_item(self.root, uid, {"frames": below("views_release", uid)})

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the twelve views."""
        patterns = {"frames": f"{item.files['frames']}/%d.png"}
        keep = partial(with_gaps, first=0, last=VIEWS - 1)
        return self.clips(item, patterns, {"frames": view(self.background)}, keep=keep)
