"""Pascal-5i (Shaban et al., One-Shot Learning for Semantic Segmentation, 2017), with the lists of HSNet's code."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from manifests import files
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.files import below, inside, matched, named, read_list
from pipelines.sources.reading import drawing, example_of_files, picture
from pipelines.sources.voc import BORDER, CLASSES
from tokenizer.images import ImageError, decode_labels
from visent.errors import UserError

FOLDS = 4
A_FOLD = 5  # classes


@dataclass(frozen=True, kw_only=True)
class Pascal5i(Dataset):
    """Pascal-5i: photos of VOC2012 with the mask of one class each, for few-shot segmentation.

    <root>/splits/pascal/{trn,val}/fold{0,1,2,3}.txt          <name>__<class>, class 01..20, as in HSNet's repository
    <root>/VOC2012/JPEGImages/<name>.jpg
    <root>/VOC2012/SegmentationClassAug/<name>.png            or SegmentationClass

    Fold k tests classes 5k + 1 to 5k + 5: its val list is split val, the trn lists of the other folds are split train.
    White is the class, black everything else, the border of VOC's maps too.
    """

    root: str
    fold: int = option(0, "Fold whose classes are held out, 0 to 3.")
    lists: str = option("splits/pascal", "Folder of the lists, below the root, absolute or a URL.")
    class_maps: str = option("SegmentationClassAug", "Folder of the class maps.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __post_init__(self) -> None:
        if not 0 <= self.fold < FOLDS:
            raise UserError(f"--fold must be 0 to {FOLDS - 1}, got {self.fold}")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The photo and the mask of its class."""
        return {"image": "still", "mask": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Gives an item for each image and class of the fold's lists."""
        folds = [fold for fold in range(FOLDS) if (fold == self.fold) == (split == "val")]
        lines = [line for fold in folds for line in self._lines(split, fold)]
        top = inside(self.root, "VOCdevkit", "VOC2012")
        images = dict(named(self.root, f"{top}/JPEGImages", endings=(".jpg",)))
        maps = dict(named(self.root, f"{top}/{self.class_maps}", endings=(".png",)))
        if lines and images and not maps:
            raise UserError(f"no maps in {top}/{self.class_maps}; name their folder with --class-maps")
        pairs = {line: line.partition("__")[0] for line in lines}
        found = {
            "image": [(line, images[name]) for line, name in pairs.items() if name in images],
            "mask": [(line, maps[name]) for line, name in pairs.items() if name in maps],
        }
        for item in matched(found, names=lines):
            index = int(item.key.partition("__")[2])
            yield replace(item, data={"class": CLASSES[index], "class_index": index, "fold": (index - 1) // A_FOLD})

    def _lines(self, split: str, fold: int) -> list[str]:
        path = below(self.lists, "trn" if split == "train" else "val", f"fold{fold}.txt")
        lines = read_list("", files.join(self.root, path))
        for line in lines:
            index = line.partition("__")[2]
            if not (index.isdecimal() and (int(index) - 1) // A_FOLD == fold):
                raise UserError(f"{path} has the line {line!r}; expected <name>__<class> with a class of fold {fold}")
        return lines

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the photo and the map, of which one class is drawn."""
        mask = drawing(partial(draw_class, index=item.data["class_index"]))
        yield example_of_files(self.root, item, {"image": picture, "mask": mask}, item.data)


def draw_class(data: bytes, index: int) -> UInt8[np.ndarray, "h w 3"]:
    """Paints one class of a map white.

    Raises:
        ImageError: no map, reason "unknown-label": a class over 20, or "no-such-class": the map does not have it.
    """
    labels = decode_labels(data)
    if ((labels >= len(CLASSES)) & (labels != BORDER)).any():
        raise ImageError("unknown-label", f"class id {labels[labels != BORDER].max()}, VOC has 0 to 20 and 255")
    is_class = labels == index
    if not is_class.any():
        raise ImageError("no-such-class", f"the map has no pixel of class {index} ({CLASSES[index]})")
    return np.repeat(np.where(is_class, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
