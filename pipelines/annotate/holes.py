"""The picture with black holes: the input of inpainting."""

import numpy as np
from jaxtyping import UInt8

from pipelines.seeds import generator

CELLS = 2  # cells along the short side, one hole in each; so every square crop of the picture shows some
SMALLEST, LARGEST = 0.3, 0.7  # side of a hole, as part of its cell


def draw(image: UInt8[np.ndarray, "h w 3"], key: str) -> UInt8[np.ndarray, "h w 3"]:
    """Blackens one rectangle in each cell of a grid, about a quarter of the picture.

    Places are fractions of the sides, drawn from `key` alone: the same example has the same holes at every size, and
    every frame of a clip has the same ones.
    """
    height, width = image.shape[:2]
    side = min(height, width) / CELLS
    rows, columns = max(round(height / side), 1), max(round(width / side), 1)
    random = generator("holes", key)
    result = image.copy()
    for row in range(rows):
        for column in range(columns):
            top, bottom = _span(random, row / rows, 1 / rows, height)
            left, right = _span(random, column / columns, 1 / columns, width)
            result[top:bottom, left:right] = 0
    return result


def _span(random: np.random.Generator, start: float, length: float, pixels: int) -> tuple[int, int]:
    """Draws a hole inside [start, start + length) of a side and returns it in pixels."""
    hole = random.uniform(SMALLEST, LARGEST) * length
    first = start + random.uniform(0, length - hole)
    return round(first * pixels), round((first + hole) * pixels)
