"""Binary masks as run lengths: COCO's RLE and polygons, and masks in pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from tokenizer.images import ImageError
from visent.errors import UserError

Runs = Int64[np.ndarray, "n"]  # lengths by columns, background first: COCO's uncompressed RLE
OUTSIDE = 1.0  # a polygon may leave the picture by this many times its size


def runs_of_rle(rle: Mapping[str, Any], shape: tuple[int, int]) -> Runs:
    """Reads COCO's run-length encoding, compressed (text) or not (numbers), of a mask of `shape` (height, width).

    Raises:
        ImageError: reason "mask-size": it is of another size; "bad-mask": its runs do not fill that size.
    """
    counts, size = rle.get("counts"), rle.get("size")
    if not isinstance(size, Sequence) or tuple(size) != shape:
        raise ImageError("mask-size", f"a mask of size {size}, the picture is {list(shape)} (height, width)")
    try:
        runs = _decompressed(counts) if isinstance(counts, (str, bytes)) else np.array(counts, np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError("bad-mask", f"its counts are no run lengths: {error}") from error
    count = shape[0] * shape[1]
    if runs.ndim != 1 or ((runs < 0) | (runs > count)).any() or int(runs.sum()) != count:
        raise ImageError("bad-mask", f"its runs do not fill the {count:,} pixels of the picture")
    return runs


def _decompressed(text: str | bytes) -> Runs:
    """Undoes cocoapi's rleToString: base 32 digits, lowest first, +32 where more follow; from the fourth, a difference
    to the number before the last; all plus 48, to be letters.
    """
    digits = np.frombuffer(text.encode("ascii") if isinstance(text, str) else text, np.uint8).astype(np.int64) - 48
    if not digits.size or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise ValueError("not the letters of a compressed mask")
    ends = np.flatnonzero(digits & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(digits.size) - np.repeat(starts, ends - starts + 1)
    if place.max() > 7:  # 40 bits: no picture has so many pixels
        raise ValueError("a number of more than 40 bits")
    numbers = np.add.reduceat((digits & 31) << (5 * place), starts)
    numbers -= np.where(digits[ends] & 16, np.int64(1) << (5 * (place[ends] + 1)), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def runs_of_polygons(polygons: Sequence[Any], shape: tuple[int, int]) -> Runs:
    """Fills polygons (x, y, x, y, ... in pixels) as COCO's own tools do, and joins them.

    Raises:
        ImageError: reason "bad-polygon": fewer than three points, or points far outside of the picture.
        UserError: pycocotools is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UserError("COCO's polygons need pycocotools; pip install 'visent[pipelines]'") from error
    limit = (1 + OUTSIDE) * max(shape)
    for polygon in polygons:
        try:
            points = np.array(polygon, np.float64)
        except (TypeError, ValueError) as error:
            raise ImageError("bad-polygon", f"a polygon is no list of numbers: {error}") from error
        if points.ndim != 1 or len(points) < 6 or len(points) % 2:  # of four numbers, cocoapi makes a box
            raise ImageError("bad-polygon", f"a polygon of {len(points) / 2:g} points, expected 3 or more")
        if not np.isfinite(points).all() or np.abs(points).max() > limit:  # cocoapi walks along every edge
            raise ImageError("bad-polygon", "a polygon has points far outside of the picture")
    if not polygons:
        raise ImageError("bad-polygon", "an object without any polygon")
    joined = mask.merge(mask.frPyObjects([list(polygon) for polygon in polygons], *shape))
    return runs_of_rle({"size": shape, "counts": joined["counts"]}, shape)


def runs_of_segmentation(segmentation: Any, shape: tuple[int, int]) -> Runs:
    """Reads the "segmentation" of a COCO annotation: RLE of either kind, or polygons.

    Raises:
        ImageError: as `runs_of_rle` and `runs_of_polygons`.
    """
    if isinstance(segmentation, Mapping):
        return runs_of_rle(segmentation, shape)
    if not isinstance(segmentation, Sequence):
        raise ImageError("bad-mask", f"a segmentation of type {type(segmentation).__name__}")
    return runs_of_polygons(segmentation, shape)


def runs_of_mask(mask: Bool[np.ndarray, "h w"]) -> Runs:
    """Returns the runs of a mask in memory."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]), [mask.size]])
    return np.diff(edges)


def mask_of_runs(runs: Runs, shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Returns the mask of `shape` (height, width) that the runs describe."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape[::-1]).T


def area(runs: Runs) -> int:
    """Counts the pixels of the mask."""
    return int(runs[1::2].sum())


def pixels(runs: Runs) -> Int64[np.ndarray, "k"]:
    """Returns the positions of the mask's pixels, counted by columns."""
    ends = np.cumsum(runs)[1::2]
    lengths = runs[1::2]
    before = np.cumsum(lengths) - lengths
    found: np.ndarray = np.repeat(ends - lengths - before, lengths) + np.arange(lengths.sum())
    return found
