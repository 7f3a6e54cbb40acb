"""Pictures of label maps and their class ids: exactly for the truth, by the nearest colour for what a model drew."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from manifests.legend import Legend
from tokenizer.labels import MAX_CLASSES, nearest_colour
from visent.errors import UserError

Pictures = UInt8[np.ndarray, "n h w 3"]
Ids = UInt8[np.ndarray, "n h w"]


def read_exactly(pictures: Pictures, legend: Legend, keys: Sequence[str]) -> Ids:
    """Returns the class of each pixel of true label maps, whose colours must all be in the legend.

    Raises:
        UserError: a colour is not, with the key of its sample; or two classes have the same colour.
    """
    ids, colours = _readable(legend)
    known = _packed(colours)
    order = np.argsort(known)
    result = np.empty(pictures.shape[:3], np.uint8)
    for picture, key, into in zip(pictures, keys, result, strict=True):
        wanted = _packed(picture)
        place = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
        strange = wanted[known[place] != wanted]
        if len(strange):
            raise _outside(strange, key, legend)
        into[:] = ids[place]
    return result


def read_nearest(pictures: Pictures, legend: Legend) -> Ids:
    """Returns for each pixel the class whose colour is nearest (Euclidean, in RGB), the first at equal distance.

    Colours of ignored classes are among them: where a model draws "unlabelled" it says none of the classes.

    Raises:
        UserError: two classes have the same colour.
    """
    ids, colours = _readable(legend)
    n, height, width, _ = pictures.shape
    rows = pictures.reshape(n * height, width, 3)
    found: np.ndarray = ids[nearest_colour(rows, colours)] if n else np.zeros(0, np.uint8)
    return found.reshape(n, height, width)


def _readable(legend: Legend) -> tuple[UInt8[np.ndarray, " k"], UInt8[np.ndarray, "k 3"]]:
    """Returns ids and colours of a legend that can be read back."""
    first: dict[tuple[int, int, int], int] = {}
    for number, colour in zip(legend.ids, legend.colours, strict=True):
        if (other := first.setdefault(colour, number)) != number:
            raise UserError(f"classes {other} and {number} both have the colour {colour}, so no picture tells them "
                            "apart: give each class its own")  # fmt: skip
    if not 0 <= legend.ids[0] <= legend.ids[-1] < MAX_CLASSES:
        raise UserError(f"class ids from {legend.ids[0]} to {legend.ids[-1]}: expected 0 to {MAX_CLASSES - 1}")
    return np.array(legend.ids, np.uint8), legend.palette


def _packed(colours: UInt8[np.ndarray, "*s 3"]) -> np.ndarray:
    red, green, blue = np.moveaxis(colours.astype(np.uint32), -1, 0)
    packed: np.ndarray = red << 16 | green << 8 | blue
    return packed


def _outside(strange: np.ndarray, key: str, legend: Legend) -> UserError:
    colours, counts = np.unique(strange, return_counts=True)
    most = int(colours[counts.argmax()])
    colour = (most >> 16, most >> 8 & 255, most & 255)
    others = f", and {len(colours) - 1} other colours" if len(colours) > 1 else ""
    return UserError(
        f"{key}: {int(counts.max()):,} pixels have the colour {colour}{others}, outside the colour map of "
        f"{len(legend.ids)} classes: the label map was drawn with another one, or its pixels were mixed"
    )
