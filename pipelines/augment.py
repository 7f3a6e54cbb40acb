"""The geometry of a view: which square of the whole picture it shows, one for all roles and all frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pipelines.seeds import generator
from tokenizer.images import PRESETS

SMALLEST_AREA = 0.5  # of the largest square; DeLVM, section 3.2: random resized crop and flip
LARGEST_ASPECT = 20  # a strip longer than this would be mostly outside of any view, and huge when scaled
SETTINGS: Mapping[str, Any] = {"crop_area": [SMALLEST_AREA, 1.0], "flip": 0.5, "version": 1}


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Scale the whole picture to `width` x `height`, cut `size` x `size` at (`left`, `top`), then mirror if `flip`.

    It says nothing about the picture's own size, so a depth map of another resolution shares it exactly.
    """

    width: int
    height: int
    left: int
    top: int
    size: int
    flip: bool = False

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Returns the square as left, top, right, bottom in pixels of a picture of that size."""
        x, y = width / self.width, height / self.height
        return self.left * x, self.top * y, (self.left + self.size) * x, (self.top + self.size) * y


def geometry(dataset: str, key: str, view: int, shape: tuple[int, int], preset: str, size: int) -> Geometry:
    """Returns the geometry of a view of a picture of `shape` (height, width).

    View 0 is what `tokenizer.images.prepare` shows. A later view is a random crop of at least half the area of the
    largest crop, mirrored half the time, and a pure function of dataset, key and view.
    """
    height, width = shape
    squash = PRESETS[preset].resize == "squash"
    if view == 0:
        short = min(height, width)
        scaled = (size, size) if squash else (size * width // short, size * height // short)
        return Geometry(
            width=scaled[0],
            height=scaled[1],
            left=round((scaled[0] - size) / 2),
            top=round((scaled[1] - size) / 2),
            size=size,
        )
    random = generator(dataset, key, view)
    short_side = round(size / random.uniform(SMALLEST_AREA, 1.0) ** 0.5)
    short = min(height, width)
    scaled = (short_side, short_side) if squash else (short_side * width // short, short_side * height // short)
    left, top = (int(random.integers(0, side - size, endpoint=True)) for side in scaled)
    return Geometry(width=scaled[0], height=scaled[1], left=left, top=top, size=size, flip=bool(random.random() < 0.5))


def cut(
    image: UInt8[np.ndarray, "h w 3"], shown: Geometry, *, nearest: bool = False
) -> UInt8[np.ndarray, "{shown.size} {shown.size} 3"]:
    """Shows the part of a picture; `nearest` keeps the colours of label maps exact."""
    height, width = image.shape[:2]
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    picture = Image.fromarray(image).resize((shown.size, shown.size), method, box=shown.box(width, height))
    result = np.asarray(picture)
    return np.ascontiguousarray(result[:, ::-1]) if shown.flip else result


def scaled_whole(
    image: UInt8[np.ndarray, "h w 3"], shown: Geometry
) -> UInt8[np.ndarray, "{shown.height} {shown.width} 3"]:
    """Scales the whole picture to the view's resolution; annotators draw on this, so lines stay one pixel wide."""
    size = (shown.width, shown.height)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def cut_scaled(
    image: UInt8[np.ndarray, "{shown.height} {shown.width} 3"], shown: Geometry
) -> UInt8[np.ndarray, "{shown.size} {shown.size} 3"]:
    """Shows the part of a picture that `scaled_whole` gave, without resampling it."""
    result = image[shown.top : shown.top + shown.size, shown.left : shown.left + shown.size]
    return np.ascontiguousarray(result[:, ::-1] if shown.flip else result)
