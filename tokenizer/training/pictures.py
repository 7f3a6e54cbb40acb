"""The pictures that a tokenizer is trained and judged on: every image file below some folders, decoded into memory."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from tokenizer.images import ImageError, decode_image, prepare
from visent.errors import UserError
from visent.progress import track

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif", ".avif", ".jp2")


class Photos:
    """Decoded pictures, their short side reduced to at most 9/8 of the network's image size.

    A picture's name alone decides whether it is held out and which are left out above `max_pictures`: the files are
    ordered by the hash of their path below the folder, the first `holdout` are never trained on.
    """

    def __init__(self, folders: Sequence[Path], *, size: int, preset: str, holdout: int, max_pictures: int) -> None:
        found = _list(folders)
        self.found = len(found)
        self.digest = hashlib.sha256(b"".join(key for key, _ in found)).hexdigest()
        self.size, self.preset = size, preset
        self.rejects: Counter[str] = Counter()
        self.held_out, self.train = self._read([path for _, path in found[: max_pictures + holdout]], holdout)
        if not self.train:
            raise UserError(
                f"{self.found} image files below {[str(f) for f in folders]}, {sum(self.rejects.values())} of them "
                f"unreadable and {len(self.held_out)} held out: none is left to train on; name a folder of photos"
            )

    def _read(self, paths: Sequence[Path], holdout: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        pictures: list[np.ndarray] = []
        with track("reading pictures", len(paths), "files") as progress:
            for path in paths:
                try:
                    pictures.append(_reduce(decode_image(path.read_bytes()), self.size * 9 // 8))
                except ImageError as error:
                    self.rejects[error.reason] += 1
                except OSError:
                    self.rejects["unreadable"] += 1
                progress.advance()
        return pictures[:holdout], pictures[holdout:]

    def crops(self, seed: Sequence[int], count: int, side: int) -> UInt8[np.ndarray, "n s s 3"]:
        """Returns random crops of random pictures, half of them mirrored; a function of the seed alone."""
        rng = np.random.default_rng(seed)
        return np.stack([_crop(self.train[rng.integers(len(self.train))], side, rng) for _ in range(count)])

    def held_out_squares(self) -> UInt8[np.ndarray, "n s s 3"]:
        """Returns the held-out pictures as the tokenizer's preset makes them."""
        squares = [prepare(picture, self.preset, self.size) for picture in self.held_out]
        return np.stack(squares) if squares else np.zeros((0, self.size, self.size, 3), np.uint8)


def _list(folders: Sequence[Path]) -> list[tuple[bytes, Path]]:
    """Returns the image files below the folders with the hash of their name, in the order of the hash."""
    keyed = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"no folder {str(folder)!r}: name folders that hold image files, at any depth")
        for path in folder.rglob("*"):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                name = path.relative_to(folder).as_posix().encode(errors="surrogateescape")
                keyed.append((hashlib.sha256(name).digest(), path))
    return sorted(keyed)


def _reduce(picture: np.ndarray, short: int) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = short / min(height, width)
    if scale >= 1:
        return picture
    size = (max(short, round(width * scale)), max(short, round(height * scale)))
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, reducing_gap=3))


def _crop(picture: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Cuts a square of `side` to twice `side` pixels (as far as the picture goes) and resizes it to `side`."""
    height, width = picture.shape[:2]
    short = min(height, width)
    cut = int(rng.integers(min(side, short), min(2 * side, short) + 1))
    top, left = int(rng.integers(height - cut + 1)), int(rng.integers(width - cut + 1))
    square = Image.fromarray(picture[top : top + cut, left : left + cut])
    resized = np.asarray(square.resize((side, side), Image.Resampling.BILINEAR))
    return resized[:, ::-1] if rng.random() < 0.5 else resized
