"""Bilinear resizing as published evaluations do it: of the four nearest pixels, also where a picture shrinks."""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

# Where the samples lie, of `before` pixels for `after`: at i * before / after (TensorFlow 1), with the outer pixels on
# each other (Chainer, `align_corners`), or with the outer edges on each other (OpenCV, torch).
Grid = Literal["top-left", "corners", "edges"]


def resized(pictures: Any, size: tuple[int, int], grid: Grid) -> Any:
    """Returns pictures [... h w c], of numpy or of JAX, as float32 in `size` = (height, width).

    Without antialiasing: `tf.image.resize_bilinear` for "top-left", to the order of its additions.
    """
    top, bottom, down = _along(pictures.shape[-3], size[0], grid)
    left, right, across = _along(pictures.shape[-2], size[1], grid)

    def rows(of: Int[np.ndarray, " k"]) -> Any:
        """Rows of pictures, resized along them; only what is taken becomes float."""
        taken = pictures[..., of, :, :]
        first = taken[..., left, :].astype(np.float32)
        return first + (taken[..., right, :].astype(np.float32) - first) * across[:, None]

    upper = rows(top)
    return upper + (rows(bottom) - upper) * down[:, None, None]


def _along(
    before: int, after: int, grid: Grid
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Returns, for each pixel of a side, the two that it lies between and how far it is from the first."""
    places = np.arange(after, dtype=np.float32)
    if grid == "top-left":
        places = places * np.float32(before / after)
    elif grid == "corners":
        places = places * np.float32((before - 1) / max(after - 1, 1))
    else:
        places = np.maximum((places + np.float32(0.5)) * np.float32(before / after) - np.float32(0.5), 0)
    first = np.minimum(np.floor(places).astype(np.int64), before - 1)
    return first, np.minimum(first + 1, before - 1), (places - first).astype(np.float32)
