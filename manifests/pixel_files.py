"""The files of pixels beside a dataset's codes: PNG bytes in Parquet, and what is known of them without opening one.

`<dataset>/pixels/val-00000-of-00004.parquet` holds rows of view 0 of the shard of that name, in its order: `key`, and
for each role the PNG of a still as `binary`, those of a clip's frames as `list<binary>`. Its receipt lies beside it,
and `pixels/val.json`, written last, names all files of a split.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests import files
from manifests.dataset import DatasetFacts
from manifests.legend import Legend
from manifests.order import key_of
from manifests.schema import RoleKind
from manifests.shards import ShardInfo
from visent.errors import UserError
from visent.untrusted.names import is_plain

FOLDER = "pixels"
VERSION = 1
SUBSET = "subset"  # names the hash by which parts are chosen, here and in `trainer.protocols.subset`
BYTES_PER_GROUP = 1 << 19  # a row group ends with the row that brings its largest column to this: five stills of 256


@dataclass(frozen=True, kw_only=True)
class PixelFile:
    """The receipt of one file of pixels, and its entry in the split's list."""

    file: str  # name inside of the folder of pixels
    unit: str
    shard_sha256: str  # of the shard whose rows these are; another one makes the pixels stale
    keys_sha256: str  # of the shard, as its own receipt says
    rows: int
    rows_sha256: str  # of the keys in this file, which may be a part of the shard's
    roles: tuple[str, ...]
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` reads them back."""
        return vars(self) | {"roles": list(self.roles)}

    @classmethod
    def from_json(cls, value: Any) -> "PixelFile":
        """Reads `to_json`'s form.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(value, Mapping) or value.keys() != {field.name for field in fields(cls)}:
            raise ValueError("its fields are others than expected")
        texts = [value[name] for name in ("file", "unit", "shard_sha256", "keys_sha256", "rows_sha256", "sha256")]
        counts = [value["rows"], value["bytes"]]
        if not all(type(text) is str for text in (*texts, *value["roles"])):
            raise ValueError("a field that is text holds something else")
        if not is_plain(value["file"]) or any(type(count) is not int or count < 0 for count in counts):
            raise ValueError("its name, rows or bytes are none")
        return cls(**{**value, "roles": tuple(value["roles"])})


@dataclass(frozen=True, kw_only=True)
class PixelFacts:
    """The pixels of one split: what `pixels/<split>.json` says."""

    dataset: str
    split: str
    config_digest: str  # of the dataset
    image_size: int
    roles: Mapping[str, RoleKind]
    most: int | None  # rows that were asked for, None for all
    legends: Mapping[str, Legend] = field(default_factory=dict)  # of the roles that are maps of classes
    files: tuple[PixelFile, ...]  # in the order of the dataset's shards

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` reads them back."""
        return {
            "version": VERSION, "dataset": self.dataset, "split": self.split, "config_digest": self.config_digest,
            "image_size": self.image_size, "roles": dict(self.roles), "most": self.most,
            "legends": {role: legend.to_json() for role, legend in self.legends.items()},
            "files": [file.to_json() for file in self.files],
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Any) -> "PixelFacts":
        """Reads `to_json`'s form.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(value, Mapping) or value.get("version") != VERSION:
            raise ValueError(f"expected version {VERSION}")
        try:
            most, size = value["most"], value["image_size"]
            if type(size) is not int or not 0 < size <= 1 << 14 or (most is not None and type(most) is not int):
                raise ValueError("image_size or most is no number")
            if not all(kind in ("still", "clip") for kind in value["roles"].values()):
                raise ValueError("a role is neither still nor clip")
            return cls(
                dataset=str(value["dataset"]), split=str(value["split"]), config_digest=str(value["config_digest"]),
                image_size=size, roles=dict(value["roles"]), most=most,
                legends={role: Legend.from_json(legend) for role, legend in value["legends"].items()},
                files=tuple(map(PixelFile.from_json, value["files"])),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError, UserError) as error:
            raise ValueError(f"a field is missing or none ({error})") from error


def facts_path(folder: str, split: str) -> str:
    """Returns where the list of a split's pixels lies, of the dataset in `folder`."""
    return files.join(folder, FOLDER, f"{split}.json")


def load_pixel_facts(folder: str, split: str) -> PixelFacts | None:
    """Reads the list of a split's pixels; None where there is none.

    Raises:
        UserError: it is damaged, or of another version.
    """
    path = facts_path(folder, split)
    try:
        found = PixelFacts.from_json(files.read_json(path))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _no_list(folder, split, str(error)) from error
    if found.split != split:
        raise _no_list(folder, split, f"it is of split {found.split!r}")
    return found


def _no_list(folder: str, split: str, reason: str) -> UserError:
    return UserError(f"{facts_path(folder, split)} is no list of pixels ({reason}): remove it, then make it again with "
                     f"{make(folder, split)}")  # fmt: skip


def make(folder: str, split: str, roles: Iterable[str] = (), most: int | None = None) -> str:
    """Returns the command that makes pixels, as the fix in messages."""
    of_roles = f" --roles {','.join(roles)}" if roles else ""
    return f"`visent pixels {folder} --split {split}{of_roles}{f' --most {most}' if most else ''}`"


def shards_of(facts: DatasetFacts, split: str) -> list[ShardInfo]:
    """Returns the shards that hold view 0 of a split, in the order in which its rows are numbered."""
    return [shard for shard in facts.shards if shard.split == split and shard.first_view == 0]


def chosen(keys: Sequence[Sequence[str]], most: int | None) -> list[list[int]]:
    """Returns, for the keys of each shard, which of its rows get pixels: all, or `most` of all shards together.

    Those with the smallest hashes of their keys, so they are spread over everything, and more hold the fewer. It is
    the order in which `visent evaluate --most` takes samples.
    """
    if most is None or most >= sum(map(len, keys)):
        return [list(range(len(own))) for own in keys]
    hashed = sorted((key_of(SUBSET, key), key, shard, row) for shard, own in enumerate(keys)
                    for row, key in enumerate(own))  # fmt: skip
    rows: list[list[int]] = [[] for _ in keys]
    for _, _, shard, row in hashed[:most]:
        rows[shard].append(row)
    return [sorted(own) for own in rows]


def keys_digest(keys: Sequence[str]) -> str:
    """Returns the sha256 of keys in their order."""
    return hashlib.sha256("".join(f"{key}\0" for key in keys).encode()).hexdigest()


class PixelSink:
    """Appends rows of PNG bytes to one Parquet file."""

    def __init__(self, path: str, roles: Mapping[str, RoleKind]) -> None:
        kinds = {"still": pa.binary(), "clip": pa.list_(pa.field("element", pa.binary(), nullable=False))}
        columns = [pa.field(role, kinds[kind], nullable=False) for role, kind in roles.items()]
        self._roles = dict(roles)
        self._schema = pa.schema([pa.field("key", pa.string(), nullable=False), *columns])
        self._rows: list[dict[str, Any]] = []
        self._bytes = dict.fromkeys(roles, 0)
        # PNGs are compressed already.
        self._writer = pq.ParquetWriter(
            path, self._schema, compression="none", use_dictionary=False, write_statistics=["key"]
        )

    def append(self, key: str, pictures: Mapping[str, Sequence[bytes]]) -> None:
        """Adds a row: for each role the PNGs of its frames, one for a still."""
        media = {role: pngs[0] if self._roles[role] == "still" else list(pngs) for role, pngs in pictures.items()}
        self._rows.append({"key": key, **media})
        for role, pngs in pictures.items():
            self._bytes[role] += sum(map(len, pngs))
        if max(self._bytes.values()) >= BYTES_PER_GROUP:
            self._write()

    def _write(self) -> None:
        table = pa.Table.from_pylist(self._rows, schema=self._schema)
        self._writer.write_table(table, row_group_size=max(1, len(self._rows)))
        self._rows, self._bytes = [], dict.fromkeys(self._roles, 0)

    def close(self) -> None:
        """Writes what is left and the footer."""
        if self._rows:
            self._write()
        self._writer.close()

    def __enter__(self) -> "PixelSink":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.close()


def groups_of(file: pq.ParquetFile) -> Iterator[int]:
    """Yields the number of rows of each row group."""
    for group in range(file.num_row_groups):
        yield file.metadata.row_group(group).num_rows
