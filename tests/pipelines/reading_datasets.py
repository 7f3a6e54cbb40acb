"""Reads a whole dataset as the job does: listing, units, examples, decoding."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from urls import at_url

from pipelines.examples import Look, decoded, squares
from pipelines.sources.base import Example, Item, Reject, Unit, cut_into_units
from pipelines.sources.dataset import Dataset, DatasetSource
from tokenizer.images import ImageError

MOST_COPIED = 8 << 20  # bytes; the real samples that are larger are read from the disk alone


def source_of(dataset: Dataset, splits: tuple[str, ...] = (), items_per_unit: int = 3) -> DatasetSource:
    """The dataset as a source of small units."""
    return DatasetSource(name="dataset", dataset=dataset, items_per_unit=items_per_unit, splits=splits)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What reading gave: rows to be by key with their pixels (a list of frames for each role), rejects as key: reason.

    A key that is rejected and read (a video whose end is damaged, a doubled key) stands in both.
    """

    items: list[Item]
    note: str
    units: list[Unit]
    examples: Mapping[str, Example]
    pixels: Mapping[str, Mapping[str, Any]]
    rejects: Mapping[str, str]


def read_all(dataset: Dataset, splits: tuple[str, ...] = ()) -> Found:
    """Lists and reads everything; what cannot be decoded is a reject, as in a job.

    A small dataset is read from a copy at a URL, too, and that gives the same.
    """
    found = _read_all(dataset, splits)
    if _can_be_copied(Path(dataset.root)):
        copy = replace(dataset, root=at_url(Path(dataset.root)))  # type: ignore[type-var]
        same(found, _read_all(copy, splits))
    return found


def _can_be_copied(root: Path) -> bool:
    """Whether a bucket could hold the same: files named in text, no links and no empty folders."""
    there = list(root.rglob("*")) if root.is_absolute() else []
    plain = all(str(path).isprintable() and not path.is_symlink() for path in there)
    filled = all(any(path.iterdir()) for path in there if path.is_dir())
    size = sum(path.stat().st_size for path in there if path.is_file())
    return bool(there) and plain and filled and size < MOST_COPIED


def same(one: Found, other: Found) -> None:
    """Compares what two copies of a dataset give."""
    assert [item.key for item in one.items] == [item.key for item in other.items]
    assert one.items == other.items
    assert one.note == other.note
    assert one.rejects == other.rejects
    assert list(one.examples) == list(other.examples)
    for key, example in one.examples.items():
        assert example.source == other.examples[key].source
        assert example.meta == other.examples[key].meta
        for role, frames in one.pixels[key].items():
            assert all(map(np.array_equal, frames, other.pixels[key][role])), (key, role)


def _read_all(dataset: Dataset, splits: tuple[str, ...]) -> Found:
    source = source_of(dataset, splits)
    items, note = source.listing()
    units = [Unit.from_json(unit.to_json()) for unit in cut_into_units(items, 3, 0.0)]  # as they reach a worker
    examples: dict[str, Example] = {}
    pixels: dict[str, Mapping[str, Any]] = {}
    rejects: dict[str, str] = {}
    for one in (one for unit in units for one in source.examples(unit)):
        if isinstance(one, Reject):
            rejects[one.key] = one.reason
            continue
        try:
            pixels[one.key] = decoded(one, tuple(source.roles))
            assert one.key not in examples, f"{one.key} comes twice"
            examples[one.key] = one
        except ImageError as error:
            rejects[one.key] = error.reason
    return Found(items=items, note=note, units=units, examples=examples, pixels=pixels, rejects=rejects)


def not_aligned(dataset: Dataset, example: Example) -> str:
    """Why the job rejects an example whose media decode but do not fit each other; empty when they do."""
    look = Look(dataset="dataset", roles=tuple(dataset.roles), annotate=(), preset="crop", size=16)
    made = squares(example, look, [0])
    return made.reason if isinstance(made, Reject) else ""
