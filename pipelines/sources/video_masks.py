"""Masks of frames: maps of object or segment ids, drawn so that each keeps its colour through a video."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Integer, UInt8

from pipelines.render.instances import paint_ids
from pipelines.render.palettes import Colour
from pipelines.sources.base import Encoded
from pipelines.sources.frames import drawn
from tokenizer.images import ImageError, decode_labels

VOID = 255
ANY_ID = tuple(range(1, 256))  # where the publisher does not name a video's objects


def objects(video: str, ids: Sequence[int] = ANY_ID, void: int | None = VOID) -> Callable[[bytes], Encoded]:
    """Says what the bytes of a video's masks become: each id of `ids` in its colour, which the video's key draws."""
    return partial(drawn, decode=partial(draw_objects, video=video, ids=ids, void=void))


def draw_objects(data: bytes, video: str, ids: Sequence[int], void: int | None) -> UInt8[np.ndarray, "h w 3"]:
    """Paints a map of object ids (palette indices or grey values); 0 and `void` are black.

    Raises:
        ImageError: it is no such map, or has an id that is not in `ids` (reason "unknown-label").
    """
    return paint_ids(decode_labels(data), video, ids, void)


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
    known = np.array(sorted({0, *colours}))
    table = np.array([colours.get(number, (0, 0, 0)) for number in known.tolist()], np.uint8)
    places = np.searchsorted(known, ids).clip(max=len(known) - 1)
    unknown = ids[known[places] != ids]
    if unknown.size:
        raise ImageError("unknown-label", f"segment {int(unknown.flat[0])} is not one that the dataset has")
    painted: np.ndarray = table[places]
    return painted
