"""Moments in Time (Monfort et al., 2018)."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pipelines.sources.base import Item
from pipelines.sources.video_lists import csv_rows, fields, lines, video_item, videos_in
from pipelines.sources.videos import VideoDataset
from visent.errors import UserError

FOLDERS = {"train": "training", "val": "validation"}


@dataclass(frozen=True, kw_only=True)
class Moments(VideoDataset):
    """Moments in Time: about a million videos of three seconds, each of one action or event.

    <root>/{training,validation}/<class>/<name>.mp4
    <root>/{trainingSet,validationSet}.csv: <class>/<name>.mp4,label,votes for,votes against
    <root>/moments_categories.txt: label,index
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the rows of the split's CSV."""
        folder = FOLDERS[split]
        indices = category_indices(self.root)
        there = videos_in(self.root, folder)
        for _, row in csv_rows(lines(self.root, f"{folder}Set.csv"), f"{folder}Set.csv"):
            if len(row) < 2:
                raise UserError(f"{folder}Set.csv has the line {','.join(row)!r}, expected <path>,<label>,...")
            stem = os.path.splitext(row[0])[0]  # noqa: PTH122
            meta = {"class": row[1], "class_index": indices.get(row[1])}
            yield video_item(f"{folder}/{stem}", there.get(stem), f"{folder}/{row[0]}", meta)


def category_indices(root: str) -> dict[str, int]:
    """Reads the publisher's list of classes, "label,index" a line.

    Raises: `UserError` for a line that is something else.
    """
    indices = {}
    for line in lines(root, "moments_categories.txt"):
        label, index = fields(line, "'<label>,<index>' of moments_categories.txt", ",")
        if not index.isdigit():
            raise UserError(f"moments_categories.txt has the line {line!r}, expected <label>,<index>")
        indices[label] = int(index)
    return indices
