"""Objects of one picture, each in a colour of its own on black; the colours come from the example's key.

Colours do not say a class: which object has which is drawn anew for every key, larger objects first, so that those
differ most. They are points of a grid, so two colours of a picture differ by at least `least_distance` of their count.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from pipelines import seeds
from pipelines.render import masks
from tokenizer.images import ImageError
from tokenizer.labels import nearest_colour

FROM_BLACK = 96  # least distance in RGB of a colour from the background
CANDIDATES = 16  # of so many colours the one is taken that differs most from those before
SMALL = 512  # of a larger grid, colours are taken at random: comparing them all would take long
_LEVELS = (8, 16, 32, 64)  # of a channel; the first that gives enough colours


def instance_colours(key: str, count: int) -> UInt8[np.ndarray, "n 3"]:
    """Draws `count` different colours, none near black: a pure function of the key and the number.

    Raises:
        ImageError: reason "too-many-objects": there are not so many colours.
    """
    grid = _grid(_levels(count))
    grid = seeds.generator("instances", key).permutation(grid)
    colours: np.ndarray = grid[:count] if len(grid) > SMALL else grid[_spread(grid.astype(np.int64), count)]
    return colours


def least_distance(count: int) -> int:
    """Returns how far (Euclidean, in RGB) any two of `count` colours differ at least."""
    return 255 // (_levels(count) - 1)


def _levels(count: int) -> int:
    for levels in _LEVELS:
        if count <= len(_grid(levels)):
            return levels
    raise ImageError("too-many-objects", f"{count:,} objects, more than there are colours")


def _grid(levels: int) -> UInt8[np.ndarray, "n 3"]:
    level = 255 - 255 // (levels - 1) * np.arange(levels)
    colours = np.stack(np.meshgrid(level, level, level, indexing="ij"), axis=-1).reshape(-1, 3)
    far: np.ndarray = colours[(colours**2).sum(axis=1) >= FROM_BLACK**2]
    return far.astype(np.uint8)


def _spread(colours: Int64[np.ndarray, "n 3"], count: int) -> list[int]:
    """Chooses colour by colour, of the next candidates the one farthest from all chosen before."""
    left, chosen = list(range(len(colours))), []
    distance = (colours**2).sum(axis=1)  # from black
    for _ in range(count):
        best = max(left[:CANDIDATES], key=lambda i: distance[i])
        left.remove(best)
        chosen.append(best)
        distance = np.minimum(distance, ((colours - colours[best]) ** 2).sum(axis=1))
    return chosen


def paint_masks(found: Sequence[Any], shape: tuple[int, int], key: str) -> UInt8[np.ndarray, "h w 3"]:
    """Paints masks of `shape` (height, width): the largest first, so that a small one on top of it stays visible.

    A mask is bool[h w], COCO's RLE (see `masks.runs_of_rle`) or run lengths. The colours of `instance_colours` go to
    the masks by size, at equal size in the order given.

    Raises:
        ImageError: as `masks.runs_of_rle`; a mask of another shape; reason "too-many-objects".
    """
    runs = [_runs(mask, shape) for mask in found]
    order = sorted(range(len(runs)), key=lambda number: -masks.area(runs[number]))
    ids = np.zeros(shape[0] * shape[1], np.int32)
    for rank, number in enumerate(order, start=1):
        ids[masks.pixels(runs[number])] = rank
    painted: np.ndarray = _with_black(instance_colours(key, len(runs)))[ids.reshape(shape[::-1]).T]
    return painted


def _runs(mask: Any, shape: tuple[int, int]) -> masks.Runs:
    if isinstance(mask, Mapping):
        return masks.runs_of_rle(mask, shape)
    if mask.ndim == 1:
        return masks.runs_of_rle({"size": shape, "counts": mask}, shape)
    if mask.shape != shape:
        raise ImageError("mask-size", f"a mask of size {list(mask.shape)}, the picture is {list(shape)}")
    return masks.runs_of_mask(mask)


def _with_black(colours: UInt8[np.ndarray, "k 3"]) -> UInt8[np.ndarray, "k+1 3"]:
    return np.concatenate([np.zeros((1, 3), np.uint8), colours])


def read_instances(picture: UInt8[np.ndarray, "h w 3"], colours: UInt8[np.ndarray, "k 3"]) -> Int64[np.ndarray, "h w"]:
    """Returns for each pixel 0 (black is nearest) or the number, from 1, of the nearest colour.

    With `instance_colours(key, count)`, 1 is the largest object: the inverse of `paint_masks`, where masks overlap of
    what is visible.
    """
    return nearest_colour(picture, _with_black(colours))


def paint_ids(
    ids: Integer[np.ndarray, "h w"], key: str, ids_order: Sequence[int] | None = None, void: int | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Paints a map of object ids: 0 (and `void`) black, each other id in a colour of its own.

    `ids_order` names all ids that the key's pictures may hold, so that an object has one colour in all frames of a
    clip; without it, the picture's own ids stand in the order of `order_by_size`.

    Raises:
        ImageError: reason "unknown-label": an id that `ids_order` lacks; "too-many-objects".
    """
    if void is not None:
        ids = np.where(ids == void, 0, ids)
    order = np.array(order_by_size(ids) if ids_order is None else ids_order, np.int64)
    there, where = np.unique(ids, return_inverse=True)
    rank = {number: position for position, number in enumerate(order.tolist(), start=1)} | {0: 0}
    unknown = [number for number in there.tolist() if number not in rank]
    if unknown:
        raise ImageError("unknown-label", f"object {unknown[0]}, expected one of {order.tolist()[:20]}")
    colours = _with_black(instance_colours(key, len(order)))
    ranks = np.array([rank[number] for number in there.tolist()])[where.reshape(ids.shape)]
    painted: np.ndarray = colours[ranks]
    return painted


def order_by_size(ids: Integer[np.ndarray, "h w"]) -> list[int]:
    """Returns the ids of a map without 0, the largest object first, the lower id at equal size."""
    numbers, sizes = np.unique(ids, return_counts=True)
    return [int(number) for number in numbers[np.argsort(-sizes, kind="stable")] if number]


def read_ids(picture: UInt8[np.ndarray, "h w 3"], key: str, ids_order: Sequence[int]) -> Int64[np.ndarray, "h w"]:
    """Returns the object id of each pixel, 0 for the background: the inverse of `paint_ids` without void."""
    ids: np.ndarray = np.array([0, *ids_order], np.int64)[
        read_instances(picture, instance_colours(key, len(ids_order)))
    ]
    return ids
