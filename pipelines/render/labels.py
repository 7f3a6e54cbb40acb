"""Maps of class ids, painted in colours of a palette and read back."""

import numpy as np
from jaxtyping import Integer, UInt8

from tokenizer.images import ImageError, decode_labels
from tokenizer.labels import nearest_colour, voc_palette

Palette = UInt8[np.ndarray, "k 3"]  # row = class id


def draw_labels(data: bytes, palette: Palette | None = None, void: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Reads a map of class ids (palette indices or grey values of a picture) and paints it.

    Raises:
        ImageError: no picture of labels, or reason "unknown-label": an id without a colour.
    """
    return paint(decode_labels(data), voc_palette() if palette is None else palette, void)


def paint(labels: Integer[np.ndarray, "h w"], palette: Palette, void: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Paints each class id in its colour, and the id `void` (255 in many datasets) black.

    Raises:
        ImageError: reason "unknown-label": an id without a colour.
    """
    is_void = np.zeros(labels.shape, bool) if void is None else labels == void
    labels = np.where(is_void, 0, labels)
    if labels.size and (labels.min() < 0 or labels.max() >= len(palette)):
        worst = int(labels.max() if labels.max() >= len(palette) else labels.min())
        raise ImageError("unknown-label", f"class id {worst}, the palette has 0 to {len(palette) - 1}")
    painted: np.ndarray = palette[labels]
    painted[is_void] = 0
    return painted


def read(picture: UInt8[np.ndarray, "h w 3"], palette: Palette, void: int | None = None) -> Integer[np.ndarray, "h w"]:
    """Returns the class id whose colour is nearest (Euclidean, in RGB) to each pixel; the lower id at equal distance.

    With `void`, black reads as that id. The inverse of `paint` where all colours differ, black included then.
    """
    if void is None:
        return nearest_colour(picture, palette)
    found = nearest_colour(picture, np.concatenate([palette, np.zeros((1, 3), np.uint8)]))
    labels: np.ndarray = np.where(found == len(palette), void, found)
    return labels
