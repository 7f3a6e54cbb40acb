"""Jester v1 (Materzynska et al., The Jester Dataset: A Large-Scale Video Dataset of Human Gestures, 2019)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.files import below, read_list
from pipelines.sources.frame_files import with_gaps
from pipelines.sources.frame_folders import TimedFolders
from pipelines.sources.frames import frame, video_item

FOLDER = "20bn-jester-v1"
LISTS = {"train": "train", "val": "validation", "test": "test"}
RATE = 12.0  # frames per second


@dataclass(frozen=True, kw_only=True)
class Jester(TimedFolders):
    """Jester: hand gestures of 27 classes, as folders of frames at 12 frames per second.

    <root>/20bn-jester-v1/<id>/00001.jpg ...
    <root>/jester-v1-{train,validation}.csv  (<id>;<label>)
    <root>/jester-v1-test.csv                (<id>)
    <root>/jester-v1-labels.csv              (27 labels, optional)
    """

    root: str

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    files_per_second: ClassVar[float | None] = RATE
    items_per_shard: ClassVar[int] = 512

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the ids of the split's list; the class index is the label's place among the labels."""
        lines = read_list(self.root, f"jester-v1-{LISTS[split]}.csv")
        labels = read_list(self.root, "jester-v1-labels.csv")
        for line in lines:
            name, _, label = (part.strip() for part in line.partition(";"))
            meta: dict[str, Any] = {"class": label} if label else {}
            if label in labels:
                meta["class_index"] = labels.index(label)
            item = video_item(self.root, name, {"frames": below(FOLDER, name)}, meta=meta)
            unknown = label and labels and label not in labels
            yield replace(item, reject=item.reject or "unknown-class") if unknown else item

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the clips of a gesture; frames count from 1 without gaps."""
        patterns = {"frames": f"{item.files['frames']}/%d.jpg"}
        return self.clips(item, patterns, {"frames": frame}, keep=partial(with_gaps, first=1), rate=RATE)
