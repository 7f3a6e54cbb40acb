"""Frames of video files, by time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from tokenizer.images import ImageError
from visent.errors import UserError
from visent.untrusted.films import OPENING

_SEEK_OVER = 4.0  # seconds between two wanted frames above which seeking is cheaper than decoding all between


def length(path: Path) -> float:
    """Returns the seconds that a video's container states.

    Raises:
        ImageError: it is no video, or states no length.
    """
    with _Opened(path) as container:
        stream = container.streams.video[0]
        if stream.duration:
            return float(stream.duration * stream.time_base)
        if container.duration:
            return float(container.duration) / 1_000_000
    raise ImageError("no-length", f"{path} states no length")


def frames(path: Path, times: Sequence[float]) -> list[UInt8[np.ndarray, "h w 3"] | None]:
    """Returns the first frame at or after each time, upright RGB; None behind the end. Times are seconds, rising.

    Raises:
        ImageError: it is no video, or damaged.
    """
    with _Opened(path) as container:
        return _Frames(container).at(times)


class _Frames:
    """Walks through one video."""

    def __init__(self, container: Any) -> None:
        self._container, self._stream = container, container.streams.video[0]
        self._decoded = container.decode(self._stream)
        self._origin = float(self._stream.start_time * self._stream.time_base) if self._stream.start_time else 0.0
        self._rate = float(self._stream.average_rate or 0) or 25.0
        self._count, self._now = 0, 0.0
        self._stamped = True

    def at(self, times: Sequence[float]) -> list[UInt8[np.ndarray, "h w 3"] | None]:
        found: list[np.ndarray | None] = []
        frame = None
        for time in times:
            if self._stamped and time - self._now > _SEEK_OVER:
                self._seek(time)
                frame = None
            while frame is None or self._now < time - 1e-6:
                frame = next(self._decoded, None)
                if frame is None:
                    return found + [None] * (len(times) - len(found))
                self._stamp(frame)
            pixels = frame.to_ndarray(format="rgb24")
            found.append(np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90))))
        return found

    def _seek(self, time: float) -> None:
        self._container.seek(int((time + self._origin) / self._stream.time_base), stream=self._stream)
        self._decoded = self._container.decode(self._stream)

    def _stamp(self, frame: Any) -> None:
        """Sets the time of now; files without time stamps are counted through and never sought in."""
        self._stamped = frame.time is not None
        self._now = frame.time - self._origin if self._stamped else self._count / self._rate
        self._count += 1


class _Opened:
    """Opens a video; whatever goes wrong with it becomes an `ImageError`."""

    def __init__(self, path: Path) -> None:
        try:
            import av
        except ImportError as error:
            raise UserError("reading videos needs PyAV: pip install 'visent[pipelines]'") from error
        self._path, self._av = path, av

    def __enter__(self) -> Any:
        try:
            self._container = self._av.open(str(self._path), metadata_errors="ignore", options=dict(OPENING))
        except (self._av.FFmpegError, OSError) as error:
            raise ImageError("no-video", f"{self._path}: {error}") from error
        if not self._container.streams.video:
            self._container.close()
            raise ImageError("no-video", f"{self._path} has no stream of pictures")
        self._container.streams.video[0].thread_type = "AUTO"
        return self._container

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        self._container.close()
        if isinstance(error, self._av.FFmpegError | OSError):
            raise ImageError("damaged", f"{self._path}: {error}") from error
