"""Maps of class ids, painted in colours of a palette and read back."""

import numpy as np
from jaxtyping import Integer, UInt8

from tokenizer.images import ImageError, decode_labels
from tokenizer.labels import voc_palette

Palette = UInt8[np.ndarray, "k 3"]  # row = class id


def draw_labels(data: bytes, palette: Palette | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Reads a map of class ids (palette indices or grey values of a picture) and paints it.

    Raises:
        ImageError: no picture of labels, or reason "unknown-label": an id without a colour.
    """
    return paint(decode_labels(data), voc_palette() if palette is None else palette)


def paint(labels: Integer[np.ndarray, "h w"], palette: Palette) -> UInt8[np.ndarray, "h w 3"]:
    """Paints each class id in its colour.

    Raises:
        ImageError: reason "unknown-label": an id without a colour.
    """
    if labels.size and (labels.min() < 0 or labels.max() >= len(palette)):
        worst = int(labels.max() if labels.max() >= len(palette) else labels.min())
        raise ImageError("unknown-label", f"class id {worst}, the palette has 0 to {len(palette) - 1}")
    painted: np.ndarray = palette[labels]
    return painted


def read(picture: UInt8[np.ndarray, "h w 3"], palette: Palette) -> Integer[np.ndarray, "h w"]:
    """Returns the class id whose colour is nearest (Euclidean, in RGB) to each pixel; the lower id at equal distance.

    The inverse of `paint` where all colours differ.
    """
    colours = palette.astype(np.float32)
    lengths = (colours**2).sum(axis=1)  # |p - c|^2 without |p|^2; whole numbers below 2^24, exact in float32
    nearest: np.ndarray = np.stack(
        [np.argmin(lengths - 2 * row.astype(np.float32) @ colours.T, axis=1) for row in picture]
    )
    return nearest
