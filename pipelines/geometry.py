"""The geometry of a view: which square of the whole picture it shows, one for all roles and all frames."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Point = tuple[int | float, int | float]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Scale the whole to `width` x `height`, turn it by `angle` degrees, cut `size` x `size` at (`left`, `top`).

    The picture is turned counter-clockwise about the middle of the square. Then the square is mirrored left to right
    if `flip`, top to bottom if `vflip`, and turned counter-clockwise by `turn` quarters. Lengths are in pixels of the
    view, in fractions of them where the square is given in pixels of the picture. Nothing here says how large the
    picture itself is, so a depth map of another resolution shares the geometry exactly.
    """

    width: int | float
    height: int | float
    left: int | float
    top: int | float
    size: int
    angle: float = 0.0
    flip: bool = False
    vflip: bool = False
    turn: int = 0

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Returns the square, before it is turned, as left, top, right, bottom in pixels of a picture of that size."""
        x, y = width / self.width, height / self.height
        return self.left * x, self.top * y, (self.left + self.size) * x, (self.top + self.size) * y

    @property
    def whole(self) -> tuple[int, int]:
        """Width and height of what `scaled_whole` gives: whole pixels, in step with those of the view."""
        width, height = (
            math.floor(side - start % 1 + 1e-6) for side, start in ((self.width, self.left), (self.height, self.top))
        )
        return width, height

    def meta(self, width: int, height: int) -> dict[str, Any]:
        """Returns what gives the same pixels again from a picture of that size, in JSON values.

        `crop` is the box in the precision that Pillow cuts with; `flip` is always told, `rotate` (the angle), `vflip`
        and `turn` where they did something.
        """
        told: dict[str, Any] = {"crop": [_single(side) for side in self.box(width, height)], "flip": self.flip}
        others = {"rotate": self.angle, "vflip": self.vflip, "turn": self.turn}
        return told | {name: value for name, value in others.items() if value}


def cut(
    image: UInt8[np.ndarray, "h w 3"], shown: Geometry, *, nearest: bool = False
) -> UInt8[np.ndarray, "{shown.size} {shown.size} 3"]:
    """Shows the part of a picture; `nearest` keeps the colours of label maps exact."""
    height, width = image.shape[:2]
    if shown.angle and not nearest:  # first smaller, then turned: turning alone would leave out pixels
        return cut_scaled(scaled_whole(image, shown), shown)
    picture = Image.fromarray(image)
    if shown.angle:
        square = _turned(picture, shown, (0, 0), (width / shown.width, height / shown.height), Image.Resampling.NEAREST)
    else:
        method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        square = np.asarray(picture.resize((shown.size, shown.size), method, box=shown.box(width, height)))
    return _mirrored(square, shown)


def scaled_whole(
    image: UInt8[np.ndarray, "h w 3"], shown: Geometry
) -> UInt8[np.ndarray, "{shown.whole[1]} {shown.whole[0]} 3"]:
    """Scales the whole picture to the view's resolution; annotators draw on this, so lines stay one pixel wide.

    Where the square starts between two pixels of the whole, less than one pixel is left out at each side instead.
    """
    height, width = image.shape[:2]
    x, y = width / shown.width, height / shown.height
    left, top = shown.left % 1, shown.top % 1
    right, bottom = left + shown.whole[0], top + shown.whole[1]
    box = (left * x, top * y, min(right * x, width), min(bottom * y, height))
    return np.asarray(Image.fromarray(image).resize(shown.whole, Image.Resampling.BILINEAR, box=box))


def cut_scaled(
    image: UInt8[np.ndarray, "{shown.whole[1]} {shown.whole[0]} 3"], shown: Geometry, *, nearest: bool = False
) -> UInt8[np.ndarray, "{shown.size} {shown.size} 3"]:
    """Shows the part of a picture that `scaled_whole` gave; resampled only where an angle turns it."""
    if shown.angle:
        method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        start = (shown.left % 1, shown.top % 1)
        return _mirrored(_turned(Image.fromarray(image), shown, start, (1, 1), method), shown)
    left, top = math.floor(shown.left), math.floor(shown.top)
    return _mirrored(image[top : top + shown.size, left : left + shown.size], shown)


def _turned(
    picture: Image.Image, shown: Geometry, start: Point, step: Point, method: Any
) -> UInt8[np.ndarray, "s s 3"]:
    """Cuts the square out of the turned picture, whose pixels are `step` apart from `start`."""
    cos, sin = math.cos(math.radians(shown.angle)), math.sin(math.radians(shown.angle))
    half, (x, y) = shown.size / 2, step
    middle_x, middle_y = shown.left - start[0] + half, shown.top - start[1] + half
    where = (cos * x, -sin * x, (middle_x - half * (cos - sin)) * x,
             sin * y, cos * y, (middle_y - half * (sin + cos)) * y)  # fmt: skip
    return np.asarray(picture.transform((shown.size, shown.size), Image.Transform.AFFINE, where, method))


def _mirrored(square: UInt8[np.ndarray, "s s 3"], shown: Geometry) -> UInt8[np.ndarray, "s s 3"]:
    across = square[:, ::-1] if shown.flip else square
    upright = across[::-1] if shown.vflip else across
    return np.ascontiguousarray(np.rot90(upright, shown.turn))


def _single(value: int | float) -> float:
    """Returns the shortest decimal that is the same number in 32 bits."""
    return float(str(np.float32(value)))
