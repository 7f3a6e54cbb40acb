"""Boxes around objects: outlines on black in the colour of the class."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pipelines.render.palettes import Colour
from tokenizer.images import ImageError
from tokenizer.labels import nearest_colour

WIDTH = 1 / 40  # of an outline, of the picture's short side: thinner ones fade in a tokenizer's 16 x 16 codes

Box = tuple[int, tuple[int, int, int, int]]  # class; left, top, right, bottom in whole pixels, the last two exclusive


def draw_boxes(
    shape: tuple[int, int],
    boxes: Float[np.ndarray, "n 4"],
    classes: Sequence[int],
    colours: Mapping[int, Colour] | UInt8[np.ndarray, "k 3"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws the outline of each box (left, top, right, bottom in pixels) in its class's colour, inside the box.

    Large boxes are drawn first, so that a small one stays whole. Sides are rounded to pixels and cut at the picture's
    borders; a box of no area there still has one pixel.

    Raises:
        ImageError: reason "unknown-label": a class without a colour; "bad-box": not finite, or right of left.
    """
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise ImageError("bad-box", "a box whose sides are no numbers or in the wrong order")
    picture = np.zeros((*shape, 3), np.uint8)
    width = line_width(shape)
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for number in np.argsort(-sizes, kind="stable").tolist():
        left, top, right, bottom = whole_pixels(boxes[number], shape)
        around = picture[top:bottom, left:right]
        inner = around[width:-width, width:-width].copy()
        around[:] = _colour_of(classes[number], colours)
        around[width:-width, width:-width] = inner
    return picture


def line_width(shape: tuple[int, int]) -> int:
    """Returns the width of an outline in a picture of (height, width), in pixels."""
    return max(1, round(min(shape) * WIDTH))


def whole_pixels(box: Float[np.ndarray, "4"], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Rounds a box to the pixels of a picture of (height, width): left, top, right, bottom, the last two exclusive."""
    height, width = shape
    left, top, right, bottom = np.rint(box).astype(int).tolist()
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return left, top, min(max(right, left + 1), width), min(max(bottom, top + 1), height)


def _colour_of(number: int, colours: Mapping[int, Colour] | UInt8[np.ndarray, "k 3"]) -> Colour:
    known = number in colours if isinstance(colours, Mapping) else 0 <= number < len(colours)
    if not known:
        raise ImageError("unknown-label", f"class {number} of a box is not one of the dataset's")
    red, green, blue = colours[number]
    return int(red), int(green), int(blue)


def read_boxes(picture: UInt8[np.ndarray, "h w 3"], colours: Mapping[int, Colour]) -> list[Box]:
    """Finds the boxes in a picture, sorted: the extent of each connected outline of one class's colour.

    The inverse of `draw_boxes` where no outline crosses another or touches one of its class; nested boxes may be.
    """
    numbers = [0, *colours]
    found = nearest_colour(picture, np.array([(0, 0, 0), *colours.values()], np.uint8))
    boxes: list[Box] = []
    for row in np.unique(found[found > 0]).tolist():
        count, _, extents, _ = cv2.connectedComponentsWithStats((found == row).astype(np.uint8), connectivity=8)
        for left, top, width, height, _ in extents[1:count].tolist():
            boxes.append((numbers[row], (left, top, left + width, top + height)))
    return sorted(boxes)
