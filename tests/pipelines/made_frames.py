"""Folders of frames and masks, written as publishers name them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from made_media import picture_bytes
from PIL import Image

SIZE = (48, 36)  # width, height


def write_frames(folder: Path, numbers: Iterable[int], name: str = "{:05d}.jpg", size: tuple[int, int] = SIZE) -> Path:
    """Writes a picture for each number, different for each, and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        kind = "JPEG" if name.endswith("jpg") else "PNG"
        (folder / name.format(number)).write_bytes(picture_bytes(number, size, kind))
    return folder


def squares(ids: Iterable[int], size: tuple[int, int] = SIZE, dtype: type = np.uint8) -> np.ndarray:
    """Draws a map of ids: background 0, and a square of 8 x 8 for each id, side by side."""
    values = np.zeros(size[::-1], dtype)
    for place, number in enumerate(ids):
        values[8:16, 10 * place : 10 * place + 8] = number
    return values


def write_ids(path: Path, values: np.ndarray, palette: bool = True) -> None:
    """Writes a map of ids: 8 bits with a palette (DAVIS, YouTube-VOS) or grey, 16 bits as grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette and values.dtype == np.uint8:
        image = Image.fromarray(values, "P")
        image.putpalette([(37 * n + c) % 256 for n in range(256) for c in (236, 95, 103)])
    image.save(path)
