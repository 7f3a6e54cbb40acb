"""The picture with black holes: the input of inpainting, as LVM makes it (`tokenize_examples` of its repository)."""

import numpy as np
from jaxtyping import UInt8

from pipelines.seeds import generator

SQUARE_PROBABILITY = 0.3  # of one square hole; else patches
SMALLEST, LARGEST = 0.1, 0.5  # side of the square, as part of the short side
PATCHES = 8  # along the short side: LVM's patches of 32 pixels of 256
MOST_PATCHES = 161  # along the long side of a picture that is 20 times as long as short


def draw(image: UInt8[np.ndarray, "h w 3"], key: str) -> UInt8[np.ndarray, "h w 3"]:
    """Blackens one square of 10 to 50 % of the side, or patches, each kept with a probability from U(0, 1).

    LVM cuts squares first; here the whole picture is drawn on, so that every view shows the same holes. Lengths are
    parts of the short side, and a picture of another aspect has a hole in each square part of it. All is drawn from
    `key` alone: the holes are the same at every size and in every frame of a clip.
    """
    random = generator("holes", key)
    result = image.copy()
    if random.random() < SQUARE_PROBABILITY:
        _squares(result, random)
    else:
        _patches(result, random)
    return result


def _squares(image: UInt8[np.ndarray, "h w 3"], random: np.random.Generator) -> None:
    height, width = image.shape[:2]
    short = min(height, width)
    parts = max(round(max(height, width) / short), 1)
    length = max(height, width) / short / parts  # of a part; at least 0.75
    side = random.uniform(SMALLEST, LARGEST)
    for part in range(parts):
        along, across = part * length + random.uniform(0, length - side), random.uniform(0, 1 - side)
        starts = (along, across) if height > width else (across, along)
        rows, columns = (slice(round(start * short), round((start + side) * short)) for start in starts)
        image[rows, columns] = 0


def _patches(image: UInt8[np.ndarray, "h w 3"], random: np.random.Generator) -> None:
    """Patches begin at the upper left corner; those at the other end of the long side may be cut off."""
    kept = random.random((MOST_PATCHES, MOST_PATCHES)) < random.random()
    side = min(image.shape[:2]) / PATCHES
    rows, columns = (np.minimum((np.arange(n) / side).astype(int), MOST_PATCHES - 1) for n in image.shape[:2])
    image[~kept[rows][:, columns]] = 0
