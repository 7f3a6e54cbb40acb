"""Two corpora compared: which keys each has, where their codes differ, and what was rejected.

Keys are compared as 8 bytes of hash, so about 100 bytes for each key of one pair of datasets are in memory, and
nothing else that grows with them. Codes are compared through the reader's memory-mapped columns; a row at the same
place of shards with equal sha256 is taken as equal without reading it (`visent verify` tells whether that is true).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

from manifests import files
from manifests.columns import ColumnCache
from manifests.dataset import DatasetFacts, has_facts, load_facts
from manifests.rows import DatasetReader
from manifests.shards import ShardInfo, rejects_name
from visent.errors import UserError
from visent.progress import track
from visent.untrusted.documents import parse_json

IMAGES_AT_ONCE = 4096


@dataclass(kw_only=True)
class RoleDifference:
    """What differs in one role, over the rows that both datasets have."""

    images: int = 0
    images_differ: int = 0
    tokens: int = 0
    tokens_differ: int = 0
    other_length: int = 0  # clips with another number of frames; not compared further

    @property
    def fraction(self) -> float:
        """Part of the tokens that differ."""
        return self.tokens_differ / self.tokens if self.tokens else 0.0


@dataclass(kw_only=True)
class DatasetDifference:
    """What differs between two datasets; pairs are (A, B)."""

    name: str
    tokenizers: tuple[str, str]
    kinds: tuple[dict[str, str], dict[str, str]]  # role -> still or clip
    views: tuple[int, int]
    examples: tuple[int, int]
    both: int = 0  # keys
    only: tuple[int, int] = (0, 0)
    only_keys: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))
    rejected_by_other: tuple[dict[str, int], dict[str, int]] = field(default_factory=lambda: ({}, {}))
    other_split: int = 0  # keys in another split
    roles: dict[str, RoleDifference] = field(default_factory=dict)
    rejects: dict[str, tuple[int, int]] = field(default_factory=dict)  # reason -> examples

    @property
    def same(self) -> bool:
        """Whether both give the same rows: keys, splits, views, codes, roles, tokenizer, and the same rejects."""
        pairs = [self.tokenizers, self.kinds, self.views, self.only, *self.rejects.values()]
        differ = any(role.images_differ or role.other_length for role in self.roles.values())
        return not differ and self.only == (0, 0) and not self.other_split and all(a == b for a, b in pairs)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        roles = {name: asdict(role) | {"fraction": role.fraction} for name, role in self.roles.items()}
        return asdict(self) | {"roles": roles, "same": self.same}


def pairs_of(a: str, b: str) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """Returns the pairs of dataset folders to compare, and the names of datasets that only one side has.

    A folder is a dataset, or holds datasets; these are matched by the names of their folders.

    Raises:
        UserError: a folder is neither.
    """
    if has_facts(a) and has_facts(b):
        return [(a, b)], [], []
    found = [_datasets(folder) for folder in (a, b)]
    both = sorted(found[0] & found[1])
    return (
        [(files.join(a, n), files.join(b, n)) for n in both],
        sorted(found[0] - set(both)),
        sorted(found[1] - set(both)),
    )


def _datasets(folder: str) -> set[str]:
    names = {name for name in files.list_names(folder) if has_facts(files.join(folder, name))}
    if not names:
        kind = "a dataset, and is compared with a folder of datasets" if has_facts(folder) else "no corpus"
        raise UserError(f"{folder} is {kind}: expected two folders with dataset.json, or two folders of such folders")
    return names


def compare_datasets(a: str, b: str, *, named: int = 5, cache_dir: Path | None = None) -> DatasetDifference:
    """Compares two datasets; `named` keys of each kind are given.

    Raises:
        UserError: one is no finished dataset, or a shard is missing or damaged.
    """
    sides = _Side(a, cache_dir), _Side(b, cache_dir)
    first, second = sides[0].facts, sides[1].facts
    result = DatasetDifference(
        name=first.name,
        tokenizers=(_named(first), _named(second)), kinds=(dict(first.schema.roles), dict(second.schema.roles)),
        views=(first.views(), second.views()), examples=(len(sides[0].hashes), len(sides[1].hashes)),
    )  # fmt: skip
    rejects = first.rejects, second.rejects
    result.rejects = {r: (rejects[0].get(r, 0), rejects[1].get(r, 0)) for r in sorted({*rejects[0], *rejects[1]})}
    both, at_a, at_b = np.intersect1d(sides[0].hashes, sides[1].hashes, return_indices=True)
    left = [np.setdiff1d(np.arange(len(s.hashes)), at) for s, at in zip(sides, (at_a, at_b), strict=True)]
    result.both, result.only = len(both), (len(left[0]), len(left[1]))
    result.only_keys = sides[0].keys(left[0][:named]), sides[1].keys(left[1][:named])
    result.rejected_by_other = sides[1].rejected(sides[0].hashes[left[0]]), sides[0].rejected(sides[1].hashes[left[1]])
    splits = sides[0].split[at_a], sides[1].split[at_b]
    names = np.array(first.splits or ("",)), np.array(second.splits or ("",))
    result.other_split = int((names[0][splits[0]] != names[1][splits[1]]).sum())
    if len(both) and first.schema.tokens_per_image == second.schema.tokens_per_image:
        _compare_codes(result, sides, at_a, at_b)
    return result


def _named(facts: DatasetFacts) -> str:
    return f"{facts.schema.card.name} ({facts.schema.card.fingerprint})"


class _Side:
    """One of the two datasets: its readers by split, and the hash and place of each key."""

    def __init__(self, folder: str, cache_dir: Path | None) -> None:
        self.folder, self.facts = folder, load_facts(folder)
        self.shards = {split: _read(self.facts, split) for split in self.facts.splits}
        cache = ColumnCache(cache_dir)
        self.readers = [
            DatasetReader(folder, self.facts.schema, shards, self.views(split), cache)
            for split, shards in self.shards.items()
        ]
        hashes, split, number = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        total = sum(shard.first_view == 0 for shard in self.facts.shards)
        with track(f"keys of {self.facts.name}", total, "shards") as progress:
            for s, reader in enumerate(self.readers):
                for start, keys in reader.all_keys():
                    hashes.append(_hashes(keys.tolist()))
                    split.append(np.full(len(keys), s, np.int64))
                    number.append(np.arange(start, start + len(keys), dtype=np.int64))
                    progress.advance()
        self.hashes, first = np.unique(np.concatenate(hashes), return_index=True)
        self.split, self.number = np.concatenate(split)[first], np.concatenate(number)[first]

    def views(self, split: str) -> int:
        """Returns the views that every example of a split has and that are read."""
        return self.facts.views(split) if split == "train" else 1

    def keys(self, at: Int64[np.ndarray, "n"]) -> list[str]:
        """Returns the keys of a few examples, by their place in the order of hashes."""
        found = []
        for place in at.tolist():
            reader = self.readers[self.split[place]]
            shard, row = reader.locate(self.number[place : place + 1], np.zeros(1, np.int64))
            found += reader.keys(shard, row)
        return found

    def rejected(self, hashes: UInt64[np.ndarray, "n"]) -> dict[str, int]:
        """Returns how many of these keys this dataset rejected, by reason."""
        wanted, found = set(hashes.tolist()) if self.facts.rejects and len(hashes) else set(), dict[str, int]()
        for shard in self.facts.shards if wanted else ():
            path = files.join(self.folder, rejects_name(shard.file))
            if shard.first_view == 0 and shard.rejects and files.exists(path):
                for line in files.read_bytes(path).splitlines():
                    reject = parse_json(line)
                    if int(_hashes([str(reject["key"]).encode()])[0]) in wanted:
                        found[reject["reason"]] = found.get(reject["reason"], 0) + 1
        return dict(sorted(found.items()))


def _read(facts: DatasetFacts, split: str) -> list[ShardInfo]:
    return [s for s in facts.shards if s.split == split and (split == "train" or s.first_view == 0)]


def _hashes(keys: Sequence[bytes]) -> UInt64[np.ndarray, "n"]:
    return np.frombuffer(b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in keys), np.uint64)


def _compare_codes(
    result: DatasetDifference, sides: tuple[_Side, _Side], at_a: Int64[np.ndarray, "n"], at_b: Int64[np.ndarray, "n"]
) -> None:
    kinds = result.kinds
    result.roles = {role: RoleDifference() for role, kind in kinds[0].items() if kinds[1].get(role) == kind}
    with track(f"codes of {result.name}", len(at_a), "keys") as progress:
        for place in _in_order(sides, at_a, at_b):
            a, b = at_a[place], at_b[place]
            s, t = int(sides[0].split[a[0]]), int(sides[1].split[b[0]])
            both = _Both(sides, s, t, result.roles)
            names = [side.facts.splits[split] for side, split in zip(sides, (s, t), strict=True)]
            for view in range(min(side.views(name) for side, name in zip(sides, names, strict=True))):
                both.compare(sides[0].number[a], sides[1].number[b], view)
            progress.advance(len(place))


def _in_order(
    sides: tuple[_Side, _Side], at_a: Int64[np.ndarray, "n"], at_b: Int64[np.ndarray, "n"]
) -> Iterator[Int64[np.ndarray, "m"]]:
    """Yields places of common keys in the order of A's rows, each time of one split of A and one of B."""
    ordered = np.lexsort((sides[0].number[at_a], sides[1].split[at_b], sides[0].split[at_a]))
    change = np.diff(sides[0].split[at_a][ordered]) | np.diff(sides[1].split[at_b][ordered])
    for group in np.split(ordered, np.flatnonzero(change) + 1):
        for start in range(0, len(group), IMAGES_AT_ONCE):
            yield group[start : start + IMAGES_AT_ONCE]


class _Both:
    """A split of A beside a split of B."""

    def __init__(self, sides: tuple[_Side, _Side], s: int, t: int, roles: Mapping[str, RoleDifference]) -> None:
        self._readers, self._roles = (sides[0].readers[s], sides[1].readers[t]), roles
        self._kinds = sides[0].facts.schema.roles
        known: dict[str, int] = {}
        self._sha = [
            np.array([known.setdefault(shard.sha256, len(known)) for shard in side.shards[side.facts.splits[split]]])
            for side, split in zip(sides, (s, t), strict=True)
        ]

    def compare(self, a: Int64[np.ndarray, "n"], b: Int64[np.ndarray, "n"], view: int) -> None:
        """Compares examples of A with examples of B in one view, all roles."""
        views = np.full_like(a, view)
        at = [reader.locate(numbers, views) for reader, numbers in zip(self._readers, (a, b), strict=True)]
        (shard_a, row_a), (shard_b, row_b) = at
        equal = (self._sha[0][shard_a] == self._sha[1][shard_b]) & (row_a == row_b)
        for role, found in self._roles.items():
            if self._kinds[role] == "still":
                self._images(role, found, at, np.zeros_like(a), equal)
                continue
            lengths = [reader.lengths(role, *place) for reader, place in zip(self._readers, at, strict=True)]
            fits = lengths[0] == lengths[1]
            found.other_length += int((~fits).sum())
            whole = np.repeat(np.flatnonzero(fits), lengths[0][fits])
            frame = np.arange(len(whole)) - np.repeat(np.cumsum(lengths[0][fits]) - lengths[0][fits], lengths[0][fits])
            self._images(role, found, [(shard[whole], row[whole]) for shard, row in at], frame, equal[whole])

    def _images(
        self, role: str, found: RoleDifference, at: list[tuple[np.ndarray, np.ndarray]], frame: np.ndarray,
        equal: np.ndarray,
    ) -> None:  # fmt: skip
        tokens = self._readers[0].tokens_per_image
        found.images += len(frame)
        found.tokens += len(frame) * tokens
        left = np.flatnonzero(~equal)
        for start in range(0, len(left), IMAGES_AT_ONCE):
            here = left[start : start + IMAGES_AT_ONCE]
            a, b = (
                reader.gather(role, shard[here], row[here], frame[here])
                for reader, (shard, row) in zip(self._readers, at, strict=True)
            )
            differ = (a != b).sum(axis=1)
            found.tokens_differ += int(differ.sum())
            found.images_differ += int(np.count_nonzero(differ))
