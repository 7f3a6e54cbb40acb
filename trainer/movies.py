"""Frames of a person's clip, and clips that a browser plays."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from manifests import files
from visent.errors import UserError
from visent.untrusted.films import DECODING, OPENING

Video = Literal["gif", "mp4"]
_TOLERANCE = 1e-3  # seconds; containers round their times to a millisecond
_QUALITY = {"crf": "16"}  # of H.264: hardly to be told from the frames


def read_frames(path: str, most: int, fps: float, start: float = 0.0) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Returns up to `most` upright frames, the first at or after each tick of 1/fps seconds, counted from `start`.

    Works by time stamps, so the rate of the file may vary; no frame comes twice.

    Raises:
        UserError: the file is missing, no video, or damaged before the last frame that is needed.
    """
    import av  # loads FFmpeg

    frames: list[np.ndarray] = []
    try:
        with av.open(path, metadata_errors="ignore", options=dict(OPENING)) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise UserError(f"{path} has no video: give a clip, such as .mp4, .mov, .webm or .gif")
            if stream.codec_context is not None:
                stream.codec_context.options = dict(DECODING)
            shape = float(getattr(stream, "sample_aspect_ratio", None) or 1)
            for time, frame in _timed(container, stream):
                if time - start + _TOLERANCE >= len(frames) / fps:
                    frames.append(_upright(frame, shape))
                if len(frames) == most:
                    break
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"clip {path} has no video that can be read ({reason}): give a clip, such as .mp4, .mov, .webm or .gif"
        ) from error
    return frames


def _timed(container: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    """Yields decoded frames with the seconds since the first."""
    step = 1 / (float(stream.average_rate or 0) or 25.0)
    first, time = None, -step
    for frame in container.decode(stream):
        if first is None:
            first = frame.time
        time = time + step if frame.time is None or first is None else float(frame.time - first)
        yield time, frame


def _upright(frame: Any, shape: float) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a frame's RGB with square pixels, turned as its display matrix says."""
    if shape != 1:
        frame = frame.reformat(width=max(round(frame.width * shape), 1), height=frame.height)
    pixels: np.ndarray = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def write_movie(frames: UInt8[np.ndarray, "n h w 3"], path: str | Path, fps: float) -> None:
    """Writes frames as a GIF that repeats, or as H.264 in MP4, by the name of `path`; never half a file.

    Raises:
        UserError: it cannot be written.
    """
    with files.writing(path) as temporary:
        if str(path).endswith(".gif"):
            _write_gif([Image.fromarray(frame) for frame in frames], Path(temporary), fps)
        else:
            _write_mp4(frames, Path(temporary), fps)


def _write_gif(pictures: Sequence[Image.Image], path: Path, fps: float) -> None:
    first, *others = (picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures)
    first.save(path, format="GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)


def _write_mp4(frames: UInt8[np.ndarray, "n h w 3"], path: Path, fps: float) -> None:
    import av

    frames = frames[:, : len(frames[0]) // 2 * 2, : frames.shape[2] // 2 * 2]  # colours are stored for 2 x 2 pixels
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options=_QUALITY)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
