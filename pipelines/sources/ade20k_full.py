"""ADE20K's full annotation (Zhou et al., Semantic Understanding of Scenes through the ADE20K Dataset, 2019)."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
from jaxtyping import Int64, UInt8

from pipelines.render.instances import paint_ids
from pipelines.render.labels import paint
from pipelines.render.palettes import grid_colours
from pipelines.sources.base import Example, Item, Pixels, Reject
from pipelines.sources.dataset import Dataset, RoleKind, check_chosen, option
from pipelines.sources.files import inside, matched, named
from pipelines.sources.reading import drawing, example_of_files, picture
from tokenizer.images import ImageError, decode_image

FOLDERS = {"train": "training", "val": "validation"}
ANNOTATIONS = ("semantic", "instances")
CLASSES = 3688  # of its index file, from 1
LEVELS = 16  # a channel, of the class colours: the publisher has none


@dataclass(frozen=True, kw_only=True)
class ADE20KFull(Dataset):
    """ADE20K, full: photos with all 3,688 classes and each object, as of 2021.

    <root>/ADE20K_2021_17_01/images/ADE/{training,validation}/<scene>/<name>.jpg
    <root>/ADE20K_2021_17_01/images/ADE/{training,validation}/<scene>/<name>_seg.png    R / 10 * 256 + G class, B object

    The root may also be ADE20K_2021_17_01 itself. Parts of objects are not read.
    """

    root: str
    annotations: tuple[str, ...] = option(("semantic",), f"Roles besides the image, of {', '.join(ANNOTATIONS)}.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __post_init__(self) -> None:
        check_chosen("--annotations", self.annotations, ANNOTATIONS)

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The photo, its classes in colours, its objects in colours drawn from the key."""
        return {"image": "still", **dict.fromkeys(self.annotations, "still")}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Pairs photo and map by name; the scene is the folder."""
        folder = inside(self.root, "ADE20K_2021_17_01", f"images/ADE/{FOLDERS[split]}")
        maps = list(named(self.root, folder, "*_seg", (".png",)))
        photos = named(self.root, folder, "*", (".jpg",))
        for item in matched({"image": photos, **dict.fromkeys(self.annotations, maps)}, f"{FOLDERS[split]}/"):
            scene = item.key.partition("/")[2].rpartition("/")[0]
            yield replace(item, data={"class": scene} if scene else {})

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads photo and map; the map is painted in the worker's threads."""
        objects = partial(draw_objects, key=item.key)
        draw: Mapping[str, Callable[[bytes], Pixels]] = {"semantic": draw_classes, "instances": objects}
        roles = {role: drawing(draw[role]) for role in self.annotations}
        yield example_of_files(self.root, item, {"image": picture, **roles}, item.data)


def palette() -> UInt8[np.ndarray, "3689 3"]:
    """Colours of the classes by number, 0 (nothing) black."""
    return np.concatenate([np.zeros((1, 3), np.uint8), grid_colours(CLASSES, LEVELS)])


def read_map(data: bytes) -> tuple[Int64[np.ndarray, "h w"], Int64[np.ndarray, "h w"]]:
    """Returns the class of each pixel and the number of its object, 0 for none; utils_ade20k.py.

    Raises:
        ImageError: no picture, or a class that is not one of the dataset's.
    """
    red, green, blue = np.moveaxis(decode_image(data).astype(np.int64), 2, 0)
    classes = red // 10 * 256 + green
    if classes.max() > CLASSES:
        raise ImageError("unknown-label", f"class {classes.max()}, the dataset has 1 to {CLASSES}")
    return classes, np.where(blue > 0, classes * 256 + blue, 0)


def draw_classes(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Paints the classes."""
    return paint(read_map(data)[0], palette())


def draw_objects(data: bytes, key: str) -> UInt8[np.ndarray, "h w 3"]:
    """Paints each object, the parts of which are not told apart."""
    return paint_ids(read_map(data)[1], key)
