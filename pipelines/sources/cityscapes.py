"""Cityscapes (Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, 2016)."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Int64, UInt8

from manifests.legend import Legend
from pipelines.render.instances import paint_ids
from pipelines.render.labels import draw_labels
from pipelines.render.legends import legend
from pipelines.render.palettes import CITYSCAPES_TRAINED, cityscapes
from pipelines.render.panoptic import paint_panoptic
from pipelines.sources.base import Example, Item, Pixels, Reject
from pipelines.sources.dataset import Dataset, RoleKind, check_chosen, option
from pipelines.sources.files import matched, named
from pipelines.sources.reading import drawing, example_of_files, picture
from tokenizer.images import ImageError, decode_labels

MAPS = {"semantic": "labelIds", "instances": "instanceIds", "panoptic": "instanceIds"}
OBJECTS = 1000  # an id from here on is class * 1000 + number of the object
# fmt: off
CLASSES = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road", "sidewalk",
    "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole", "polegroup",
    "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus",
    "caravan", "trailer", "train", "motorcycle", "bicycle",
)
# fmt: on
Palette = UInt8[np.ndarray, "34 3"]


@dataclass(frozen=True, kw_only=True)
class Cityscapes(Dataset):
    """Cityscapes: street scenes with fine maps of classes and objects.

    <root>/leftImg8bit/{train,val}/<city>/<city>_<nnnnnn>_<nnnnnn>_leftImg8bit.png
    <root>/gtFine/{train,val}/<city>/<city>_<nnnnnn>_<nnnnnn>_gtFine_labelIds.png         0..33
    <root>/gtFine/{train,val}/<city>/<city>_<nnnnnn>_<nnnnnn>_gtFine_instanceIds.png      class, or class * 1000 + n

    The maps of the test split are empty, so it is not read. Groups that could not be told apart (an id of such a class
    below 1000) are no instances, and one segment of a panoptic map.
    """

    root: str
    annotations: tuple[str, ...] = option(("semantic",), f"Roles besides the image, of {', '.join(MAPS)}.")
    classes: Literal["all", "train"] = option("all", "all 34, or the 19 that are trained on; the others are black.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __post_init__(self) -> None:
        check_chosen("--annotations", self.annotations, MAPS)

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The photo and what was chosen."""
        return {"image": "still", **dict.fromkeys(self.annotations, "still")}

    @property
    def legends(self) -> Mapping[str, Legend]:
        """The 19 classes that are trained on; the others are ignored, as the publisher's scripts do.

        In all 34 colours polegroup looks like pole (17) and is counted as such; with --classes train it is black.
        """
        others = set(range(len(CLASSES))) - set(CITYSCAPES_TRAINED)
        return {"semantic": legend(colours(self.classes), ignored=others, names=CLASSES)}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Matches photo and maps by city and number."""
        found = {"image": named(self.root, f"leftImg8bit/{split}", "*_leftImg8bit")}
        for role in self.annotations:
            found[role] = named(self.root, f"gtFine/{split}", f"*_gtFine_{MAPS[role]}")
        for item in matched(found, f"{split}/"):
            yield replace(item, data={"city": item.key.split("/")[1]})

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads photo and maps; these are painted in the worker's threads."""
        palette = colours(self.classes)
        draw: Mapping[str, Callable[[bytes], Pixels]] = {
            "semantic": partial(draw_labels, palette=palette),
            "instances": partial(draw_instances, palette=palette, key=item.key),
            "panoptic": partial(draw_panoptic, palette=palette, key=item.key),
        }
        roles = {role: drawing(draw[role]) for role in self.annotations}
        yield example_of_files(self.root, item, {"image": picture, **roles}, item.data)


def colours(classes: Literal["all", "train"]) -> Palette:
    """Returns the official colours by labelId; for "train" black where the class is not trained on."""
    palette = cityscapes().copy()
    if classes == "train":
        palette[np.setdiff1d(np.arange(len(palette)), CITYSCAPES_TRAINED)] = 0
    return palette


def draw_instances(data: bytes, palette: Palette, key: str) -> UInt8[np.ndarray, "h w 3"]:
    """Paints each object of a class that has a colour; the rest is black."""
    ids, _ = read_ids(data, palette)
    return paint_ids(np.where(ids < OBJECTS, 0, ids), key)


def draw_panoptic(data: bytes, palette: Palette, key: str) -> UInt8[np.ndarray, "h w 3"]:
    """Paints classes and objects; what has a black class is black."""
    ids, classes = read_ids(data, palette)
    by_class = {number: (int(r), int(g), int(b)) for number, (r, g, b) in enumerate(palette)}
    return paint_panoptic(ids, classes, by_class, key)


def read_ids(data: bytes, palette: Palette) -> tuple[Int64[np.ndarray, "h w"], dict[int, int]]:
    """Returns the ids of a map, 0 where the class is black, and the class of each.

    Raises:
        ImageError: no map, or reason "unknown-label": an id of no class.
    """
    ids = decode_labels(data).astype(np.int64)
    there = np.flatnonzero(np.bincount(ids.ravel())).tolist()  # ids have 16 bits
    classes = {number: number // OBJECTS or number for number in there}
    for number, of_class in classes.items():
        if of_class >= len(palette):
            raise ImageError("unknown-label", f"id {number}, the classes are 0 to {len(palette) - 1}")
        if not palette[of_class].any():
            ids[ids == number] = 0
    return ids, classes
