"""The pictures that a tokenizer is trained and judged on: photos, and renderings of annotations by their share.

A picture's name alone decides whether it is held out: the files of a source are ordered by the hash of their path below
the folder, and the first readable ones are never trained on.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from tokenizer.images import ImageError, prepare
from tokenizer.listing import Reject, by_reason, readable
from tokenizer.training.ahead import ahead
from tokenizer.training.config import TrainConfig
from tokenizer.training.sources import Item, Still, list_items
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
        """Unusable files by reason, of those read so far."""
        return by_reason([reject for pool in self.pools for reject in pool.rejects.values()])

    def crops(self, seed: Sequence[int], count: int, side: int, first: int = 0) -> UInt8[np.ndarray, "n s s 3"]:
        """Returns random crops of random pictures, half of them mirrored; each is a function of (seed, its number)."""
        return np.stack([self._crop((*seed, number), side) for number in range(first, first + count)])

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
        self.rejects: dict[str, Reject] = {}  # by name, since a file may be drawn again
        unopened: list[Reject] = []
        keyed = list_items(
            source.folders,
            frames_per_second=config.frames_per_second,
            frames_per_video=config.frames_per_video,
            rejects=unopened,
        )
        self.rejects.update((str(reject.path), reject) for reject in unopened)
        names = (key if isinstance(item, Still) else key + item.frames.to_bytes(4) for key, item in keyed)
        self.digest = hashlib.sha256(b"".join(names)).digest()
        self.found = len(keyed) + len(unopened)
        self._items = [item for _, item in keyed]
        self._starts = np.cumsum([0] + [item.frames for item in self._items])  # of each item, in pictures
        self.held_out, judges = self._judges(config)
        self._first = int(self._starts[judges])
        self._decoded = self._read(judges, round(config.max_pictures * source.share))
        if not any(picture is not None for pictures in self._decoded.values() for picture in pictures):
            raise UserError(
                f"{self.found} files below {', '.join(map(readable, source.folders))}, {len(self.rejects)} of them "
                f"unusable ({by_reason(list(self.rejects.values()))}) and {len(self.held_out)} held out: none is left "
                "to train on; name a folder of more pictures, or hold out fewer (--holdout)"
            )

    def draw(self, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
        """Returns a random picture that is not held out; draws again where a file is unusable."""
        while True:
            number = int(rng.integers(self._first, int(self._starts[-1])))
            index = int(np.searchsorted(self._starts, number, side="right")) - 1
            frame = number - int(self._starts[index])
            if index in self._decoded:
                picture = self._decoded[index][frame]
            else:
                (picture,) = self._decode(self._items[index], [frame])
            if picture is not None:
                return picture

    def describe(self) -> str:
        """Returns the numbers of pictures, for the card."""
        kind = f"renderings ({self.source.share:.0%} of the crops)" if self.source.exact else "photos"
        frames = int(self._starts[-1]) - self._first
        unusable = f", {len(self.rejects)} unusable" if self.rejects else ""
        return f"{frames} {kind} to train on, {len(self.held_out)} held out, of {self.found} files{unusable}"

    def _judges(self, config: TrainConfig) -> tuple[list[np.ndarray], int]:
        """Returns the held-out squares, the middle frame of each video, and the number of items they are among."""
        squares: list[np.ndarray] = []
        middles = ahead(lambda item: self._decode(item, [item.frames // 2]), self._items)
        done = 0
        for (picture,) in itertools.takewhile(lambda _: len(squares) < config.holdout, middles):
            done += 1
            if picture is not None:
                size, nearest = config.network.image_size, self.source.exact
                squares.append(prepare(picture, config.preset, size, nearest=nearest))
        return squares, done

    def _read(self, first: int, at_most: int) -> dict[int, list[np.ndarray | None]]:
        """Decodes the first items to train on, up to a number of pictures."""
        end = max(int(np.searchsorted(self._starts, self._first + at_most, side="right")) - 1, first + 1)
        items = self._items[first:end]
        decoded: dict[int, list[np.ndarray | None]] = {}
        with track(f"reading {'renderings' if self.source.exact else 'photos'}", len(items), "files") as progress:
            for pictures in ahead(lambda item: self._decode(item, range(item.frames)), items):
                decoded[first + len(decoded)] = pictures
                progress.advance()
        return decoded

    def _decode(self, item: Item, frames: Sequence[int]) -> list[np.ndarray | None]:
        """Returns frames of an item, reduced; None where there is none."""
        try:
            pictures = item.decode(frames)
        except (ImageError, OSError) as error:
            reason = error.reason if isinstance(error, ImageError) else "unreadable"
            self.rejects[item.name] = Reject(item.path, reason, str(error))
            return [None] * len(frames)
        exact = self.source.exact
        return [None if picture is None else reduce(picture, self.short, exact=exact) for picture in pictures]


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
