"""What training pictures can come from: image files, members of tar files, and frames of videos."""

import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from tokenizer.images import ImageError, decode_image
from tokenizer.listing import MAX_BYTES, SUFFIXES, ImageFile, Reject, list_images, readable
from tokenizer.training import video
from tokenizer.training.ahead import ahead
from visent.errors import UserError

TARS = frozenset({".tar"})
VIDEOS = frozenset({".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg"})


@dataclass(frozen=True, slots=True)
class Still:
    """One picture: a file, or a part of a tar file."""

    name: str  # which decides its lot
    path: Path
    offset: int = 0
    size: int | None = None  # bytes; None: to the end of the file

    frames = 1

    def decode(self, chosen: Sequence[int]) -> list[UInt8[np.ndarray, "h w 3"] | None]:
        """Returns the picture, once for each number in `chosen`, all of which are 0.

        Raises:
            ImageError, OSError: it cannot be read.
        """
        if (self.size if self.size is not None else self.path.stat().st_size) > MAX_BYTES:
            raise ImageError("too-large", f"over {MAX_BYTES} bytes")
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(-1 if self.size is None else self.size)
        return [decode_image(data)] * len(chosen)


@dataclass(frozen=True, slots=True)
class Video:
    """A video of which some frames are taken, evenly spread."""

    name: str
    path: Path
    times: tuple[float, ...]  # seconds

    @property
    def frames(self) -> int:
        """Pictures in it."""
        return len(self.times)

    def decode(self, chosen: Sequence[int]) -> list[UInt8[np.ndarray, "h w 3"] | None]:
        """Returns the frames of those numbers, None for one that the video ends before.

        Raises:
            ImageError: it cannot be read.
        """
        return video.frames(self.path, [self.times[number] for number in chosen])


Item = Still | Video


def list_items(
    folders: Sequence[Path], *, frames_per_second: float, frames_per_video: int, rejects: list[Reject]
) -> list[tuple[bytes, Item]]:
    """Lists all pictures below folders with the hash of their name, in the order of that hash; reads none of them.

    Of a video at most `frames_per_video` frames are taken. Videos that cannot be opened are added to `rejects`.

    Raises:
        UserError: a path does not exist, nothing is found, or a tar file is damaged.
    """
    items: list[Item] = []
    videos: list[ImageFile] = []
    for file in list_images(folders, SUFFIXES | TARS | VIDEOS):
        suffix = file.path.suffix.lower()
        if suffix in TARS:
            items += _members(file)
        elif suffix in VIDEOS:
            videos.append(file)
        else:
            items.append(Still(file.name, file.path))
    for file, times in zip(
        videos, ahead(lambda f: _times(f, frames_per_second, frames_per_video), videos), strict=True
    ):
        if isinstance(times, Reject):
            rejects.append(times)
        else:
            items.append(Video(file.name, file.path, times))
    return sorted(((hashlib.sha256(os.fsencode(item.name)).digest(), item) for item in items), key=lambda pair: pair[0])


def _members(file: ImageFile) -> Iterator[Still]:
    """Yields the images inside a tar by the suffix of their names, as webdataset shards hold them."""
    try:
        with tarfile.open(file.path, "r:") as tar:
            for member in tar:
                if member.isfile() and PurePosixPath(member.name).suffix.lower() in SUFFIXES:
                    yield Still(f"{file.name}/{member.name}", file.path, member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise UserError(
            f"cannot read the tar file {readable(file.path)}: {error}; expected an uncompressed, whole tar: fetch it "
            "again, or move it out of the folder"
        ) from error


def _times(file: ImageFile, frames_per_second: float, at_most: int) -> tuple[float, ...] | Reject:
    try:
        length = video.length(file.path)
    except ImageError as error:
        return Reject(file.path, error.reason, str(error))
    count = min(at_most, max(1, int(length * frames_per_second)))
    return tuple(round((number + 0.5) * length / count, 3) for number in range(count))
