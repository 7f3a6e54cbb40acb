"""What every source gives: units of listed items, and the examples inside a unit."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from visent.errors import UserError

MediaKind = Literal["image", "depth", "labels"]
JSON = Any  # a value that json.dumps accepts


@dataclass(frozen=True, kw_only=True)
class Item:
    """One listed thing: a picture, a pair of pictures, a video or a tar.

    `key` is stable text. `files` maps a role (or "video", "tar") to a path below that role's root; a missing half of a
    pair is absent. `size` is in bytes where the listing compares it, else 0.
    """

    key: str
    files: Mapping[str, str]
    size: int = 0


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


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A picture that is still bytes; `kind` says how to read it: a photo, a depth map or a map of class ids.

    `depth_is` says whether larger values of a depth map are nearer ("disparity") or farther ("distance").
    """

    data: bytes
    kind: MediaKind = "image"
    depth_is: Literal["disparity", "distance"] = "disparity"


Pixels = UInt8[np.ndarray, "h w 3"]
Media = Encoded | Pixels | Sequence[Pixels]  # a sequence is a clip


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row to be: media by role. `source` is the file it came from, `meta` goes into the row as it is."""

    key: str
    source: str
    media: Mapping[
        str, Any
    ]  # role -> Media; `Any`, because a run-time check of every frame would cost more than decoding
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

    def listing(self) -> tuple[list[Item], str]:
        """Lists everything, sorted by key (the same files give the same list), and notes what was left out."""
        ...

    def examples(self, unit: Unit) -> Iterator[Example | Reject]:
        """Reads a unit in its order; whatever cannot be read comes as a `Reject`, never as an exception."""
        ...

    def estimate(self, items: Sequence[Item]) -> int | None:
        """Guesses how many pictures (stills or frames of one role) the items hold, for the ETA only."""
        ...


def held_out(key: str, fraction: float) -> bool:
    """Says whether `key` belongs to split "val": a pure function of the key, so that no other item can change it."""
    return int.from_bytes(hashlib.sha256(f"holdout\0{key}".encode()).digest()[:8]) < fraction * 2**64


def cut_into_units(items: Iterable[Item], items_per_unit: int, holdout: float) -> list[Unit]:
    """Deals items, in their order, to units of split "train" and, by hash of the key, of split "val".

    Raises: `UserError` when nothing would be left to train on.
    """
    splits: dict[str, list[Item]] = {"train": [], "val": []}
    for item in items:
        splits["val" if held_out(item.key, holdout) else "train"].append(item)
    if splits["val"] and not splits["train"]:
        raise UserError(
            f"--holdout {holdout} puts all {len(splits['val'])} items into split val; give --holdout 0 for so few"
        )
    return [unit for split, members in splits.items() for unit in _slices(split, members, items_per_unit)]


def _slices(split: str, items: Sequence[Item], items_per_unit: int) -> Iterator[Unit]:
    count = -(-len(items) // items_per_unit)
    for i in range(count):
        members = tuple(items[i * items_per_unit : (i + 1) * items_per_unit])
        yield Unit(id=f"{split}-{i:05d}-of-{count:05d}", split=split, items=members)


def listing_digest(units: Iterable[Unit]) -> str:
    """Returns the sha256 over all items in the order of their keys: the same digest means the same files."""
    digest = hashlib.sha256()
    for item in sorted((item for unit in units for item in unit.items), key=lambda item: item.key):
        digest.update(json.dumps(asdict(item)).encode())
    return digest.hexdigest()
