"""What every source gives: units of listed items, and the examples inside a unit."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from manifests.legend import Legend
from tokenizer.images import decode_image
from visent.errors import UserError

JSON = Any  # a value that json.dumps accepts


@dataclass(frozen=True, kw_only=True)
class Item:
    """One listed thing: a picture, a pair of pictures, a video or a tar.

    `key` is stable text. `files` maps a role (or "video", "tar", "annotations") to a path below the source's root; a
    missing half of a pair is absent. `size` is in bytes where the listing compares it, else 0. `split` is the
    publisher's ("train", "val", "test"), or "" where a hash of the key decides. `data` is what the listing knows and
    reading needs (a class, times), in JSON values. `reject` is the reason, a stable word, why it can give no row.
    """

    key: str
    files: Mapping[str, str]
    size: int = 0
    split: str = ""
    data: Mapping[str, JSON] = field(default_factory=dict)
    reject: str = ""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The work that becomes one shard. `id` is the shard's name without ending: `train-00000-of-00037`."""

    id: str
    split: str
    items: tuple[Item, ...]

    def to_json(self) -> str:
        """Writes pure ASCII, so that a file name which is not UTF-8 survives every coder on the way to a worker."""
        return json.dumps({"id": self.id, "split": self.split, "items": [asdict(item) for item in self.items]})

    @classmethod
    def from_json(cls, text: str) -> "Unit":
        """Reads what `to_json` wrote."""
        fields = json.loads(text)
        return cls(id=fields["id"], split=fields["split"], items=tuple(Item(**item) for item in fields["items"]))


Pixels = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A picture that is still bytes; `decode` runs in the worker's threads.

    `exact` pictures are annotations whose colours mean something: they are scaled by nearest neighbour.
    """

    data: bytes
    decode: Callable[[bytes], Pixels] = decode_image  # raises ImageError
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """An annotation that is drawn in the worker's threads, at the (height, width) of the first role's picture."""

    draw: Callable[[tuple[int, int]], Pixels]  # raises ImageError
    exact: bool = True
    bytes_held: int = 0  # by what `draw` draws from


Still = Encoded | Drawn | Pixels
Media = Still | Sequence[Still]  # a sequence is a clip


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row to be: media by role. `source` is the file it came from, `meta` goes into the row as it is."""

    key: str
    source: str
    media: Mapping[str, Any]  # role -> Media; `Any`, as a run-time check of each frame costs more than decoding
    meta: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reject:
    """Something listed that gave no row: at which stage ("list", "read", "decode", "align") and why (a stable word)."""

    key: str
    source: str
    stage: str
    reason: str
    detail: str = ""

    def to_json(self) -> dict[str, str]:
        """Returns the fields as they stand in a rejects file."""
        return asdict(self)


@runtime_checkable
class Source(Protocol):
    """A layout on disk. A source is small and picklable: it travels to the workers, the pixels do not."""

    @property
    def name(self) -> str:
        """The source's name, as in `visent tokenize NAME`."""
        ...

    @property
    def items_per_unit(self) -> int:
        """Items in one unit, so in one shard."""
        ...

    @property
    def roots(self) -> Mapping[str, str]:
        """Absolute folders that the items' files lie in."""
        ...

    @property
    def roles(self) -> Mapping[str, Literal["still", "clip"]]:
        """The columns of a row, the input first."""
        ...

    @property
    def options(self) -> Mapping[str, JSON]:
        """What decides the rows besides the files, in JSON values."""
        ...

    @property
    def legends(self) -> Mapping[str, Legend]:
        """The colours of those roles that are maps of classes."""
        ...

    def listing(self) -> tuple[list[Item], str]:
        """Lists everything, sorted by key (the same files give the same list), and notes what was left out."""
        ...

    def by_item(self, unit: Unit) -> Iterator[Iterable[Example | Reject]]:
        """Reads a unit in its order, the results of each item together; small files of a bucket several at once.

        Whatever cannot be read comes as a `Reject`, never as an exception.
        """
        ...

    def examples(self, unit: Unit) -> Iterator[Example | Reject]:
        """Reads a unit in its order: the results of all items, one after the other."""
        ...

    def estimate(self, items: Sequence[Item]) -> int | None:
        """Guesses how many pictures (stills or frames of one role) the items hold, for the ETA only."""
        ...


def held_out(key: str, fraction: float) -> bool:
    """Says whether `key` belongs to split "val": a pure function of the key, so that no other item can change it."""
    return int.from_bytes(hashlib.sha256(f"holdout\0{key}".encode()).digest()[:8]) < fraction * 2**64


SPLITS = ("train", "val", "test")


def cut_into_units(items: Iterable[Item], items_per_unit: int, holdout: float, generation: int = 0) -> list[Unit]:
    """Deals items, in their order, to units of their split; of "train", a part by hash of the key goes to "val".

    What is added to a dataset later is a `generation` of its own, which the units' names say.

    Raises: `UserError` when a holdout would leave nothing to train on.
    """
    splits: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for item in items:
        split = item.split or "train"
        splits["val" if split == "train" and held_out(item.key, holdout) else split].append(item)
    if holdout and splits["val"] and not splits["train"] and not generation:
        raise UserError(
            f"--holdout {holdout} puts all {len(splits['val'])} items into split val; give --holdout 0 for so few"
        )
    return [unit for split, members in splits.items() for unit in _slices(split, members, items_per_unit, generation)]


def _slices(split: str, items: Sequence[Item], items_per_unit: int, generation: int) -> Iterator[Unit]:
    names = unit_names(split, -(-len(items) // items_per_unit), generation)
    for i, name in enumerate(names):
        members = tuple(items[i * items_per_unit : (i + 1) * items_per_unit])
        yield Unit(id=name, split=split, items=members)


def unit_names(split: str, count: int, generation: int = 0) -> list[str]:
    """Returns the names of a split's units; those of a later generation say so.

    >>> unit_names("train", 2, generation=1)
    ['train-g1-00000-of-00002', 'train-g1-00001-of-00002']
    """
    prefix = f"{split}-g{generation}" if generation else split
    return [f"{prefix}-{i:05d}-of-{count:05d}" for i in range(count)]
