"""Rows in Parquet: plain integer lists that pyarrow, DuckDB, Polars and `datasets` read with no code of ours.

A still role is `fixed_size_list<uint16>[tokens_per_image]`, a clip role a list of those. Codes are stored
byte-stream-split with zstd level 1: 13.1 bits a token for 8192 equally likely codes, whatever the shard's size. A
dictionary reads faster but stores its 8192 entries in every row group, which costs small shards a bit per token; see
benchmarks/storage.py. Schema version, roles and tokenizer card stand in the file's key-value metadata under `visent`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, UInt16

from manifests.canonical import canonical_json
from manifests.schema import Row, Schema, check_version
from visent.errors import UserError, said
from visent.untrusted.documents import parse_json

METADATA = b"visent"
CODES_PER_GROUP = 1 << 21  # a row group ends with the row that reaches this many codes: 4 MiB of uint16


def arrow_schema(schema: Schema) -> pa.Schema:
    """Returns the Arrow schema of a dataset, with visent's metadata."""
    image = pa.list_(pa.field("element", pa.uint16(), nullable=False), schema.tokens_per_image)
    clip = pa.list_(pa.field("element", image, nullable=False))
    fields = [pa.field("key", pa.string(), nullable=False), pa.field("view", pa.int32(), nullable=False)]
    fields += [
        pa.field(role, image if kind == "still" else clip, nullable=False) for role, kind in schema.roles.items()
    ]
    fields.append(pa.field("meta", pa.string(), nullable=False))
    return pa.schema(fields, metadata={METADATA: canonical_json(schema.to_json())})


def to_table(rows: Sequence[Row], schema: Schema) -> pa.Table:
    """Returns the rows as an Arrow table."""
    target = arrow_schema(schema)
    columns: list[pa.Array] = [
        pa.array([row.key for row in rows], pa.string()),
        pa.array([row.view for row in rows], pa.int32()),
    ]
    for role, kind in schema.roles.items():
        column = target.field(role).type
        images = column if kind == "still" else column.value_type
        flat = np.concatenate([row.codes[role].reshape(-1) for row in rows]) if rows else np.empty(0, np.uint16)
        values = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=images)
        if kind == "clip":
            offsets = np.cumsum([0, *(len(row.codes[role]) for row in rows)]).astype(np.int32)
            values = pa.ListArray.from_arrays(pa.array(offsets), values, type=column)
        columns.append(values)
    columns.append(pa.array([row.meta_json for row in rows], pa.string()))
    return pa.Table.from_arrays(columns, schema=target)


class ParquetSink:
    """Appends rows to one Parquet file; its bytes do not depend on how the rows were grouped in calls."""

    def __init__(self, path: str, schema: Schema) -> None:
        self._schema = schema
        self._rows: list[Row] = []
        self._codes = 0
        split = {"still": "list.element", "clip": "list.element.list.element"}
        self._writer = pq.ParquetWriter(
            path,
            arrow_schema(schema),
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            write_statistics=["key", "view"],
            column_encoding={f"{role}.{split[kind]}": "BYTE_STREAM_SPLIT" for role, kind in schema.roles.items()},
        )

    def append(self, row: Row) -> None:
        """Adds one row; writes the row group when it is full."""
        self._rows.append(row)
        self._codes += sum(codes.size for codes in row.codes.values())
        if self._codes >= CODES_PER_GROUP:
            self._write_group()

    def _write_group(self) -> None:
        table = to_table(self._rows, self._schema)
        self._writer.write_table(table, row_group_size=max(1, len(self._rows)))
        self._rows, self._codes = [], 0

    def close(self, *, abort: bool = False) -> None:
        """Writes what is left and the footer; with `abort` only lets the file go."""
        if self._rows and not abort:
            self._write_group()
        self._writer.close()


def _open(path: str, schema: Schema) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not a whole Parquet file ({said(error)}): tokenize it again") from error
    text = (file.schema_arrow.metadata or {}).get(METADATA)
    if text is None:
        raise UserError(f"{path} was not written by visent: it has no tokenizer card; tokenize its images instead")
    check_metadata(parse_json(text), schema, path)
    return file


def check_metadata(value: dict[str, Any], schema: Schema, path: str) -> None:
    """Refuses a shard of another schema version, tokenizer or set of roles.

    Raises:
        UserError: says which, what was expected, and what to do.
    """
    check_version(value.get("version"), path)
    got = Schema.from_json(value)
    if got.card.fingerprint != schema.card.fingerprint:
        raise UserError(
            f"{path} holds tokens of tokenizer {got.card.name!r} ({got.card.fingerprint}), expected "
            f"{schema.card.name!r} ({schema.card.fingerprint}): tokenize it again with the expected tokenizer"
        )
    if dict(got.roles) != dict(schema.roles):
        raise UserError(f"{path} has roles {dict(got.roles)}, expected {dict(schema.roles)}: tokenize it again")


def _images(column: pa.Array, tokens: int) -> UInt16[np.ndarray, "m t"]:
    return np.asarray(column.flatten().to_numpy(zero_copy_only=True)).reshape(-1, tokens)


def _read(path: str, schema: Schema, columns: list[str]) -> Iterator[pa.RecordBatch]:
    file = _open(path, schema)
    try:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=columns, use_threads=False)
            yield from table.combine_chunks().to_batches()
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is damaged ({said(error)}): tokenize it again") from error


def read_rows(path: str, schema: Schema) -> Iterator[Row]:
    """Yields the rows of a shard in order.

    Raises:
        UserError: damaged, or of another schema version, tokenizer or set of roles.
    """
    for batch in _read(path, schema, ["key", "view", *schema.roles, "meta"]):
        data = {role: _columns(batch.column(role), schema, role) for role in schema.roles}
        keys, views, metas = (batch.column(name).to_pylist() for name in ("key", "view", "meta"))
        for i in range(len(batch)):
            codes = {role: flat[at[i] : at[i + 1]] for role, (flat, at) in data.items()}
            codes |= {role: codes[role][0] for role in schema.stills}
            yield Row(key=keys[i], view=views[i], codes=codes, meta=parse_json(metas[i]))


def _columns(
    column: pa.Array, schema: Schema, role: str
) -> tuple[UInt16[np.ndarray, "m t"], Int64[np.ndarray, "n_plus_1"]]:
    if schema.roles[role] == "still":
        return _images(column, schema.tokens_per_image), np.arange(len(column) + 1, dtype=np.int64)
    offsets = column.offsets.to_numpy().astype(np.int64)
    return _images(column.flatten(), schema.tokens_per_image), offsets - offsets[0]


def read_codes(path: str, schema: Schema, role: str) -> tuple[UInt16[np.ndarray, "m t"], Int64[np.ndarray, "n_plus_1"]]:
    """Returns all images of a role and where each row begins: row i has images `offsets[i]` to `offsets[i + 1]`."""
    images, starts, end = [np.empty((0, schema.tokens_per_image), np.uint16)], [np.zeros(1, np.int64)], 0
    for batch in _read(path, schema, [role]):
        flat, offsets = _columns(batch.column(role), schema, role)
        images.append(flat)
        starts.append(offsets[1:] + end)
        end += len(flat)
    return np.concatenate(images), np.concatenate(starts)


def read_metas(path: str, schema: Schema) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields key and meta of each of a shard's rows in order."""
    for batch in _read(path, schema, ["key", "meta"]):
        for key, meta in zip(batch.column("key").to_pylist(), batch.column("meta").to_pylist(), strict=True):
            yield key, parse_json(meta)


def read_keys(path: str, schema: Schema) -> list[str]:
    """Returns the keys of a shard's rows in order."""
    return [key for batch in _read(path, schema, ["key"]) for key in batch.column("key").to_pylist()]
