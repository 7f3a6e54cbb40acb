"""Masks of frames: maps of object or segment ids, drawn so that each keeps its colour through a video."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Integer, UInt8

from pipelines.render.instances import instance_colours
from pipelines.render.palettes import Colour
from pipelines.sources.base import Encoded
from pipelines.sources.frames import drawn
from tokenizer.images import ImageError, decode_labels

VOID = 255
SMALL = 1 << 16  # ids of masks of 8 and 16 bits are smaller
ANY_ID = tuple(range(1, 256))  # where the publisher does not name a video's objects


def objects(video: str, ids: Sequence[int] = ANY_ID, void: int | None = VOID) -> Callable[[bytes], Encoded]:
    """Says what the bytes of a video's masks become: each id of `ids` in its colour, 0 and `void` black.

    A mask holds palette indices or grey values. The video's key draws the colours: `render.instances.read_ids` with
    the same key and ids is the inverse. An id that is not in `ids` rejects the clip with reason "unknown-label".
    """

    def colours() -> Mapping[int, Colour]:
        rgb = instance_colours(video, len(ids)).tolist()
        found = {number: (r, g, b) for number, (r, g, b) in zip(ids, rgb, strict=True)}
        return found if void is None else {**found, void: (0, 0, 0)}

    of_video = OfVideo(colours)
    return partial(drawn, decode=lambda data: paint_segments(decode_labels(data), of_video()))


def mask(data: bytes) -> Encoded:
    """A mask, whatever its objects: white on black."""
    return drawn(data, decode=draw_mask)


def draw_mask(data: bytes, least: int = 1) -> UInt8[np.ndarray, "h w 3"]:
    """Paints white where a map of ids or grey values is `least` or more.

    Raises:
        ImageError: it is no such map.
    """
    there = decode_labels(data) >= least
    return np.repeat(np.where(there, 255, 0).astype(np.uint8)[..., None], 3, axis=2)


class OfVideo:
    """The colours of all segments of one video, found by the thread that first draws one of its masks."""

    def __init__(self, find: Callable[[], Mapping[int, Colour]]) -> None:
        self._find = find
        self._finding = threading.Lock()
        self._colours: Mapping[int, Colour] | None = None

    def __call__(self) -> Mapping[int, Colour]:
        """Returns the colour of each segment id.

        Raises:
            ImageError: what finding them raises.
        """
        with self._finding:
            if self._colours is None:
                self._colours = self._find()
            return self._colours


def paint_segments(ids: Integer[np.ndarray, "h w"], colours: Mapping[int, Colour]) -> UInt8[np.ndarray, "h w 3"]:
    """Paints each segment id in its colour, 0 black.

    Raises:
        ImageError: reason "unknown-label": an id without a colour.
    """
    numbers = np.array(sorted({0, *colours}))
    table = np.array([colours.get(number, (0, 0, 0)) for number in numbers.tolist()], np.uint8)
    if ids.max(initial=0) < SMALL:  # a look-up is many times faster than a search
        places = np.full(SMALL, -1, np.int32)
        places[numbers[numbers < SMALL]] = np.flatnonzero(numbers < SMALL)
        found = np.take(places, ids)
    else:
        found = np.searchsorted(numbers, ids).clip(max=len(numbers) - 1)
        found = np.where(numbers[found] == ids, found, -1)
    if found.min(initial=0) < 0:
        raise ImageError("unknown-label", f"id {int(ids[found < 0][0])} is not one that the dataset has")
    painted: np.ndarray = np.take(table, found, axis=0)  # three times as fast as table[found]
    return painted
