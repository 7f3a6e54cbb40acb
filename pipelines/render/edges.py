"""Edges that people drew: bright on black, the brighter the more of them agree."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Shaped, UInt8

from tokenizer.images import ImageError


def draw_edges(drawings: Sequence[Shaped[np.ndarray, "h w"]]) -> UInt8[np.ndarray, "h w 3"]:
    """Draws the mean of several annotators' edge maps (0 = none) as grey: 255 where all drew an edge.

    Raises:
        ImageError: reason "no-edges": there is no drawing; "sizes-differ": they differ in size.
    """
    if not drawings:
        raise ImageError("no-edges", "nobody drew edges of this picture")
    if len({drawing.shape for drawing in drawings}) > 1:
        raise ImageError("sizes-differ", f"edge maps of sizes {sorted({drawing.shape for drawing in drawings})}")
    agreed = np.mean([drawing != 0 for drawing in drawings], axis=0)
    return np.repeat(np.rint(255 * agreed).astype(np.uint8)[..., None], 3, axis=2)


def read_edges(picture: UInt8[np.ndarray, "h w 3"], annotators: int | None = None) -> Float64[np.ndarray, "h w"]:
    """Returns the part of the annotators, 0 to 1, who drew an edge through each pixel, in steps of 1/255.

    With their number (to 127), the inverse of `draw_edges` is exact.
    """
    agreed: np.ndarray = picture.mean(axis=2) / 255
    if annotators is not None:
        agreed = np.rint(agreed * annotators) / annotators
    return agreed
