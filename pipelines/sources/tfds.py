"""What TensorFlow Datasets prepared: its library reads the tables of splits and features, the records are read here.

Neither needs TensorFlow.
"""

import functools
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, ClassVar

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import option
from pipelines.sources.files import below, readable, walk
from pipelines.sources.table import Table, chosen_columns, named
from pipelines.sources.tfrecords import Fault, features, records
from visent.errors import UserError, unknown

INFO = "dataset_info.json"
SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}
ROWS_AT_ONCE = 16  # of an ArrayRecord file


@dataclass(frozen=True, kw_only=True)
class TFDS(Table):
    """Any dataset that TensorFlow Datasets prepared, as TFRecord or ArrayRecord; each of its files is one shard.

    <root>/dataset_info.json, features.json, <name>-<split>.tfrecord-00000-of-00010, ...
    <root>/<name>/<version>/dataset_info.json, ...

    Features are the columns (image, objects/bbox). The one that is a class is in meta as "class" and "class_index". A
    row's key is the publisher's split and the row's number there.
    """

    columns: tuple[str, ...] = option((), "ROLE=FEATURE of pictures, the input first; else image is the one there is.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    items_per_shard: ClassVar[int] = 1

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the files that the publisher's table of splits names."""
        folder = _folder(self.root)
        builder = _builder(below(self.root, folder))
        self._columns(builder)
        for name, info in builder.info.splits.items():
            if SPLITS.get(name) == split:
                yield from self._of_split(folder, name, info)
            elif name not in SPLITS and split == "train":
                left_out[f"rows of split {name}"] += info.num_examples

    def _of_split(self, folder: str, name: str, info: Any) -> Iterator[Item]:
        first = 0
        for path, rows in zip(info.filepaths, info.shard_lengths, strict=True):
            file = os.path.join(folder, PurePath(path).name)  # noqa: PTH118
            size = places.size_of(below(self.root, file)) if places.exists(below(self.root, file)) else 0
            data = {"split": name, "row": first, "rows": rows}
            yield Item(key=f"{name}/{first:08d}", files={"records": file}, size=size, data=data)
            first += rows

    def _columns(self, builder: Any) -> dict[str, str]:
        """Returns the feature of each role after checking that all features are there."""
        pictures = [name for name, feature in builder.info.features.items() if _is(feature, "Image")]
        there = sorted(builder.info.features)
        for name in (*filter(None, [self.key_column]), *named(self.meta, "--meta").values()):
            if name.partition("/")[0] not in there:
                raise unknown(f"feature of {builder.name}", name, there)
        return chosen_columns(self.columns, pictures, there, builder.name)

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Gives each record's pictures as bytes; rows that the table of splits has and the file lacks are rejects."""
        builder = _builder(below(self.root, os.path.dirname(item.files["records"])))  # noqa: PTH120
        columns = self._columns(builder)
        source, split, number = readable(item.files["records"]), item.data["split"], item.data["row"]
        end, fault = number + item.data["rows"], Fault(reason="missing", detail="fewer records than stated")
        for record in _records(below(self.root, item.files["records"])):
            row = features(record) if isinstance(record, bytes) else record
            if isinstance(row, Fault) and row.last:
                fault = row
                break
            yield self._row(f"{split}/{number:08d}", source, row, columns, builder)
            number += 1
        for rest in range(number, end):
            detail = fault.detail
            yield Reject(key=f"{split}/{rest:08d}", source=source, stage="read", reason=fault.reason, detail=detail)

    def _row(
        self, key: str, source: str, row: dict[str, Any] | Fault, columns: dict[str, str], builder: Any
    ) -> Example | Reject:
        if isinstance(row, Fault):
            return Reject(key=key, source=source, stage="read", reason=row.reason, detail=row.detail)
        made = self.example(key, source, row, columns)
        labels = [(name, feature) for name, feature in builder.info.features.items() if _is(feature, "ClassLabel")]
        if isinstance(made, Reject) or len(labels) != 1 or not isinstance(row.get(labels[0][0]), int):
            return made
        index = row[labels[0][0]]
        names = labels[0][1].names if labels[0][1].num_classes else []
        known = {"class": names[index]} if 0 <= index < len(names) else {}
        return replace(made, meta={**known, "class_index": index, **made.meta})

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Adds the rows that the table of splits states."""
        return sum(int(item.data["rows"]) for item in items)


def _is(feature: Any, name: str) -> bool:
    """Says whether a feature is of a class of the library, or of one derived from it (LabeledImage)."""
    return any(kind.__name__ == name for kind in type(feature).__mro__)


def _folder(root: str) -> str:
    """Returns the folder below `root` of the one prepared dataset.

    Raises: `UserError` when there is none, or several.
    """
    found = [os.path.dirname(path) for path in walk(root) if os.path.basename(path) == INFO]  # noqa: PTH119, PTH120
    if len(found) != 1:
        what = f"{len(found)} prepared datasets ({', '.join(map(readable, found[:5]))})" if found else f"no {INFO}"
        raise UserError(f"{readable(root)} holds {what}; give the folder of one version, as mnist/3.0.1")
    return found[0]


@functools.lru_cache(maxsize=4)
def _builder(folder: str) -> Any:
    """Reads a prepared dataset's tables.

    Raises: `UserError` when they are damaged, or the library is not installed.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError("this source needs TensorFlow Datasets: install the [tfds] extra") from error
    try:
        with _tables(folder) as tables:
            builder = tensorflow_datasets.builder_from_directory(tables)
            _ = builder.info.splits, builder.info.features  # reads what it needs
    except Exception as error:  # the library raises many types for damaged tables
        raise UserError(f"{readable(folder)} is no prepared dataset: {str(error).splitlines()[0]}") from error
    form = builder.info.file_format.value
    if form not in ("tfrecord", "array_record"):
        raise UserError(f"{readable(folder)} is stored as {form}, expected tfrecord or array_record")
    return builder


@contextmanager
def _tables(folder: str) -> Iterator[str]:
    """Gives a local folder with a prepared dataset's tables: the folder itself, or of a URL a copy without records."""
    if not places.is_url(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="visent-") as copy:
        for name in places.names_in(folder):
            if name.endswith((".json", ".txt")):
                Path(copy, name).write_bytes(places.read(below(folder, name)))
        yield copy


def _records(path: str) -> Iterator[bytes | Fault]:
    if "array_record" not in os.path.basename(path):  # noqa: PTH119
        yield from records(path)
        return
    from array_record.python.array_record_module import ArrayRecordReader

    if not places.exists(path):
        yield Fault(reason="missing", detail="gone, or never fetched", last=True)
        return
    try:
        with places.local_file(path) as local:  # its reader opens the file itself
            reader = ArrayRecordReader(local)
            for first in range(0, reader.num_records(), ROWS_AT_ONCE):
                yield from reader.read(first, min(first + ROWS_AT_ONCE, reader.num_records()))
            if not reader.ok():
                yield Fault(reason="unreadable", last=True)
    except (RuntimeError, IndexError) as error:
        yield Fault(reason="unreadable", detail=str(error).partition("\n")[0], last=True)
