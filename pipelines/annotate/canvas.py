"""Pictures of any size on canvases of one size, so that they go through a network in one batch."""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image


def canvas_side(size: int) -> int:
    """Returns the side of the canvas for squares of `size`: a picture of 2:3 goes on it unscaled; a multiple of 16."""
    return -(-size * 3 // 32) * 16


def placed(image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """Puts the picture in the upper left corner, its last row and column repeated; scaled down only if too large."""
    height, width = _scaled(image.shape[0], image.shape[1], side)
    if (height, width) != image.shape[:2]:
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    return np.pad(image, ((0, side - height), (0, side - width), (0, 0)), mode="edge")


def inside(shape: tuple[int, ...], side: int) -> Bool[np.ndarray, "{side} {side}"]:
    """Says where a picture of `shape` (height, width) is on the canvas."""
    height, width = _scaled(shape[0], shape[1], side)
    return (np.arange(side) < height)[:, None] & (np.arange(side) < width)


def taken(canvas: Float[np.ndarray, "side side *c"], shape: tuple[int, int]) -> Float[np.ndarray, "h w *c"]:
    """Takes from a network's map over the canvas what belongs to the picture of `shape` (height, width)."""
    height, width = _scaled(*shape, len(canvas))
    return resized(canvas[:height, :width], shape)


def resized(values: Float[np.ndarray, "a b *c"], shape: tuple[int, int]) -> Float[np.ndarray, "h w *c"]:
    """Scales maps of numbers, channels last, bilinearly; the same values where the shape is the same."""
    if values.shape[:2] == shape:
        return values
    channels = values.reshape(*values.shape[:2], -1)
    planes = [
        np.asarray(Image.fromarray(channels[..., i]).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
        for i in range(channels.shape[2])
    ]
    return np.stack(planes, axis=-1).reshape(*shape, *values.shape[2:])


def _scaled(height: int, width: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(height, width))
    return max(round(height * scale), 1), max(round(width * scale), 1)
