"""The pictures that a tokenizer is trained and judged on: photos, and renderings of annotations by their share.

A picture's name alone decides whether it is held out: the files of a source are ordered by the hash of their path below
the folder, and the first readable ones are never trained on.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from tokenizer.images import ImageError, decode_image, prepare
from tokenizer.listing import Reject, by_reason, list_images, read_images, readable
from tokenizer.training.config import TrainConfig
from visent.errors import UserError
from visent.progress import track


@dataclass(frozen=True)
class Source:
    """Pictures of one kind."""

    folders: tuple[Path, ...]
    share: float  # of the crops
    exact: bool = False  # renderings: resized by nearest neighbour, so that no colour arises that they do not have


class Pictures:
    """Photos and renderings to cut crops from; the first `max_pictures` of each source are held decoded in memory."""

    def __init__(
        self, config: TrainConfig, photos: Sequence[Path], renderings: Sequence[tuple[Path, float]] = ()
    ) -> None:
        shares = tuple(share for _, share in renderings)
        if shares != config.rendering_shares:
            raise ValueError(f"renderings of shares {shares}, but the configuration has {config.rendering_shares}")
        sources = [Source(tuple(photos), 1.0 - sum(shares))]
        sources += [Source((folder,), share, exact=True) for folder, share in renderings]
        self.pools = [Pool(source, config) for source in sources]
        self._until = np.cumsum([source.share for source in sources])[:-1]

    @property
    def digest(self) -> str:
        """The sha256 of the names of all files found."""
        return hashlib.sha256(b"".join(pool.digest for pool in self.pools)).hexdigest()

    @property
    def rejects(self) -> dict[str, int]:
        """Unusable files by reason, of those read before the first step."""
        return by_reason([reject for pool in self.pools for reject in pool.rejects])

    def crops(self, seed: Sequence[int], count: int, side: int) -> UInt8[np.ndarray, "n s s 3"]:
        """Returns random crops of random pictures, half of them mirrored; each is a function of (seed, its number)."""
        return np.stack([self._crop((*seed, number), side) for number in range(count)])

    def _crop(self, seed: Sequence[int], side: int) -> UInt8[np.ndarray, "s s 3"]:
        rng = np.random.default_rng(seed)
        pool = self.pools[int(np.searchsorted(self._until, rng.random(), side="right"))]
        return random_crop(pool.draw(rng), side, rng, exact=pool.source.exact)

    def held_out(self, *, exact: bool) -> UInt8[np.ndarray, "n s s 3"]:
        """Returns the held-out renderings (`exact`) or photos as the tokenizer's preset makes them."""
        squares = [square for pool in self.pools if pool.source.exact == exact for square in pool.held_out]
        return np.stack(squares) if squares else np.zeros((0, 1, 1, 3), np.uint8)

    def describe(self) -> str:
        """Returns the numbers of pictures, for the card."""
        return "; ".join(pool.describe() for pool in self.pools)


class Pool:
    """The pictures of one source, their short side reduced to at most 9/8 of the network's image size."""

    def __init__(self, source: Source, config: TrainConfig) -> None:
        self.source = source
        self.short = config.network.image_size * 9 // 8
        keyed = sorted((hashlib.sha256(os.fsencode(f.name)).digest(), f) for f in list_images(source.folders))
        self.files = [file for _, file in keyed]
        self.digest = hashlib.sha256(b"".join(key for key, _ in keyed)).digest()
        self.rejects: list[Reject] = []
        self._decoded: list[np.ndarray | None] = [None] * min(len(keyed), config.holdout + config.max_pictures)
        self._decode_first()
        judges = [i for i, picture in enumerate(self._decoded) if picture is not None][: config.holdout]
        self._first = judges[-1] + 1 if judges else 0  # of the files to train on
        squares = (self._decoded[i] for i in judges)
        size, nearest = config.network.image_size, source.exact
        self.held_out = [prepare(s, config.preset, size, nearest=nearest) for s in squares if s is not None]
        if all(picture is None for picture in self._decoded[self._first :]):
            raise UserError(
                f"{len(keyed)} image files below {', '.join(map(readable, source.folders))}, {len(self.rejects)} of "
                f"them unreadable and {len(judges)} held out: none is left to train on; name a folder of more "
                "pictures, or hold out fewer (--holdout)"
            )

    def draw(self, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
        """Returns a random picture that is not held out; draws again where a file is unusable."""
        while True:
            index = int(rng.integers(self._first, len(self.files)))
            if index < len(self._decoded):
                picture = self._decoded[index]
            else:
                try:
                    picture = self._read(self.files[index].path.read_bytes())
                except (ImageError, OSError):
                    picture = None
            if picture is not None:
                return picture

    def describe(self) -> str:
        """Returns the numbers of pictures, for the card."""
        kind = f"renderings ({self.source.share:.0%} of the crops)" if self.source.exact else "photos"
        found, judges = len(self.files), len(self.held_out)
        return f"{found - judges - len(self.rejects)} {kind} trained on, {judges} held out, of {found} files"

    def _decode_first(self) -> None:
        files = self.files[: len(self._decoded)]
        place = {id(file): i for i, file in enumerate(files)}
        with track(f"reading {'renderings' if self.source.exact else 'photos'}", len(files), "files") as progress:
            for file, picture in read_images(files, self._read, self.rejects):
                self._decoded[place[id(file)]] = picture
                progress.advance()

    def _read(self, data: bytes) -> UInt8[np.ndarray, "h w 3"]:
        return reduce(decode_image(data), self.short, exact=self.source.exact)


def reduce(picture: UInt8[np.ndarray, "h w 3"], short: int, *, exact: bool) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Resizes a picture so that its short side is at most `short`; `exact` takes single pixels, so colours stay."""
    height, width = picture.shape[:2]
    scale = short / min(height, width)
    if scale >= 1:
        return picture
    size = (max(short, round(width * scale)), max(short, round(height * scale)))
    return _resize(Image.fromarray(picture), size, exact, reducing_gap=None if exact else 3.0)


def random_crop(
    picture: UInt8[np.ndarray, "h w 3"], side: int, rng: np.random.Generator, *, exact: bool
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """Cuts a square of `side` to twice `side` pixels (as far as the picture goes) and resizes it to `side`."""
    height, width = picture.shape[:2]
    short = min(height, width)
    cut = int(rng.integers(min(side, short), min(2 * side, short) + 1))
    top, left = int(rng.integers(height - cut + 1)), int(rng.integers(width - cut + 1))
    square = Image.fromarray(picture[top : top + cut, left : left + cut])
    resized = _resize(square, (side, side), exact)
    return resized[:, ::-1] if rng.random() < 0.5 else resized


def _resize(
    image: Image.Image, size: tuple[int, int], exact: bool, reducing_gap: float | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    method = Image.Resampling.NEAREST if exact else Image.Resampling.BILINEAR
    return np.array(image.resize(size, method, reducing_gap=reducing_gap))
