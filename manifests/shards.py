"""Shards: whole files of rows, their receipts, and readers that know both formats."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from types import ModuleType, TracebackType
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt16

from manifests import files
from manifests.receipt_fault import receipt_fault
from manifests.schema import Row, Schema, check_row, frames_of
from visent.errors import UserError, unknown

Format = Literal["parquet", "arrayrecord"]


@dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """What is known of one shard without opening it: the receipt that lies beside it, and an entry of the facts."""

    file: str  # name inside the dataset's folder
    unit: str  # of the source; shards of one unit hold the same keys in different views
    split: str
    first_view: int
    last_view: int
    rows: int
    rows_per_view: tuple[int, ...]
    bytes: int
    sha256: str
    keys_sha256: str  # of the keys (and clip lengths) of one view, in order
    frames: Mapping[int, int] = field(default_factory=dict)  # clip length -> rows of one view
    rejects: Mapping[str, int] = field(default_factory=dict)  # reason -> examples
    config_digest: str = ""
    made_with: Mapping[str, str] = field(default_factory=dict)  # what computed the codes: versions, device

    @property
    def examples(self) -> int:
        """Rows of one view."""
        return self.rows_per_view[0]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` reads them back."""
        return vars(self) | {  # `asdict` takes 20 times as long
            "rows_per_view": list(self.rows_per_view),
            "frames": {str(length): count for length, count in sorted(self.frames.items())},
            "rejects": dict(sorted(self.rejects.items())),
            "made_with": dict(self.made_with),
        }

    @classmethod
    def from_json(cls, value: Any) -> "ShardInfo":
        """Reads `to_json`'s form, whatever it is that somebody else wrote.

        Raises:
            UserError: fields are missing, unknown, or no such values; the file is none right in the folder.
        """
        if not isinstance(value, Mapping):
            raise UserError(f"a receipt is a list of names and values, this is {str(value)[:80]!r}; tokenize it again")
        if value.keys() != _FIELDS.keys():
            odd = sorted(value.keys() ^ _FIELDS.keys())
            raise UserError(f"receipt of {value.get('file')!r}: missing or unknown fields {odd}; tokenize it again")
        if fault := receipt_fault(value):
            raise UserError(f"receipt of {str(value['file'])[:80]!r}: {fault}; fetch it again, or tokenize it again")
        lengths = {int(length): count for length, count in value["frames"].items()}
        return cls(**{**value, "rows_per_view": tuple(value["rows_per_view"]), "frames": lengths})


_FIELDS = dict.fromkeys(f.name for f in fields(ShardInfo))  # in their order


def shard_name(unit: str, views: tuple[int, int] = (0, 0), format: Format = "parquet") -> str:
    """Returns the file name of a unit's shard; `views` are the first and last view in it.

    >>> shard_name("train-00000-of-00037")
    'train-00000-of-00037.parquet'
    >>> shard_name("train-00000-of-00037", (1, 36))
    'train-00000-of-00037.views-001-036.parquet'
    """
    if format not in get_args(Format):
        raise unknown("shard format", str(format), get_args(Format))
    return f"{unit}.{format}" if views == (0, 0) else f"{unit}.views-{views[0]:03d}-{views[1]:03d}.{format}"


def receipt_name(file: str) -> str:
    """Returns the name of a shard's receipt."""
    return file.rsplit(".", 1)[0] + ".json"


def rejects_name(file: str) -> str:
    """Returns the name of the list of what was rejected while a shard was made."""
    return file.rsplit(".", 1)[0] + ".rejects.jsonl"


def format_of(path: str) -> Format:
    """Returns the format of a shard by its name.

    Raises:
        UserError: the name ends in neither.
    """
    suffix = files.name(path).rsplit(".", 1)[-1]
    if suffix == "parquet":
        return "parquet"
    if suffix == "arrayrecord":
        return "arrayrecord"
    raise UserError(f"{path} is no shard: its name ends in .{suffix}, expected .parquet or .arrayrecord")


@runtime_checkable
class _Sink(Protocol):
    def append(self, row: Row) -> None: ...
    def close(self, *, abort: bool = False) -> None: ...


def _codec(path: str) -> ModuleType:
    """Imports the codec where it is used: array_record and pyarrow in one process can crash on macOS."""
    if format_of(path) == "parquet":
        from manifests import parquet

        return parquet
    from manifests import records

    return records


def _sink(final: str, temporary: str, schema: Schema) -> _Sink:
    codec = _codec(final)
    sink: _Sink = (codec.ParquetSink if format_of(final) == "parquet" else codec.RecordSink)(temporary, schema)
    return sink


class ShardWriter:
    """Writes one shard under a temporary name; `close` flushes it to the disk and gives it its name.

    Rows come view by view, with the same keys in the same order in each. The bytes depend on the rows and the schema
    only, not on how many each `append` brought. As a context manager it closes at the end of the block (the result
    is then in `info`) and leaves nothing behind when the block raises.
    """

    def __init__(
        self,
        path: str,
        schema: Schema,
        format: Format | None = None,
        *,
        unit: str | None = None,
        split: str | None = None,
        views: tuple[int, int] = (0, 0),
        config_digest: str = "",
        made_with: Mapping[str, str] | None = None,
    ) -> None:
        if format is not None and format != format_of(path):
            raise UserError(f"{path} does not end in .{format}: name the shard by its format")
        self.path, self._schema, self._views, self._config_digest = path, schema, views, config_digest
        self._made_with = dict(made_with or {})
        self._unit = unit if unit is not None else files.name(path).split(".")[0]
        self._split = split if split is not None else self._unit.split("-")[0]
        count = views[1] - views[0] + 1
        self._rows, self._keys = [0] * count, [hashlib.sha256() for _ in range(count)]
        self._frames: Counter[int] = Counter()
        self._view = views[0]
        self._temporary: str | None = files.temporary_for(path)
        self.info: ShardInfo | None = None
        try:
            self._sink: _Sink | None = _sink(path, self._temporary, schema)
        except OSError as error:
            self._sink = None
            self.abort()
            raise files.cannot_write(path, error) from error

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows.

        Raises:
            ValueError: a row does not fit the schema, or its view is out of order.
            UserError: the disk is full or the target cannot be written.
        """
        if self._sink is None:
            raise ValueError(f"{self.path} is closed")
        for row in rows:
            check_row(row, self._schema)
            self._count(row)
            try:
                self._sink.append(row)
            except OSError as error:
                self.abort()
                raise files.cannot_write(self.path, error) from error

    def _count(self, row: Row) -> None:
        if not self._view <= row.view <= self._views[1]:
            raise ValueError(
                f"row {row.key!r} has view {row.view}; expected {self._view} to {self._views[1]}, in order"
            )
        self._view = row.view
        at = row.view - self._views[0]
        self._rows[at] += 1
        length = frames_of(row, self._schema)
        self._keys[at].update(f"{row.key}\0{length}\0".encode())
        if at == 0 and length is not None:
            self._frames[length] += 1

    def close(self, rejects: Mapping[str, int] | None = None) -> ShardInfo:
        """Finishes the shard and returns what its receipt says; `rejects` counts examples by reason.

        Raises:
            ValueError: the views do not hold the same keys.
            UserError: the disk is full or the target cannot be written; nothing is left behind.
        """
        sink, temporary = self._sink, self._temporary
        if sink is None or temporary is None:
            raise ValueError(f"{self.path} is closed")
        keys = {digest.hexdigest() for digest in self._keys}
        if len(keys) > 1:
            self.abort()
            raise ValueError(
                f"{self.path}: views {self._views} do not hold the same keys (and clip lengths) in the same order"
            )
        try:
            self._sink = None
            sink.close()
            size, digest = files.stamp(temporary)[0], files.sha256(temporary)
            files.publish(temporary, self.path)
        except OSError as error:
            self.abort()
            raise files.cannot_write(self.path, error) from error
        self._temporary = None
        self.info = ShardInfo(
            file=files.name(self.path), unit=self._unit, split=self._split, first_view=self._views[0],
            last_view=self._views[1], rows=sum(self._rows), rows_per_view=tuple(self._rows), bytes=size,
            sha256=digest, keys_sha256=keys.pop(), frames=dict(self._frames), rejects=dict(rejects or {}),
            config_digest=self._config_digest, made_with=self._made_with,
        )  # fmt: skip
        return self.info

    def abort(self) -> None:
        """Drops what was written."""
        sink, self._sink = self._sink, None
        if sink is not None:
            with suppress(OSError):  # the file is dropped anyway
                sink.close(abort=True)
        if self._temporary is not None:
            files.discard(self._temporary)
            self._temporary = None

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        elif self._sink is not None:
            self.close()


def read_rows(path: str, schema: Schema) -> Iterator[Row]:
    """Yields the rows of a shard in order.

    Raises:
        UserError: damaged, or of another schema version, tokenizer or set of roles.
    """
    with files.local_copy(path) as local:
        yield from _codec(path).read_rows(local, schema)


def read_codes(path: str, schema: Schema, role: str) -> tuple[UInt16[np.ndarray, "m t"], Int64[np.ndarray, "n_plus_1"]]:
    """Returns all images of a role and where each row begins: row i has images `offsets[i]` to `offsets[i + 1]`.

    A still role has one image a row, so its offsets are 0, 1, 2, ...

    Raises:
        UserError: unknown role, damaged, or of another schema version, tokenizer or set of roles.
    """
    if role not in schema.roles:
        raise unknown("role", role, schema.roles)
    with files.local_copy(path) as local:
        images, offsets = _codec(path).read_codes(local, schema, role)
    return images, offsets


def read_keys(path: str, schema: Schema) -> list[str]:
    """Returns the keys of a shard's rows in order."""
    with files.local_copy(path) as local:
        return list(_codec(path).read_keys(local, schema))


def read_metas(path: str, schema: Schema) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields key and meta of each of a shard's rows in order."""
    with files.local_copy(path) as local:
        yield from _codec(path).read_metas(local, schema)


def write_receipt(folder: str, info: ShardInfo) -> None:
    """Writes the receipt of a finished shard beside it.

    Raises:
        UserError: the target cannot be written.
    """
    files.write_json(files.join(folder, receipt_name(info.file)), info.to_json())


def read_receipt(folder: str, file: str) -> ShardInfo | None:
    """Returns the receipt of the shard named `file`, or None where the shard is not finished or has another size.

    Raises:
        UserError: the receipt is not one.
    """
    try:
        info = ShardInfo.from_json(files.read_json(files.join(folder, receipt_name(file))))
        return info if files.stamp(files.join(folder, info.file))[0] == info.bytes else None
    except FileNotFoundError:
        return None
