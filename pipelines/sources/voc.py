"""Pascal VOC's segmentation task (Everingham et al., The Pascal Visual Object Classes Challenge, 2010 and 2015)."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import UInt8

from manifests.legend import Legend
from pipelines.render.instances import paint_ids
from pipelines.render.labels import paint
from pipelines.render.legends import legend
from pipelines.render.palettes import voc
from pipelines.sources.base import Example, Item, Pixels, Reject
from pipelines.sources.dataset import Dataset, RoleKind, check_chosen, option
from pipelines.sources.files import inside, matched, named, read_list
from pipelines.sources.reading import drawing, example_of_files, picture
from tokenizer.images import decode_labels
from visent.errors import UserError

# fmt: off
CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
BORDER = 255
FOLDERS = {"semantic": "SegmentationClass", "instances": "SegmentationObject"}


@dataclass(frozen=True, kw_only=True)
class VOC(Dataset):
    """Pascal VOC: photos with maps of 20 classes and of objects (segmentation task).

    <root>/VOCdevkit/VOC2012/ImageSets/Segmentation/{train,val,test}.txt        one name a line
    <root>/VOCdevkit/VOC2012/JPEGImages/<name>.jpg
    <root>/VOCdevkit/VOC2012/SegmentationClass/<name>.png                       0 background, 1..20, 255 border
    <root>/VOCdevkit/VOC2012/SegmentationObject/<name>.png                      object, 255 border

    The root may also be VOCdevkit itself. The usual 10,582 training images need `--train-list train_aug` and
    `--class-maps SegmentationClassAug`, which are not part of the publisher's files.
    """

    root: str
    year: Literal["2012", "2011", "2010", "2009", "2008", "2007"] = option("2012", "Year of the challenge.")
    annotations: tuple[str, ...] = option(("semantic",), f"Roles besides the image, of {', '.join(FOLDERS)}.")
    black_border: bool = option(
        False, "Draw the border between objects, which VOC ignores, black, not in light yellow."
    )
    train_list: str = option("train", "List of split train, in ImageSets/Segmentation.")
    class_maps: str = option("SegmentationClass", "Folder of the class maps.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def __post_init__(self) -> None:
        check_chosen("--annotations", self.annotations, FOLDERS)

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The photo and what was chosen."""
        return {"image": "still", **dict.fromkeys(self.annotations, "still")}

    @property
    def legends(self) -> Mapping[str, Legend]:
        """Background and 20 classes; the border is ignored, or, drawn black, is read as background."""
        colours = {number: (red, green, blue) for number, (red, green, blue) in enumerate(voc().tolist())
                   if number < len(CLASSES) or (number == BORDER and not self.black_border)}  # fmt: skip
        return {"semantic": legend(colours, ignored=(BORDER,), names={**dict(enumerate(CLASSES)), BORDER: "border"})}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Finds the files of each name of the split's list; of most test lists no maps are published."""
        top = inside(self.root, "VOCdevkit", f"VOC{self.year}")
        name_of_list = self.train_list if split == "train" else split
        path = f"{top}/ImageSets/Segmentation/{name_of_list}.txt"
        names = read_list(self.root, path)
        if not names and name_of_list not in ("train", split):
            raise UserError(f"there is no list {path}, or it is empty; put it there or leave --train-list out")
        folders = {role: FOLDERS[role] for role in self.annotations} | {"image": "JPEGImages"}
        if "semantic" in folders:
            folders["semantic"] = self.class_maps
        found = {role: named(self.root, f"{top}/{folders[role]}") for role in self.roles}
        for item in matched(found, f"VOC{self.year}/", names):
            if split == "test" and item.reject and "image" in item.files:
                left_out["test images without a published map"] += 1
            else:
                yield item

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads photo and maps; these are painted in the worker's threads."""
        draw: Mapping[str, Callable[[bytes], Pixels]] = {
            "semantic": partial(draw_classes, black_border=self.black_border),
            "instances": partial(draw_objects, black_border=self.black_border, key=item.key),
        }
        roles = {role: drawing(draw[role]) for role in self.annotations}
        yield example_of_files(self.root, item, {"image": picture, **roles})


def draw_classes(data: bytes, black_border: bool) -> UInt8[np.ndarray, "h w 3"]:
    """Paints the classes in VOC's colours; a class over 20 is unknown."""
    labels = decode_labels(data)
    return _with_border(paint(labels, voc()[: len(CLASSES)], void=BORDER), labels == BORDER, black_border)


def draw_objects(data: bytes, black_border: bool, key: str) -> UInt8[np.ndarray, "h w 3"]:
    """Paints the objects in colours drawn from the key."""
    objects = decode_labels(data)
    return _with_border(paint_ids(objects, key, void=BORDER), objects == BORDER, black_border)


def _with_border(painted: Pixels, is_border: np.ndarray, black: bool) -> Pixels:
    if not black:
        painted[is_border] = voc()[BORDER]
    return painted
