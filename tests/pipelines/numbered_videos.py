"""Videos that carry their frames' numbers in the picture, made while the tests run."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def numbered_video(
    path: Path,
    frames: int,
    *,
    codec: str = "libx264",
    rate: int = 10,
    gop: int = 12,
    size: tuple[int, int] = (64, 48),
    sound: int = 0,
    **options: str,
) -> Path:
    """Writes a video of up to 256 frames; the left half of frame n is as bright as n // 16, the right half as n % 16.

    `sound` adds so many seconds of silence.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *size, "yuv420p", gop
        audio = container.add_stream("aac", rate=16000) if sound else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            _silence(container, audio, sound)
    return path


def picture(number: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """The picture of frame `number`."""
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 2], pixels[:, size[0] // 2 :] = 16 * (number // 16) + 8, 16 * (number % 16) + 8
    return pixels


def number_of(pixels: np.ndarray) -> int:
    """Reads the number off a picture."""
    half, edge = pixels.shape[1] // 2, pixels.shape[1] // 8
    return int(pixels[:, : half - edge].mean() // 16) * 16 + int(pixels[:, half + edge :].mean() // 16)


def _silence(container: Any, stream: Any, seconds: int) -> None:
    for number in range(seconds * 16000 // 1024 + 1):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, number * 1024, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
