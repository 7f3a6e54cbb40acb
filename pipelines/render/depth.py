"""Depth maps, drawn as grey: near is bright."""

import io
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from tokenizer.images import MAX_PIXELS, ImageError, decode_labels
from visent.untrusted.arrays import NPY, ZIP, names_in, read_array, read_arrays

DepthIs = Literal["disparity", "distance"]
MAX_BYTES = 8 * MAX_PIXELS  # of float64
OUTLIERS = 1.0  # percent of the depth values at each end that are drawn as the end


def draw_depth(data: bytes, depth_is: DepthIs) -> UInt8[np.ndarray, "h w 3"]:
    """Reads a depth map and draws it: `decode_depth`, then `depth_to_rgb`.

    Raises:
        ImageError: as these two.
    """
    return depth_to_rgb(decode_depth(data), depth_is)


def decode_depth(data: bytes) -> Float32[np.ndarray, "h w"]:
    """Reads a depth map: a 16-bit or 8-bit grey PNG, or one array (or the one called "depth") of a .npy or .npz file.

    Values are in the file's own unit. The format is found by content.

    Raises:
        ImageError: the file is none of these.
    """
    if data[:6] == NPY or data[:4] == ZIP:
        return _array(data)
    return decode_labels(data).astype(np.float32)


def _array(data: bytes) -> Float32[np.ndarray, "h w"]:
    try:
        loaded = read_array(io.BytesIO(data), MAX_BYTES) if data[:6] == NPY else _only_array(data)
    except ValueError as error:
        if isinstance(error, ImageError):
            raise
        large = "more than" in str(error)
        raise ImageError("too-large" if large else "truncated", str(error)) from error
    values = np.squeeze(loaded)
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
        raise ImageError("not-depth", f"array {loaded.dtype}{loaded.shape}, expected numbers of shape (height, width)")
    if values.size > MAX_PIXELS:
        raise ImageError("too-large", f"{values.size} values, more than {MAX_PIXELS}")
    result: np.ndarray = values.astype(np.float32)
    return result


def _only_array(data: bytes) -> np.ndarray:
    names = names_in(io.BytesIO(data))
    name = "depth" if "depth" in names else names[0] if len(names) == 1 else None
    if name is None:
        raise ImageError("not-depth", f"the .npz holds {names}, expected one array or one called 'depth'")
    return read_arrays(io.BytesIO(data), [name], MAX_BYTES)[name]


def depth_to_rgb(depth: Float32[np.ndarray, "h w"], depth_is: DepthIs) -> UInt8[np.ndarray, "h w 3"]:
    """Draws relative depth as grey: near is bright, far is dark, unknown (zero or not finite) is black.

    Distances are inverted first, so that both kinds look as disparity does. The range is stretched from the 1st to the
    99th percentile of the known values, to 1..255.

    Raises:
        ImageError: no value is known.
    """
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        raise ImageError("no-depth", "no positive finite value in the depth map")
    near = depth[known] if depth_is == "disparity" else 1.0 / depth[known]
    low, high = np.percentile(near, [OUTLIERS, 100 - OUTLIERS])
    scaled = (near - low) / (high - low) if high > low else np.full_like(near, 0.5)
    grey = np.zeros(depth.shape, np.uint8)
    grey[known] = np.rint(1 + 254 * np.clip(scaled, 0, 1)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def read_depth(picture: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """Returns relative nearness of each pixel: 0 the farthest, 1 the nearest, NaN where it is unknown (black).

    The inverse of `depth_to_rgb` up to the picture's own scale and shift, which grey does not hold, to half a step of
    1/254, outliers aside.
    """
    grey = picture.astype(np.float32).mean(axis=2)
    near: np.ndarray = np.where(grey < 0.5, np.nan, np.maximum(grey - 1, 0) / 254).astype(np.float32)
    return near
