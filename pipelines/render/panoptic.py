"""Panoptic maps: every pixel has a class and, of things, an object; drawn so that both can be read back.

The largest segment of a class has the class's own colour, each further one a shade near it, as in COCO's panopticapi.
Here a shade always stays nearer to its class's colour than to any other, so the class is the nearest colour.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from pipelines import seeds
from pipelines.render.palettes import Colour
from tokenizer.images import ImageError, decode_labels, open_still, upright
from tokenizer.labels import nearest_colour

SHADES = 72  # a shade differs from its class's colour by so much in each channel at most
_STEPS = (36, 24, 18, 12, 8, 6, 4)  # of the grid of shades; the first that gives enough of them


def decode_ids(data: bytes) -> Int64[np.ndarray, "h w"]:
    """Reads segment ids: of a colour picture R + 256 G + 65536 B, as COCO has them, else its grey values.

    Raises:
        ImageError: no picture, or one of no such mode.
    """
    image = open_still(data)
    return ids_of_rgb(np.array(upright(image))) if image.mode == "RGB" else decode_labels(data).astype(np.int64)


def ids_of_rgb(picture: UInt8[np.ndarray, "h w 3"]) -> Int64[np.ndarray, "h w"]:
    """Returns COCO's segment ids: R + 256 G + 65536 B."""
    ids: np.ndarray = picture.astype(np.int64) @ np.array([1, 256, 65536])
    return ids


def paint_panoptic(
    ids: Integer[np.ndarray, "h w"], segments: Mapping[int, int], colours: Mapping[int, Colour], key: str
) -> UInt8[np.ndarray, "h w 3"]:
    """Paints segments: `segments` gives the class of each id, `colours` the colour of each class; id 0 is black.

    Raises:
        ImageError: reason "unknown-label": an id without a segment, or a class without a colour.
    """
    there, where, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    unknown = [number for number in there.tolist() if number and number not in segments]
    if unknown:
        raise ImageError("unknown-label", f"segment {unknown[0]} of the map is not among the annotated ones")
    by_size = sorted((number for number in there.tolist() if number), key=lambda number: -sizes[there == number][0])
    painted = segment_colours({number: segments[number] for number in by_size}, colours, key)
    table = np.array([painted[number] if number else (0, 0, 0) for number in there.tolist()], np.uint8)
    return table.reshape(-1, 3)[where.reshape(ids.shape)]


def segment_colours(segments: Mapping[int, int], colours: Mapping[int, Colour], key: str) -> dict[int, Colour]:
    """Returns the colour of each segment; `segments` gives its class, the largest segment first.

    A pure function of the arguments. Classes that share a colour share its shades.

    Raises:
        ImageError: reason "unknown-label": a class without a colour; "too-many-objects": of one class.
    """
    members: dict[Colour, list[int]] = {}
    for number, category in segments.items():
        if category not in colours:
            raise ImageError("unknown-label", f"class {category} of segment {number} is not one of the dataset's")
        members.setdefault(colours[category], []).append(number)
    known = np.array([(0, 0, 0), *dict.fromkeys(colours.values())], np.uint8)
    painted: dict[int, Colour] = {}
    for colour, numbers in members.items():
        painted.update(zip(numbers, _shades(colour, known, key, len(numbers)), strict=True))
    return painted


def _shades(colour: Colour, known: UInt8[np.ndarray, "k 3"], key: str, count: int) -> list[Colour]:
    """Returns the colour and `count` - 1 shades of it, each nearer to it than to all other known colours."""
    if count == 1:
        return [colour]
    own = int(np.flatnonzero((known == colour).all(axis=1))[0])
    for step in _STEPS:
        offsets = np.arange(-(SHADES // step), SHADES // step + 1) * step
        around = np.stack(np.meshgrid(offsets, offsets, offsets, indexing="ij"), axis=-1).reshape(-1, 3)
        shades = (around[around.any(axis=1)] + np.array(colour)).astype(np.int32)
        shades = shades[((shades >= 0) & (shades <= 255)).all(axis=1)]
        if len(shades) < count - 1:
            continue
        distance = ((shades[:, None] - known.astype(np.int32)) ** 2).sum(axis=2)
        own_distance = distance[:, own].copy()
        distance[:, own] = np.iinfo(np.int64).max
        shades = shades[own_distance < distance.min(axis=1)]
        if len(shades) >= count - 1:
            drawn = seeds.generator("panoptic", key, colour).permutation(shades)[: count - 1]
            return [colour, *((int(r), int(g), int(b)) for r, g, b in drawn)]
    raise ImageError("too-many-objects", f"{count:,} objects of one class, more than it has shades")


def read_classes(picture: UInt8[np.ndarray, "h w 3"], colours: Mapping[int, Colour]) -> Int64[np.ndarray, "h w"]:
    """Returns the class of each pixel, 0 for black; of classes that share a colour the first.

    An inverse of `paint_panoptic`, whatever key it was painted with.
    """
    return _nearest(picture, colours)


def read_segments(picture: UInt8[np.ndarray, "h w 3"], painted: Mapping[int, Colour]) -> Int64[np.ndarray, "h w"]:
    """Returns the segment of each pixel, 0 for black: the inverse of `paint_panoptic`, given its `segment_colours`."""
    return _nearest(picture, painted)


def _nearest(picture: UInt8[np.ndarray, "h w 3"], colours: Mapping[int, Colour]) -> Int64[np.ndarray, "h w"]:
    ids: np.ndarray = np.array([0, *colours], np.int64)[
        nearest_colour(picture, np.array([(0, 0, 0), *colours.values()], np.uint8))
    ]
    return ids
