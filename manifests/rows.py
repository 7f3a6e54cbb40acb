"""Random access to the rows of one dataset, over its shards."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int64, Shaped, UInt16

from manifests import files
from manifests.columns import Column, ColumnCache, as_records
from manifests.schema import Schema
from manifests.shards import ShardInfo
from visent.progress import track

FEW = 8  # images of a shard up to which picking them one by one is faster than indexing
KEYS_KEPT = 400  # shards of a dataset whose keys stay in memory


class DatasetReader:
    """Random access to the rows of one split of one dataset, in all their views."""

    def __init__(self, folder: str, schema: Schema, found: Sequence[ShardInfo], views: int, cache: ColumnCache) -> None:
        self._folder, self._schema, self._shards, self._cache = folder, schema, list(found), cache
        firsts = [info for info in found if info.first_view == 0]
        unit_of = {info.unit: i for i, info in enumerate(firsts)}
        sizes = np.array([info.examples for info in firsts], np.int64)
        self._ends = np.cumsum(sizes)
        self._sizes = sizes
        self._shard_of = np.full((len(firsts), views), -1, np.int64)  # unit, view -> shard
        self._first_row = np.zeros((len(firsts), views), np.int64)  # unit, view -> where the view begins in it
        for number, info in enumerate(found):
            for view in range(info.first_view, min(info.last_view + 1, views)):
                self._shard_of[unit_of[info.unit], view] = number
                self._first_row[unit_of[info.unit], view] = (view - info.first_view) * info.examples
        self._keys_read: dict[int, Shaped[np.ndarray, n]] = {}
        self._eligible_sizes: dict[int, Int64[np.ndarray, units]] = {0: sizes}
        self._rows_kept: dict[tuple[int, int], Int64[np.ndarray, n]] = {}

    @property
    def tokens_per_image(self) -> int:
        """Codes of one image."""
        return self._schema.tokens_per_image

    @property
    def units(self) -> int:
        """Units that the split is made of; each has a shard for its originals."""
        return len(self._sizes)

    @property
    def examples(self) -> int:
        """Examples of the split."""
        return int(self._sizes.sum())

    def eligible_sizes(self, frames: int) -> Int64[np.ndarray, "units"]:
        """Returns how many examples of each unit have at least so many frames (all, for 0), from the facts alone."""
        if frames not in self._eligible_sizes:
            short = [sum(rows for length, rows in self._shards[shard].frames.items() if length < frames)
                     for shard in self._shard_of[:, 0].tolist()]  # fmt: skip
            self._eligible_sizes[frames] = self._sizes - np.array(short, np.int64)
        return self._eligible_sizes[frames]

    def locate(
        self, examples: Int64[np.ndarray, "*n"], views: Int64[np.ndarray, "*n"], frames: int = 0
    ) -> tuple[Int64[np.ndarray, "*n"], Int64[np.ndarray, "*n"]]:
        """Returns the shard of each (example, view), and the row in it.

        Examples are numbered among those with at least so many `frames`.
        """
        sizes = self.eligible_sizes(frames)
        ends = np.cumsum(sizes)
        unit = np.searchsorted(ends, examples, side="right")
        row = examples - (ends[unit] - sizes[unit])
        for number in np.unique(unit[sizes[unit] < self._sizes[unit]]).tolist():
            here = unit == number
            row[here] = self._eligible_rows(number, frames)[row[here]]
        return self._shard_of[unit, views], self._first_row[unit, views] + row

    def number_of(self, example: int, frames: int) -> int | None:
        """Returns the number of an example among those with so many frames, or None where it has fewer."""
        unit = int(np.searchsorted(self._ends, example, side="right"))
        row = example - int(self._ends[unit] - self._sizes[unit])
        sizes = self.eligible_sizes(frames)
        before = int(sizes[:unit].sum())
        if sizes[unit] == self._sizes[unit]:
            return before + row
        rows = self._eligible_rows(unit, frames)
        place = int(np.searchsorted(rows, row))
        return before + place if place < len(rows) and rows[place] == row else None

    def _eligible_rows(self, unit: int, frames: int) -> Int64[np.ndarray, "n"]:
        if (unit, frames) not in self._rows_kept:
            row = np.arange(self._sizes[unit], dtype=np.int64)
            shard = np.full_like(row, self._shard_of[unit, 0])
            self._rows_kept[unit, frames] = np.flatnonzero(self.lengths(self._schema.clips[0], shard, row) >= frames)
        return self._rows_kept[unit, frames]

    def column(self, shard: int, role: str) -> Column:
        """Returns one role of one shard, checked and mapped on first use."""
        info = self._shards[shard]
        found = self._cache.opened(info, role)
        if found is None:
            found = self._cache.column(files.join(self._folder, info.file), info, self._schema, role)
        return found

    def unopened(self, role: str, shards: Int64[np.ndarray, "n"]) -> list[int]:
        """Returns those of the shards whose column of a role is not open."""
        return [shard for shard in shards.tolist() if self._cache.opened(self._shards[shard], role) is None]

    def lengths(
        self, role: str, shard: Int64[np.ndarray, "*n"], row: Int64[np.ndarray, "*n"]
    ) -> Int64[np.ndarray, "*n"]:
        """Returns the number of frames of a clip role in each of the rows; a shard of one length is not opened."""
        result = np.zeros(shard.size, np.int64)
        rows = row.reshape(-1)
        for number, here in _by_shard(shard.reshape(-1)):
            if len(self._shards[number].frames) == 1:
                result[here] = next(iter(self._shards[number].frames))
                continue
            offsets = self.column(number, role).offsets
            assert offsets is not None
            result[here] = offsets[rows[here] + 1] - offsets[rows[here]]
        return result.reshape(shard.shape)

    def gather(
        self,
        role: str,
        shard: Int64[np.ndarray, "n"],
        row: Int64[np.ndarray, "n"],
        frame: Int64[np.ndarray, "n"],
    ) -> UInt16[np.ndarray, "n t"]:
        """Returns one image of each of the rows; `frame` is ignored for a still role."""
        result = np.empty((len(shard), self._schema.tokens_per_image), np.uint16)
        self.gather_into(result, np.arange(len(shard)), role, shard, row, frame)
        return result

    def gather_into(
        self,
        images: UInt16[np.ndarray, "m t"],
        places: Int64[np.ndarray, "n"],
        role: str,
        shard: Int64[np.ndarray, "n"],
        row: Int64[np.ndarray, "n"],
        frame: Int64[np.ndarray, "n"],
    ) -> None:
        """Writes what `gather` returns to places of `images`: no copy between the memory map and the batch."""
        at, groups = _groups(shard)
        which, to = row[at], places[at]
        rows, near, infos = which.tolist(), self._cache.near.setdefault((self, role), {}), self._shards
        few = np.ones(len(at), np.bool_)
        picked: list[np.void] = []
        for number, start, end in groups:
            column = near.get(number)
            if column is None:
                column = near[number] = self._cache.opened(infos[number], role) or self.column(number, role)
            if end - start <= FEW and column.offsets is None:
                records = column.records
                picked += [records[i] for i in rows[start:end]]
                continue
            few[start:end] = False
            image = which[start:end]
            if column.offsets is not None:
                image = column.offsets[image] + frame[at[start:end]]
            images[to[start:end]] = column.images[image]
        if picked:
            as_records(images)[to[few]] = picked

    def keys(self, shard: Int64[np.ndarray, "n"], row: Int64[np.ndarray, "n"]) -> list[str]:
        """Returns the key of each of the rows."""
        result = np.empty(len(shard), object)
        for number, here in _by_shard(shard):
            result[here] = self._keys(number)[row[here] % self._shards[number].examples]
        return [key.decode() for key in result]

    def all_keys(self) -> Iterator[tuple[int, Shaped[np.ndarray, "n"]]]:
        """Yields the keys of all examples as UTF-8, shard by shard, with the number of the first."""
        for unit, number in enumerate(self._shard_of[:, 0].tolist()):
            yield int(self._ends[unit] - self._sizes[unit]), self._keys(number)

    def classes(self, by: str) -> Int64[np.ndarray, "n"]:
        """Returns the class of each example, from 0; reads the meta of all originals, once for each cache.

        Raises:
            UserError: a row has none, or a shard is missing or changed.
        """
        found = [np.empty(0, np.int64)]
        with track(f"reading {by} of each row", len(self._sizes), "shards") as progress:
            for number in self._shard_of[:, 0].tolist():
                path = files.join(self._folder, self._shards[number].file)
                found.append(self._cache.classes(path, self._shards[number], self._schema, by))
                progress.advance()
        return np.unique(np.concatenate(found), return_inverse=True)[1].astype(np.int64)

    def find(self, key: str) -> int | None:
        """Returns the number of the example with a key, or None where there is none; reads keys until it is found."""
        wanted = key.encode()
        with track(f"looking for {key}", len(self._sizes), "shards") as progress:
            for start, keys in self.all_keys():
                progress.advance()
                at = np.flatnonzero(keys == wanted)
                if len(at):
                    return start + int(at[0])
        return None

    def file(self, shard: int) -> str:
        """Returns the name of a shard."""
        return self._shards[shard].file

    def _keys(self, shard: int) -> Shaped[np.ndarray, "n"]:
        if shard not in self._keys_read:
            if len(self._keys_read) >= KEYS_KEPT:
                self._keys_read.pop(next(iter(self._keys_read)))
            path = files.join(self._folder, self._shards[shard].file)
            self._keys_read[shard] = self._cache.keys(path, self._shards[shard], self._schema)
        return self._keys_read[shard]


def _by_shard(shard: Int64[np.ndarray, "n"]) -> Iterator[tuple[int, Int64[np.ndarray, "m"]]]:
    """Yields each shard that occurs, and where."""
    at, groups = _groups(shard)
    for number, start, end in groups:
        yield number, at[start:end]


def _groups(shard: Int64[np.ndarray, "n"]) -> tuple[Int64[np.ndarray, "n"], list[tuple[int, int, int]]]:
    """Returns the places in the order of their shards, and of each shard where its places begin and end there."""
    at = np.argsort(shard, kind="stable")
    ordered = shard[at]
    bounds = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist(), len(shard)] if len(shard) else []
    return at, list(zip(ordered[bounds[:-1]].tolist(), bounds, bounds[1:], strict=False))
