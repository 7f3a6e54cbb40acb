"""Hard cuts in a video, found by comparing each decoded frame with the one before.

The rule is PySceneDetect's AdaptiveDetector: a cut changes the picture by a fixed amount at least, and by several times
as much as the frames around it change, so that a moving camera makes none.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

LEAST_CHANGE = 15.0  # of 255, the mean over pixels and hue, saturation and value
RATIO = 3.0  # to the mean change of the frames around
AROUND = 2  # frames on each side
SIZE = (96, 54)  # at which frames are compared
SCALING = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def with_scenes(frames: Iterable[tuple[float, Any]]) -> Iterator[tuple[float, Any, int]]:
    """Adds to each (time, decoded frame) the number of cuts before it; holds the last two frames back.

    A `ValueError` of `frames` comes after all frames that it gave.
    """
    change, failed = _Change(), None
    before: deque[float | None] = deque(maxlen=AROUND)
    waiting: deque[tuple[float, Any, float | None]] = deque()
    scene = 0

    def first() -> tuple[float, Any, int]:
        nonlocal scene
        time, frame, changed = waiting.popleft()
        around = [other for other in (*before, *(later for _, _, later in waiting)) if other is not None]
        usual = sum(around) / max(len(around), 1)
        scene += changed is not None and changed >= max(LEAST_CHANGE, RATIO * usual)
        before.append(changed)
        return time, frame, scene

    try:
        for time, frame in frames:
            waiting.append((time, frame, change(frame)))
            if len(waiting) > AROUND:
                yield first()
    except ValueError as error:
        failed = error
    while waiting:
        yield first()
    if failed:
        raise failed


class _Change:
    """How much a frame differs from the one it was given before; None for the first."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._before: np.ndarray | None = None

    def __call__(self, frame: Any) -> float | None:
        small = self._reformatter.reformat(frame, *SIZE, "rgb24", interpolation=SCALING, threads=1).to_ndarray()
        colours = cv2.cvtColor(small, cv2.COLOR_RGB2HSV).astype(np.float32)
        changed = None if self._before is None else float(np.abs(colours - self._before).mean())
        self._before = colours
        return changed
