"""Rows in ArrayRecord: one record per row, group size 1, readable by Grain's own `ArrayRecordDataSource`.

A record is little-endian and begins with what has a fixed place, so that many rows decode at once:

    codes of each still role in order   tokens_per_image x uint16 each
    view                                int32
    frames                              uint32, of every clip role (0 where the dataset has none)
    bytes of the key, of the meta       uint32 each
    codes of each clip role in order    frames x tokens_per_image x uint16 each
    key, then meta as JSON              UTF-8

Records are not compressed: zstd finds nothing in equally likely 13-bit codes and a fifth in skewed ones, and costs more
than half the rate of writing and up to half that of reading (benchmarks/storage.py); who wants size takes Parquet.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt16

from manifests.schema import Row, Schema, frames_of
from visent.errors import UserError
from visent.untrusted.documents import parse_json

OPTIONS = "group_size:1,uncompressed"
ROWS_PER_READ = 2048


def head(schema: Schema) -> np.dtype:
    """Returns the numpy type of a record's fixed part."""
    stills = [(role, "<u2", (schema.tokens_per_image,)) for role in schema.stills]
    return np.dtype([*stills, ("view", "<i4"), ("frames", "<u4"), ("key_bytes", "<u4"), ("meta_bytes", "<u4")])


def record_layout(schema: Schema) -> dict[str, Any]:
    """Returns the description of a record that `dataset.json` carries for readers without visent."""
    kind = head(schema)
    fields = [
        {"name": name, "offset": kind.fields[name][1], "type": kind.fields[name][0].base.str,
         "count": int(np.prod(kind.fields[name][0].shape, dtype=int))}
        for name in kind.names or ()
    ] if kind.fields else []  # fmt: skip
    tail = [{"name": role, "type": "<u2", "count": f"frames * {schema.tokens_per_image}"} for role in schema.clips]
    text = [{"name": name, "type": "utf-8", "count": f"{name}_bytes"} for name in ("key", "meta")]
    return {"container": "array_record", "options": OPTIONS, "head_bytes": kind.itemsize, "head": fields,
            "tail": tail + text}  # fmt: skip


def encode(row: Row, schema: Schema) -> bytes:
    """Returns the record of a row."""
    key, meta = row.key.encode(), row.meta_json.encode()
    fixed = np.zeros((), head(schema))
    for role in schema.stills:
        fixed[role] = row.codes[role]
    fixed["view"], fixed["frames"] = row.view, frames_of(row, schema) or 0
    fixed["key_bytes"], fixed["meta_bytes"] = len(key), len(meta)
    clips = b"".join(row.codes[role].astype("<u2").tobytes() for role in schema.clips)
    return bytes(fixed.tobytes()) + clips + key + meta


def decode(record: bytes, schema: Schema) -> Row:
    """Returns the row of a record.

    Raises:
        ValueError: the record does not have the length that its head states.
    """
    kind, tokens = head(schema), schema.tokens_per_image
    fixed = np.frombuffer(record, kind, 1)[0]
    codes: dict[str, Any] = {role: fixed[role].astype(np.uint16) for role in schema.stills}
    at, frames = kind.itemsize, int(fixed["frames"])
    for role in schema.clips:
        codes[role] = np.frombuffer(record, "<u2", frames * tokens, at).reshape(frames, tokens).astype(np.uint16)
        at += frames * tokens * 2
    meta_at = at + int(fixed["key_bytes"])
    if len(record) != meta_at + int(fixed["meta_bytes"]):
        raise ValueError(f"record of {len(record)} bytes, its head says {meta_at + int(fixed['meta_bytes'])}")
    meta = parse_json(record[meta_at:])
    ordered = {role: codes[role] for role in schema.roles}
    return Row(key=record[at:meta_at].decode(), view=int(fixed["view"]), codes=ordered, meta=meta)


class RecordSink:
    """Appends rows to one ArrayRecord file."""

    def __init__(self, path: str, schema: Schema) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        self._path, self._schema, self._rows = path, schema, 0
        try:
            self._writer = ArrayRecordWriter(path, OPTIONS)
        except RuntimeError as error:
            raise OSError(str(error)) from error

    def append(self, row: Row) -> None:
        """Adds one row."""
        self._rows += 1
        try:
            self._writer.write(encode(row, self._schema))
        except RuntimeError as error:
            raise OSError(str(error)) from error

    def close(self, *, abort: bool = False) -> None:
        """Writes the footer, and reads the number of rows back: the library does not report every failed write."""
        try:
            self._writer.close()
        except RuntimeError as error:
            raise OSError(str(error)) from error
        if abort:
            return
        try:
            found = _open(self._path).num_records()
        except UserError as error:
            raise OSError(f"the file did not reach the disk whole: {error}") from error
        if found != self._rows:
            raise OSError(f"{found} of {self._rows} rows reached the disk: it is full")


def _open(path: str) -> Any:
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(path)
        if reader.ok():
            reader.num_records()
            return reader
        reason = "unreadable"
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
    raise UserError(f"{path} is not a whole ArrayRecord file ({reason}): tokenize it again")


def _records(path: str) -> Iterator[list[bytes]]:
    reader = _open(path)
    count = reader.num_records()
    try:
        for start in range(0, count, ROWS_PER_READ):
            yield reader.read(start, min(start + ROWS_PER_READ, count))
    except (RuntimeError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error}): tokenize it again") from error
    finally:
        reader.close()


def read_rows(path: str, schema: Schema) -> Iterator[Row]:
    """Yields the rows of a shard in order.

    Raises:
        UserError: the shard is damaged, or its records do not fit the schema.
    """
    try:
        for records in _records(path):
            for record in records:
                yield decode(record, schema)
    except ValueError as error:
        raise UserError(f"{path} holds records of another layout ({error}): tokenize it again") from error


def read_codes(path: str, schema: Schema, role: str) -> tuple[UInt16[np.ndarray, "m t"], Int64[np.ndarray, "n_plus_1"]]:
    """Returns all images of a role and where each row begins: row i has images `offsets[i]` to `offsets[i + 1]`."""
    tokens = schema.tokens_per_image
    images, lengths = [np.empty((0, tokens), np.uint16)], [np.zeros(1, np.int64)]
    for records in _records(path):
        if role in schema.stills:
            codes = _stills(records, schema, role)
            lengths.append(np.ones(len(records), np.int64))
        else:
            rows = [decode(record, schema).codes[role] for record in records]
            codes = np.concatenate(rows)
            lengths.append(np.array([len(row) for row in rows], np.int64))
        images.append(codes)
    return np.concatenate(images), np.cumsum(np.concatenate(lengths))


def _stills(records: list[bytes], schema: Schema, role: str) -> UInt16[np.ndarray, "n t"]:
    """Decodes one still role of many records with one `numpy.frombuffer`."""
    size = schema.tokens_per_image * 2
    start = schema.stills.index(role) * size
    joined = b"".join([record[start : start + size] for record in records])
    return np.frombuffer(joined, "<u2").astype(np.uint16, copy=False).reshape(len(records), -1)


def read_metas(path: str, schema: Schema) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields key and meta of each of a shard's rows in order."""
    for row in read_rows(path, schema):
        yield row.key, dict(row.meta)


def read_keys(path: str, schema: Schema) -> list[str]:
    """Returns the keys of a shard's rows in order."""
    return [row.key for row in read_rows(path, schema)]
