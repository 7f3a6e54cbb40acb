"""HMDB51 (Kuehne et al., HMDB: A Large Video Database for Human Motion Recognition, 2011)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipelines.sources.base import Item
from pipelines.sources.dataset import option
from pipelines.sources.files import files_in
from pipelines.sources.video_lists import fields, lines, video_item, videos_in
from pipelines.sources.videos import VideoDataset

FLAGS = {"1": "train", "2": "test"}
LISTS = "testTrainMulti_7030_splits"


@dataclass(frozen=True, kw_only=True)
class HMDB51(VideoDataset):
    """HMDB51: 6,766 clips of 51 human actions, from films and the web.

    <root>/<class>/<name>.avi
    <root>/testTrainMulti_7030_splits/<class>_test_split<fold>.txt
    """

    fold: Literal["1", "2", "3"] = option("1", "Which of the three train/test divisions.")

    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists what the classes' lists mark for the split: 1 is train, 2 test, 0 is in neither."""
        for path in files_in(self.root, LISTS, [f"_test_split{self.fold}.txt"]):
            label = path.removeprefix(f"{LISTS}/").rsplit("_test_split", 1)[0]
            there = videos_in(self.root, label)
            for line in lines(self.root, path):
                name, flag = fields(line, f"'<name>.avi <flag>' of {path}")
                stem = name.removesuffix(".avi")
                if FLAGS.get(flag) == split:
                    meta = {"class": label.replace("_", " ")}
                    yield video_item(f"{label}/{stem}", there.get(stem), f"{label}/{name}", meta)
                elif flag not in FLAGS and split == self.splits[0]:
                    left_out[f"videos that fold {self.fold} does not use"] += 1
