"""Parquet files with encoded pictures in their cells."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.files import below, listed, readable
from pipelines.sources.table import Table, chosen_columns, named, split_of
from visent.errors import unknown

ENDINGS = (".parquet", ".pq")
ROWS_PER_ITEM = 2048  # row groups are put together up to this
ROWS_AT_ONCE = 16  # decoded from a row group; a row group may be larger than the memory
PAGE_BY_PAGE = {"pre_buffer": False, "buffer_size": 1 << 20}  # instead of the whole row group in memory
_DAMAGED = (OSError, pa.ArrowException, UnicodeDecodeError)


@dataclass(frozen=True, kw_only=True)
class Parquet(Table):
    """Any parquet files with encoded pictures: each row with a picture is a row of role `image`.

    <root>/**/*.parquet

    A cell holds the bytes of a file, or {"bytes", "path"} as Hugging Face `datasets` stores pictures. The split is the
    one that the path names (train-00000-of-00002.parquet, validation/0.parquet), else train. A row's key is its file
    and its number there.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    items_per_shard: ClassVar[int] = 1

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists runs of row groups with about two thousand rows."""
        paths = listed(self.root, ENDINGS, "parquet files", Counter())
        mine = [path for path in paths if split_of(path) == split]
        for items in places.at_once(lambda path: list(self._of_file(path)), mine, self.root):
            yield from items

    def _of_file(self, path: str) -> Iterator[Item]:
        key, size = readable(os.path.splitext(path)[0]), places.size_of(below(self.root, path))  # noqa: PTH122
        try:
            with places.openable(below(self.root, path)) as opened, pq.ParquetFile(opened) as file:
                rows = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
                schema = file.schema_arrow
        except _DAMAGED:
            yield Item(key=key, files={"table": path}, size=size, reject="not-parquet")
            return
        if sum(rows) > size or min(rows, default=0) < 0:  # a row with a picture has bytes
            yield Item(key=key, files={"table": path}, size=size, reject="rows-overstated")
            return
        self._columns(schema, readable(path))
        for first, last in _runs(rows):
            data = {"groups": [first, last], "row": sum(rows[:first]), "rows": sum(rows[first:last])}
            yield Item(key=f"{key}#{first:05d}", files={"table": path}, size=size, data=data)

    def _columns(self, schema: pa.Schema, where: str) -> dict[str, str]:
        """Returns the column of each role after checking that all columns are there."""
        pictures = [field.name for field in schema if _holds_bytes(field.type)]
        for column in (*filter(None, [self.key_column]), *named(self.meta, "--meta").values()):
            if column not in schema.names:
                raise unknown(f"column of {where}", column, schema.names)
        return chosen_columns(self.columns, pictures, schema.names, where)

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Gives each row's pictures as bytes; the rows of a row group that cannot be read any more are rejects."""
        number = item.data["row"]
        try:
            path = below(self.root, item.files["table"])
            with places.openable(path) as opened, pq.ParquetFile(opened, **PAGE_BY_PAGE) as file:
                for group in range(*item.data["groups"]):
                    yield from self._of_group(item, file, group, number)
                    number += file.metadata.row_group(group).num_rows
        except _DAMAGED as error:
            yield from _unreadable(item, number, item.data["row"] + item.data["rows"], error)

    def _of_group(self, item: Item, file: pq.ParquetFile, group: int, number: int) -> Iterator[Example | Reject]:
        source, end = readable(item.files["table"]), number + file.metadata.row_group(group).num_rows
        columns = self._columns(file.schema_arrow, source)
        read = {*columns.values(), *filter(None, [self.key_column]), *named(self.meta, "--meta").values()}
        try:
            for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=sorted(read)):
                for row in batch.to_pylist():
                    yield self.example(_row_key(item, number), source, row, columns)
                    number += 1
        except _DAMAGED as error:
            yield from _unreadable(item, number, end, error)

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Adds the rows that the files state."""
        return sum(int(item.data["rows"]) for item in items)


def _row_key(item: Item, number: int) -> str:
    return f"{readable(os.path.splitext(item.files['table'])[0])}/{number:08d}"  # noqa: PTH122


def _unreadable(item: Item, first: int, end: int, error: Exception) -> Iterator[Reject]:
    for number in range(first, end):
        source, detail = readable(item.files["table"]), str(error).partition("\n")[0]
        yield Reject(key=_row_key(item, number), source=source, stage="read", reason="unreadable", detail=detail)


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Puts neighbouring row groups together: (first, last + 1)."""
    first = held = 0
    for group, count in enumerate(rows):
        held += count
        if held >= ROWS_PER_ITEM or group == len(rows) - 1:
            yield first, group + 1
            first, held = group + 1, 0


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
