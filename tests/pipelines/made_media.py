"""Small real pictures and videos, made while the tests run."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

STEP = 8  # brightness between two frames of a made video


def picture_bytes(seed: int = 0, size: tuple[int, int] = (48, 40), format: str = "PNG", **options: object) -> bytes:
    """Encodes a smooth colourful picture of width x height, different for every seed."""
    random = np.random.default_rng(seed)
    noise = Image.fromarray(random.integers(0, 256, (5, 6, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    noise.save(buffer, format, **options)
    return buffer.getvalue()


def write_pictures(folder: Path, count: int) -> Path:
    """Writes `count` different PNG files and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:03d}.png").write_bytes(picture_bytes(number))
    return folder


def write_labels(path: Path, labels: np.ndarray, palette: np.ndarray | None = None) -> np.ndarray:
    """Writes a PNG of labels, grey of 8 or 16 bits as their type is, or with a palette; returns the labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    if palette is not None:
        image = Image.fromarray(labels, "P")
        image.putpalette(palette.astype(np.uint8).tobytes())
    image.save(path)
    return labels


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (48, 40)) -> None:
    """Writes the picture of `picture_bytes` in the format of the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes(seed, size, "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG"))


def write_video(path: Path, frames: int = 20, times: list[int] | None = None, size: tuple[int, int] = (64, 48)) -> Path:
    """Writes a video whose frame n is grey of brightness `STEP` n; `times` are in hundredths of a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10 if times is None else 100)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            grey = np.full((size[1], size[0], 3), STEP * number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, 10 if times is None else 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
