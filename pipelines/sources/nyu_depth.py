"""NYU Depth V2 (Silberman et al., Indoor Segmentation and Support Inference from RGBD Images, 2012)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from pipelines.render.depth import draw_depth
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.files import matched, named
from pipelines.sources.reading import drawing, example_of_files, picture

PARTS = {"all": ("sync", "official_splits/train"), "sync": ("sync",), "official": ("official_splits/train",)}


@dataclass(frozen=True, kw_only=True)
class NYUDepth(Dataset):
    """NYU Depth V2: photos of rooms with the depth that a Kinect measured, in the layout of BTS and Painter.

    <root>/sync/<scene>/rgb_<nnnnn>.jpg                                  train
    <root>/sync/<scene>/sync_depth_<nnnnn>.png                           16 bit, millimetres, 0 unknown
    <root>/official_splits/{train,test}/<scene>/{rgb_<nnnnn>.jpg,sync_depth_<nnnnn>.png}
    """

    root: str
    train_on: Literal["all", "sync", "official"] = option(
        "all", "Frames of split train: of the videos (sync), of the labelled set (official), or all."
    )

    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The photo and its relative depth."""
        return {"image": "still", "depth": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Pairs the frames of each scene by number."""
        for folder in PARTS[self.train_on] if split == "train" else ("official_splits/test",):
            photos, depths = named(self.root, folder, "rgb_*"), named(self.root, folder, "sync_depth_*")
            yield from matched({"image": photos, "depth": depths}, f"{folder}/")

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads both; near is drawn bright, far dark, unknown black."""
        depth = drawing(partial(draw_depth, depth_is="distance"), exact=False)
        yield example_of_files(self.root, item, {"image": picture, "depth": depth})
