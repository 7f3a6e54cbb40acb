"""Multi-Moments in Time (Monfort et al., Learning and Interpreting Models for Multi-Action Video Understanding)."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pipelines.sources.base import Item
from pipelines.sources.moments import FOLDERS, category_indices
from pipelines.sources.video_lists import lines, video_item, videos_in
from pipelines.sources.videos import VideoDataset
from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class MultiMoments(VideoDataset):
    """Multi-Moments in Time: Moments in Time with all that happens in a video, one label or more.

    <root>/videos/<class>/<name>.mp4
    <root>/{trainingSet,validationSet}.txt: <class>/<name>.mp4,index,index,...
    <root>/moments_categories.txt: label,index
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the lines of the split's file; `classes` and `class_indices` go side by side."""
        labels = {index: label for label, index in category_indices(self.root).items()}
        there = videos_in(self.root, "videos")
        for line in lines(self.root, f"{FOLDERS[split]}Set.txt"):
            name, *numbers = line.split(",")
            if not numbers or not all(number.strip().isdigit() for number in numbers):
                raise UserError(f"{FOLDERS[split]}Set.txt has the line {line!r}, expected <path>,<index>,...")
            indices = [int(number) for number in numbers]
            stem = os.path.splitext(name)[0]  # noqa: PTH122
            meta = {"classes": [labels.get(index) for index in indices], "class_indices": indices}
            yield video_item(stem, there.get(stem), f"videos/{name}", meta)
