"""What a dataset's inputs were: the units of each generation, kept beside the shards, and what has changed since.

The first run of a job is generation 0. The same command with more input makes a further one, whose units have names of
their own (`train-g1-00000-of-00003`), so that no finished unit is touched. `listing/000.jsonl.gz` holds generation 0,
one unit a line.
"""

import gzip
import hashlib
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manifests import files
from pipelines.resuming.order import DUPLICATE
from pipelines.sources.base import Item, Unit
from visent.errors import UserError

FOLDER = "listing"
NAMED = 5  # items that a message names


@dataclass(frozen=True, kw_only=True)
class Change:
    """How the inputs of a dataset differ from what they were."""

    added: Sequence[Item]
    changed: Sequence[tuple[Item, Item]]  # as it was, as it is
    removed: Sequence[Item]

    def lines(self) -> list[str]:
        """Describes what is not growth, a line for each kind; empty when nothing is."""
        kinds = {"changed": [now for _, now in self.changed], "gone": self.removed}
        return [f"{_counted(items)} {'is' if len(items) == 1 else 'are'} {what}: {_named(items)}"
                for what, items in kinds.items() if items]  # fmt: skip


def _counted(items: Sequence[Item]) -> str:
    return f"{len(items):,} item" + "s" * (len(items) != 1)


def _named(items: Sequence[Item]) -> str:
    names = ", ".join(item.key for item in items[:NAMED])
    return f"{names} and {len(items) - NAMED:,} more" if len(items) > NAMED else names


def file_of(generation: int) -> str:
    """Returns where a generation's units are listed, below the dataset's folder."""
    return f"{FOLDER}/{generation:03d}.jsonl.gz"


def summary(units: Sequence[Unit]) -> dict[str, Any]:
    """Describes a generation: how many items and units of each split, and the sha256 of the list."""
    splits = Counter(unit.split for unit in units)
    return {"items": sum(len(unit.items) for unit in units), "units": dict(splits), "sha256": digest_of(units)}


def digest_of(units: Iterable[Unit]) -> str:
    """Returns the sha256 of the list of units, before it is compressed."""
    digest = hashlib.sha256()
    for line in _lines(units):
        digest.update(line)
    return digest.hexdigest()


def _lines(units: Iterable[Unit]) -> Iterator[bytes]:
    for unit in units:
        yield unit.to_json().encode() + b"\n"


def write_units(folder: str, generation: int, units: Iterable[Unit]) -> None:
    """Writes a generation's list; the same units give the same bytes.

    Raises: `UserError` when the target cannot be written.
    """
    path = files.join(folder, file_of(generation))
    files.make_folder(files.parent(path))
    with (
        files.writing(path) as temporary,
        Path(temporary).open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
    ):
        packed.writelines(_lines(units))


def read_units(folder: str, generation: int, known: Mapping[str, Any]) -> list[Unit]:
    """Reads a generation's list and checks it against its `summary`.

    Raises: `UserError` when it is gone or not the one that was written.
    """
    path = files.join(folder, file_of(generation))
    digest = hashlib.sha256()
    units = []
    try:
        with files.local_copy(path) as local, gzip.open(local) as lines:
            for line in lines:
                digest.update(line)
                units.append(Unit.from_json(line.decode()))
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise _no_list(path, str(error) or type(error).__name__) from error
    if digest.hexdigest() != known["sha256"]:
        raise _no_list(path, "its content is another than what job.json says")
    return units


def _no_list(path: str, problem: str) -> UserError:
    return UserError(f"{path} is not the list of inputs that the job wrote ({problem}): put it back from a copy, or "
                     "tokenize into another --out")  # fmt: skip


def all_units(folder: str, config: Mapping[str, Any]) -> list[Unit]:
    """Reads the units of all generations of a configuration."""
    generations = config["listing"]["generations"]
    return [unit for number, known in enumerate(generations) for unit in read_units(folder, number, known)]


def keys_digest(units: Iterable[Unit]) -> str:
    """Returns the sha256 of which items are in which unit, whatever their files are."""
    digest = hashlib.sha256()
    for unit in units:
        digest.update(json.dumps([unit.id, *(item.key for item in unit.items)]).encode())
    return digest.hexdigest()


def compare(known: Sequence[Item], now: Sequence[Item]) -> Change:
    """Finds what was added to the inputs, what has changed and what is gone.

    Items are the same when all that was listed of them is. An item whose key came with an earlier generation does not
    take it over: it is added as a reject.
    """
    left = Counter(map(_text, known))
    new: list[Item] = []
    for item in now:
        text = _text(item)
        if left[text]:
            left[text] -= 1
        else:
            new.append(item)
    if not new and not any(left.values()):
        return Change(added=(), changed=(), removed=())
    return _paired(list(_unmatched(known, left)), new, {item.key for item in known})


def _unmatched(known: Iterable[Item], left: Counter[str]) -> Iterator[Item]:
    for item in known:
        text = _text(item)
        if left[text]:
            left[text] -= 1
            yield item


def _paired(old: Sequence[Item], new: Sequence[Item], keys: set[str]) -> Change:
    """Pairs items by key: those left over are gone, or added."""
    by_key: dict[str, list[Item]] = defaultdict(list)
    for item in new:
        by_key[item.key].append(item)
    changed, removed = [], []
    for item in old:
        same = by_key[item.key]
        displaced = next((one for one in same if _is_displaced(item, one)), None)
        if displaced is None and same:
            changed.append((item, same[0]))
        elif displaced is None:
            removed.append(item)
        if same:
            same.remove(displaced or same[0])
    left = {id(item) for items in by_key.values() for item in items}
    added = [replace(item, reject=DUPLICATE) if item.key in keys else item for item in new if id(item) in left]
    return Change(added=added, changed=changed, removed=removed)


def _is_displaced(old: Item, now: Item) -> bool:
    """Says whether an item is as it was, but that another one of its key, which is new, is listed before it."""
    return now.reject == DUPLICATE and _text(replace(now, reject=old.reject)) == _text(old)


def _text(item: Item) -> str:
    plain = [item.key, dict(item.files), item.size, item.split, dict(item.data), item.reject]
    return json.dumps(plain, sort_keys=True)
