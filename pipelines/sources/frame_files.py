"""The files of videos kept as folders of numbered frames: which number and which role each has."""

import os
import re
from collections.abc import Mapping, Sequence

from pipelines.sources import places
from pipelines.sources.files import IMAGE_ENDINGS, below, readable
from visent.errors import UserError

Files = Mapping[str, str | tuple[str, ...]]  # role -> path below the root, or paths; a missing one is absent
Frames = Mapping[int, Files]  # by the frame's number

LONGEST = 1_000_000  # frames of a video without gaps


class FramesError(ValueError):
    """A folder of frames that cannot be listed; `reason` is a short stable word."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def numbered(root: str, patterns: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """Finds the frames of a video by number: what `%d` in the pattern of each role's files (`bear/img_%d.jpg`) is.

    An absent folder has no frames.

    Raises:
        FramesError: "unreadable" for a folder, "duplicate-frame" for two files of one role and number.
    """
    frames: dict[int, dict[str, str]] = {}
    for role, pattern in patterns.items():
        folder, name = os.path.split(pattern)
        fits = fitting(name)
        for file in _names(below(root, folder)):
            if match := fits.fullmatch(file):
                files = frames.setdefault(int(match[1]), {})
                if role in files:
                    raise FramesError("duplicate-frame", f"{readable(files[role])} and {readable(file)}")
                files[role] = below(folder, file)
    return dict(sorted(frames.items()))


def fitting(pattern: str) -> re.Pattern[str]:
    """Compiles a pattern of file names: `%d` is a number, `*` any text, and without an ending all of pictures fit."""
    before, after = ("[^/]*?".join(map(re.escape, part.split("*"))) for part in pattern.split("%d"))
    ending = after or "(?:" + "|".join(map(re.escape, sorted(IMAGE_ENDINGS))) + ")"
    return re.compile(before + r"(?<![0-9])([0-9]+)" + ending, re.IGNORECASE)


def _names(folder: str) -> list[str]:
    try:
        return places.names_in(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FramesError("unreadable", f"{readable(folder)}: {error.strerror}; make it readable") from error


def with_gaps(frames: Frames, first: int | None = None, last: int | None = None) -> Frames:
    """Keeps the frames from `first` to `last` (else lowest and highest), and adds those missing, without files.

    Where the publisher numbers frames without gaps, a clip that lacks one is a fault.

    Raises:
        FramesError: "missing-frames" for a gap that no video has.
    """
    if not frames and (first is None or last is None):
        return frames
    low = min(frames) if first is None else first
    high = max(frames) if last is None else last
    check_span({low: {}, **frames, high: {}})
    return {n: frames.get(n, {}) for n in range(low, high + 1)}


def check_span(frames: Frames) -> None:
    """Refuses numbers that are further apart than the frames of any video.

    Raises:
        FramesError: "missing-frames".
    """
    low, high = min(frames, default=0), max(frames, default=0)
    if high - low > LONGEST:
        raise FramesError("missing-frames", f"numbers from {low} to {high}, with {len(frames)} files")


def annotated(frames: Frames, roles: Sequence[str]) -> Frames:
    """Keeps the frames that have every role: where the publisher annotates only some frames."""
    return {n: files for n, files in frames.items() if all(role in files for role in roles)}


def names_in(root: str, folder: str) -> list[str]:
    """Lists the videos of a dataset: the folders in a folder of `root`, sorted, hidden ones left out.

    An absent folder has none.

    Raises: `UserError` when it cannot be listed.
    """
    path = below(root, folder)
    if not places.is_folder(path):
        return []
    try:
        return places.folders_in(path)
    except OSError as error:
        raise UserError(f"cannot list {readable(path)}: {error.strerror}; make it readable") from error
