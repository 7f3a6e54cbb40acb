"""What COCO's annotations say, drawn: entries of its JSON files to pictures."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipelines.render import masks, palettes
from pipelines.render.boxes import draw_boxes
from pipelines.render.instances import paint_masks
from pipelines.render.keypoints import draw_people
from pipelines.render.panoptic import decode_ids, paint_panoptic
from pipelines.render.skeletons import COCO_17
from tokenizer.images import ImageError

Entry = Mapping[str, Any]
Picture = UInt8[np.ndarray, "h w 3"]
Draw = Callable[..., Picture]


def _checked(draw: Draw) -> Draw:
    """Makes a reject of an entry that is not built as COCO's are."""

    @functools.wraps(draw)
    def checked(*arguments: Any, **named: Any) -> Picture:
        try:
            return draw(*arguments, **named)
        except ImageError:
            raise
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise ImageError("bad-annotation", f"an annotation is not built as COCO's: {error!r}") from error

    return checked


def same_size(shape: tuple[int, int], size: Sequence[int]) -> None:
    """Checks that the photo has the size that its annotations were made for.

    Raises:
        ImageError: reason "sizes-differ".
    """
    if tuple(size) != shape:
        raise ImageError("sizes-differ", f"the photo is {list(shape)} (height, width), its annotations for {size}")


@_checked
def draw_instances(objects: Sequence[Entry], size: Sequence[int], shape: tuple[int, int], key: str) -> Picture:
    """Paints the objects' masks in colours of the key, the largest first.

    Raises:
        ImageError: sizes that differ, a damaged annotation, or too many objects.
    """
    same_size(shape, size)
    return paint_masks([masks.runs_of_segmentation(entry["segmentation"], shape) for entry in objects], shape, key)


@_checked
def draw_object_boxes(objects: Sequence[Entry], size: Sequence[int], shape: tuple[int, int]) -> Picture:
    """Draws the objects' boxes in the colours of their categories.

    Raises:
        ImageError: sizes that differ, or a damaged annotation.
    """
    same_size(shape, size)
    boxes = np.array([entry["bbox"] for entry in objects], np.float64).reshape(len(objects), 4)
    boxes[:, 2:] += boxes[:, :2]  # x, y, width, height
    return draw_boxes(shape, boxes, [int(entry["category_id"]) for entry in objects], palettes.coco_panoptic())


@_checked
def draw_pose(persons: Sequence[Entry], size: Sequence[int], shape: tuple[int, int]) -> Picture:
    """Draws the persons' skeletons; joints that are annotated but hidden (v = 1), too.

    Raises:
        ImageError: sizes that differ, or a damaged annotation.
    """
    same_size(shape, size)
    people = [np.array(entry["keypoints"], np.float64).reshape(len(COCO_17.joints), 3) for entry in persons]
    return draw_people(shape, people, COCO_17)


@_checked
def draw_panoptic(data: bytes, annotation: Entry, key: str) -> Picture:
    """Paints a map of segment ids; `annotation` says the category of each.

    Raises:
        ImageError: no map, a segment that is not annotated, or a damaged annotation.
    """
    segments = {int(segment["id"]): int(segment["category_id"]) for segment in annotation["segments_info"]}
    return paint_panoptic(decode_ids(data), segments, palettes.coco_panoptic(), key)
