"""What the codes of a dataset look like: how much of the codebook each role uses, and pictures without content."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int64, UInt16

from manifests import files
from manifests.dataset import DatasetFacts
from manifests.schema import Row, Schema
from tokenizer.card import PRETRAINED, TokenizerCard
from visent.errors import UserError

IMAGES_AT_ONCE = 4096  # 2 MiB of codes for 256 tokens an image
SHARE_OF_BLACK = 0.95  # of a picture's codes that are those of black; versions of jax differ in one of a thousand
NAMED = 3  # keys that stand for all of their kind


@dataclass(kw_only=True)
class RoleContents:
    """Counts over all images of one role, clips frame by frame."""

    counts: Int64[np.ndarray, "codes"]  # how often each code occurs
    images: int = 0
    uniform: int = 0  # one code but for the border: one colour from edge to edge, or nearly
    black: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)  # kind -> a few keys

    @property
    def codes(self) -> int:
        """How many codes of the codebook occur."""
        return int(np.count_nonzero(self.counts))

    @property
    def perplexity(self) -> float:
        """How many equally likely codes would be as hard to guess: e to the power of the entropy."""
        share = self.counts[self.counts > 0] / max(self.counts.sum(), 1)
        return float(np.exp(-(share * np.log(share)).sum()))

    def to_json(self) -> dict[str, object]:
        """Returns plain JSON values."""
        return {"images": self.images, "codes": self.codes, "of": len(self.counts), "perplexity": self.perplexity,
                "uniform": self.uniform, "black": self.black, "keys": self.examples}  # fmt: skip


class Contents:
    """Collects the contents of all roles; rows wait until there are enough for one step of numpy."""

    def __init__(self, schema: Schema, black: UInt16[np.ndarray, "t"] | None) -> None:
        self._black, self._grid = black, schema.card.grid
        size = schema.card.codebook_size
        self.roles = {role: RoleContents(counts=np.zeros(size, np.int64)) for role in schema.roles}
        self._waiting: dict[str, list[tuple[str, UInt16[np.ndarray, "_ t"]]]] = {role: [] for role in schema.roles}
        self._images = 0

    def add(self, row: Row) -> None:
        """Adds one row, which must fit the schema."""
        for role, codes in row.codes.items():
            images = np.atleast_2d(codes)
            self._waiting[role].append((row.key, images))
            self._images += len(images)
        if self._images >= IMAGES_AT_ONCE:
            self._count()

    def finish(self) -> Mapping[str, RoleContents]:
        """Returns the contents of each role."""
        self._count()
        return self.roles

    def _count(self) -> None:
        for role, waiting in self._waiting.items():
            if waiting:
                _count(self.roles[role], waiting, self._grid, self._black)
                waiting.clear()
        self._images = 0


def _count(
    role: RoleContents,
    waiting: list[tuple[str, UInt16[np.ndarray, "_ t"]]],
    grid: int,
    black: UInt16[np.ndarray, "t"] | None,
) -> None:
    images = np.concatenate([codes for _, codes in waiting])
    keys = np.repeat(np.arange(len(waiting)), [len(codes) for _, codes in waiting])
    role.images += len(images)
    role.counts += np.bincount(images.reshape(-1), minlength=len(role.counts))
    dark = np.zeros(len(images), bool) if black is None else (images == black).mean(axis=1) >= SHARE_OF_BLACK
    flat = uniform_images(images, grid) & ~dark
    role.black += int(dark.sum())
    role.uniform += int(flat.sum())
    for kind, found in (("black", dark), ("uniform", flat)):
        names = role.examples.setdefault(kind, []) if found.any() else []
        for number in keys[found].tolist():
            if len(names) >= NAMED:
                break
            if waiting[number][0] not in names:
                names.append(waiting[number][0])


def uniform_images(images: UInt16[np.ndarray, "n t"], grid: int) -> Bool[np.ndarray, "n"]:
    """Tells which images are one code but for a border of an eighth of the grid, where networks see their padding."""
    border = grid // 8
    inner = images.reshape(-1, grid, grid)[:, border : grid - border, border : grid - border].reshape(len(images), -1)
    return np.asarray((inner == inner[:, :1]).all(axis=1))


def black_codes(facts: DatasetFacts, given: str | None) -> UInt16[np.ndarray, "t"] | str:
    """Returns the codes of a black picture by the tokenizer of a dataset, or why they cannot be had.

    Only a tokenizer that is `given`, or whose files are at hand, is loaded.

    Raises:
        UserError: the given tokenizer is another one.
    """
    card, name = facts.schema.card, given or str(facts.config.get("tokenizer", facts.schema.card.name))
    if given is not None:
        return _encode_black(name, card)
    if not ((PRETRAINED / name).is_dir() or files.exists(name)):
        return f"its tokenizer {name} is not at hand, name it with --tokenizer"
    try:
        return _encode_black(name, card)
    except UserError as error:
        return str(error)


def _encode_black(name: str, card: TokenizerCard) -> UInt16[np.ndarray, "t"]:
    from tokenizer.load import load, load_card

    found = load_card(name, preset=card.preset, precision=card.precision)
    if found.fingerprint != card.fingerprint:
        raise UserError(
            f"tokenizer {name} is {found.name} ({found.fingerprint}), the codes are of {card.name} "
            f"({card.fingerprint}): name theirs with --tokenizer"
        )
    coder = load(name, preset=card.preset, precision=card.precision)
    black = np.zeros((1, card.image_size, card.image_size, 3), np.uint8)
    return np.asarray(coder.encode(black)[0])
