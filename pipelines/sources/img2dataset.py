"""Tars that img2dataset wrote, with the parquet beside each: what DataComp and LAION are downloaded as.

https://github.com/rom1504/img2dataset: `00000.tar`, `00000.parquet` (a row for each sample, also for those that could
not be fetched), `00000_stats.json`.
"""

import base64
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.files import below, readable
from pipelines.sources.selection import Condition, cell, column_named, conditions, mask
from pipelines.sources.table import named
from pipelines.sources.tars import ending_of, is_whole, key_of, samples
from pipelines.sources.webdataset import Webdataset, cut_reject, json_of, pictures_in, tars_below
from visent.errors import UserError, said, unknown
from visent.untrusted.documents import parse_json

SUCCESS = "success"  # img2dataset's status of a sample that is in the tar
LISTERS = 8  # parquet files read at once

Chosen = Bool[np.ndarray, " n"]  # a value for each row of a tar's table


@dataclass(frozen=True, kw_only=True)
class Img2dataset(Dataset):
    """What the datasets fetched by img2dataset share: the samples to take, and what to keep of what is known of them.

    With a selection the listing reads the table of every tar, so that what is left out is counted before any work.
    """

    root: str
    at_least: tuple[str, ...] = option((), "COLUMN=NUMBER: take samples whose value is no smaller.")
    at_most: tuple[str, ...] = option((), "COLUMN=NUMBER: take samples whose value is no larger.")
    only: tuple[str, ...] = option((), "COLUMN=TEXT: take samples whose value is this.")
    min_size: int = option(0, "Take pictures whose short side has this many pixels or more.")
    key_column: str | None = option(None, "Column that names a row; else its uid, or tar and sample.")
    meta: tuple[str, ...] = option(("member", "caption"), "Columns to keep in meta; NAME=COLUMN renames.")

    items_per_shard: ClassVar[int] = 1
    small_items: ClassVar[bool] = False

    def __post_init__(self) -> None:
        named(self.meta, "--meta")
        if self.min_size < 0:
            raise UserError(f"--min-size is {self.min_size}, expected pixels")
        _ = self.conditions

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """One still picture."""
        return {"image": "still"}

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What the options ask of a sample's columns."""
        return conditions(self.at_least, self.at_most, self.only, self.min_size)

    def chooser(self) -> Callable[[Item], Chosen] | None:
        """Returns what says for each row of an item's table whether it is wanted; None when all are."""
        if not self.conditions:
            return None
        columns = [condition.column for condition in self.conditions]
        return lambda item: mask(self.table(item, columns), self.conditions)

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the tars that hold a wanted sample, with the parquet beside."""
        found = []
        for item, failed in places.at_once(self._with_table, tars_below(self.root), self.root):
            found.append(item)
            left_out["samples that img2dataset could not fetch"] += failed
        self._check_columns(found)
        choose = self.chooser()
        if choose is None:
            yield from found
            return
        with ThreadPoolExecutor(LISTERS) as pool:
            for item, wanted in zip(found, pool.map(choose, found), strict=True):
                left_out["samples outside of the selection"] += int(np.count_nonzero(~wanted))
                if wanted.any() or ("table" not in item.files and not is_whole(below(self.root, item.files["tar"]))):
                    yield replace(item, data={"chosen": _packed(wanted)})

    def _check_columns(self, items: Sequence[Item]) -> None:
        """Refuses columns for meta or key that the first table lacks; img2dataset writes all tables alike."""
        for item in [item for item in items if "table" in item.files][:1]:
            columns = [column for column in self._kept if column not in ("uid", "member", "caption")]
            self.table(item, columns)

    @property
    def _kept(self) -> list[str]:
        """The columns that name a row or go into its meta."""
        return list(dict.fromkeys(["uid", *filter(None, [self.key_column]), *named(self.meta, "--meta").values()]))

    def _with_table(self, item: Item) -> tuple[Item, int]:
        """Adds the parquet beside a tar, and says how many samples of it could not be fetched."""
        stem = item.files["tar"].removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")
        stats = below(self.root, stem + "_stats.json")
        failed = _failed(stats) if places.exists(stats) else 0
        there = places.exists(below(self.root, stem + ".parquet"))
        return replace(item, files={**item.files, "table": stem + ".parquet"}) if there else item, failed

    def table(self, item: Item, columns: Sequence[str], optional: Sequence[str] = ()) -> pa.Table:
        """Reads columns of the samples that should be in a tar: of the parquet beside, else of the json files inside.

        Raises: `UserError` when the parquet cannot be read, or one of `columns` is not there.
        """
        place = item.files.get("table", item.files["tar"])
        read = _of_parquet if "table" in item.files else _of_jsons
        found, there = read(below(self.root, place), [*columns, *optional])
        for column in columns:
            if column not in found.column_names:
                raise unknown(f"column of {readable(place)}", column, there)
        return found

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Gives the wanted samples in the tar's order; those that the parquet knows and the tar lacks are rejects."""
        rows = self._rows(item)
        reader = Webdataset(root=self.root, key_column=self.key_column, meta=self.meta)
        source, cut, seen = readable(item.files["tar"]), list[str](), set[str]()
        wanted = (lambda name: key_of(name) in rows) if "chosen" in item.data else None
        for sample in samples(below(self.root, item.files["tar"]), cut, wanted):
            seen.add(sample.key)
            if wanted is None or sample.key in rows:
                place = f"{item.key}/{readable(sample.key)}"
                yield reader.of_sample(sample, place, source, rows.get(sample.key, {}))
        yield from cut_reject(item, cut)
        for key in rows:
            if key not in seen:
                place = f"{item.key}/{readable(key)}"
                yield Reject(key=place, source=source, stage="list", reason="missing-image", detail="not in the tar")

    def _rows(self, item: Item) -> dict[str, dict[str, Any]]:
        """Returns what the table knows of the wanted samples, by the key of their members."""
        if "table" not in item.files and "chosen" not in item.data:
            return {}
        table = self.table(item, ["key"], self._kept)
        if "chosen" in item.data:
            table = table.filter(pa.array(_unpacked(item.data["chosen"], table.num_rows)))
        try:
            return {row.pop("key"): row for row in table.to_pylist()}
        except UnicodeDecodeError as error:
            raise UserError(
                f"{readable(item.files.get('table', ''))} holds text that is none ({error}); fetch it again"
            ) from error

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Counts the chosen, or the pictures of the first tar, scaled by size."""
        if any("chosen" in item.data for item in items):
            return sum(int(item.data["chosen"]["count"]) for item in items)
        return pictures_in(self.root, items)


def _of_parquet(path: str, columns: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """Reads columns, found in any case, of the rows that were fetched; returns the names of all columns too."""
    try:
        with places.openable(path) as opened, pq.ParquetFile(opened) as file:
            there = file.schema_arrow.names
            found = {name: column_named(name, there) for name in dict.fromkeys([*columns, "status"])}
            table = file.read([column for column in found.values() if column])
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read {readable(path)}: {said(error)}; fetch it again, or take it away") from error
    table = pa.table({name: table[column] for name, column in found.items() if column})
    if "status" in table.column_names:
        table = table.filter(pa.array(Condition(column="status", text=SUCCESS).holds(table["status"])))
    return table, there


def _of_jsons(path: str, columns: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """Reads fields of the json files in a tar, in its order; samples without one have empty values."""
    found = samples(path, [], wanted=lambda name: ending_of(name) == ".json")
    rows = [{**json_of(sample), "key": sample.key} for sample in found]
    there = sorted({name for row in rows for name in row})
    fields = {name: [cell(row, name) for row in rows] for name in columns if not rows or column_named(name, there)}
    try:
        return pa.table({"key": [row["key"] for row in rows], **fields}), there
    except pa.ArrowException as error:
        raise UserError(f"the json files in {readable(path)} do not agree in their types: {said(error)}") from error


def _failed(stats: str) -> int:
    try:
        value = parse_json(places.read(stats))
        return int(value["count"]) - int(value["successes"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return 0  # only a note depends on it


def _packed(chosen: Chosen) -> dict[str, Any]:
    """Writes which rows are chosen in a few hundred characters."""
    bits = base64.b64encode(zlib.compress(np.packbits(chosen).tobytes())).decode()
    return {"count": int(np.count_nonzero(chosen)), "bits": bits}


def _unpacked(chosen: Mapping[str, Any], rows: int) -> Chosen:
    bits = np.frombuffer(zlib.decompress(base64.b64decode(chosen["bits"])), np.uint8)
    return np.unpackbits(bits, count=rows).astype(bool)
