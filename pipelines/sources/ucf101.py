"""UCF101 (Soomro et al., UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild, 2012)."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipelines.sources.base import Item
from pipelines.sources.dataset import option
from pipelines.sources.video_lists import fields, lines, video_item, videos_in
from pipelines.sources.videos import VideoDataset


@dataclass(frozen=True, kw_only=True)
class UCF101(VideoDataset):
    """UCF101: 13,320 short videos of 101 human actions; clips of one group come from one recording.

    <root>/UCF-101/<Class>/v_<Class>_g<group>_c<clip>.avi
    <root>/ucfTrainTestlist/{classInd,trainlist01,testlist01,...}.txt
    """

    fold: Literal["1", "2", "3"] = option("1", "Which of the three train/test lists.")

    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the videos that the split's list names; the class's index counts from 0."""
        classes = [fields(line, "'<number> <class>' of classInd.txt") for line in self._list("classInd")]
        indices = {name: place for place, (_, name) in enumerate(classes)}
        there = videos_in(self.root, "UCF-101")
        for line in self._list(f"{split}list0{self.fold}"):
            name = line.split()[0]
            key, label = os.path.splitext(name)[0], name.split("/")[0]  # noqa: PTH122
            group = re.search(r"_g(\d+)_c\d+$", key)
            meta = {"class": label, "class_index": indices.get(label), "group": int(group[1]) if group else None}
            yield video_item(key, there.get(key), f"UCF-101/{name}", meta)

    def _list(self, name: str) -> list[str]:
        return lines(self.root, f"ucfTrainTestlist/{name}.txt")
