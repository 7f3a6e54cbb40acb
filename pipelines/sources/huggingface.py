"""Datasets of Hugging Face's library `datasets`: saved to a folder, files in a folder, or streamed from the hub."""

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import option
from pipelines.sources.files import below, checked_root, readable, walk
from pipelines.sources.table import Table, chosen_columns, named, split_of
from visent.errors import UserError, unknown

ROWS_PER_ITEM = 2048  # of a dataset that was saved to a folder
MOST_ITEMS = 10_000  # of a split that is streamed


@dataclass(frozen=True, kw_only=True)
class HuggingFace(Table):
    """Any dataset of Hugging Face's library: a folder, or with --root NAME/DATASET one that is streamed from the hub.

    <root>/dataset_dict.json or state.json, as save_to_disk writes
    <root>/**/*.parquet, *.tar, pictures in folders of classes: what load_dataset recognises

    The first class label is in meta as "class" and "class_index". A row's key is the publisher's split and the row's
    place in it. What is streamed is never stored; a dataset of the hub is read at the commit that the listing found.
    """

    config: str | None = option(None, "Of the dataset, where it has several.")
    revision: str | None = option(None, "Branch, tag or commit on the hub.")
    publisher_splits: tuple[str, ...] = option((), "Names of the publisher's splits to read; without it, all.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    items_per_shard: ClassVar[int] = 1

    def located(self) -> "HuggingFace":
        """Makes a folder's path absolute; the name of a dataset on the hub stays as it is."""
        return replace(self, root=checked_root(self.root)) if self._is_folder else self

    @property
    def _is_folder(self) -> bool:
        named = self.root.count("/") > 1 or self.root.startswith((".", "/"))  # more slashes than a name: a URL, too
        return named or places.exists(self.root)

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists runs of rows of what was saved, or shards of what is streamed."""
        commit = None if self._is_folder else _commit(self.root, self.revision)
        files = _files_digest(self.root) if self._is_folder else None
        found = _opened(self.root, self.config, commit)
        for name in self.publisher_splits:
            if name not in found:
                raise unknown(f"split of {readable(self.root)}", name, found)
        for name, rows in found.items():
            if split_of(name) == split and name in (self.publisher_splits or found):
                self._columns(rows)
                data = {"split": name, "commit": commit, "files": files}
                yield from _runs(name, rows, data) if _is_saved(rows) else _shards(name, rows, data)

    def _columns(self, rows: Any) -> dict[str, str]:
        """Returns the column of each role after checking that all columns are there."""
        import datasets

        where, there = readable(self.root), list(rows.features or ())
        for column in (*filter(None, [self.key_column]), *named(self.meta, "--meta").values()):
            if column not in there:
                raise unknown(f"column of {where}", column, there)
        pictures = [name for name in there if isinstance(rows.features[name], datasets.Image)]
        pictures = pictures or [name for name in there if _holds_bytes(rows.features[name])]
        return chosen_columns(self.columns, pictures, there, where)

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Gives each row's pictures as bytes; the unreadable rest of an item of a folder is one reject.

        Raises: `UserError` when the hub cannot be reached: the shard is then made by the next run.
        """
        rows = _opened(self.root, self.config, item.data["commit"])[item.data["split"]]
        columns, source, number = self._columns(rows), item.data["split"], 0
        labels = _class_labels(rows.features)
        others = [*filter(None, [self.key_column]), *named(self.meta, "--meta").values()]
        wanted = dict.fromkeys([*columns.values(), *others, *labels])
        try:
            for row in _sound(_part(rows, list(wanted), item)):
                key = f"{item.key}/{number:08d}" if "shard" in item.data else _row_key(item, number)
                yield self._row(key, source, row, columns, labels)
                number += 1
        except Exception as error:  # the library raises many types, its own and those of its readers
            detail = str(error).partition("\n")[0]
            if not self._is_folder:
                raise UserError(f"{self.root} cannot be read on: {detail}; run the same command again") from error
            yield Reject(key=item.key, source=source, stage="read", reason="unreadable", detail=detail)

    def _row(
        self, key: str, source: str, row: Mapping[str, Any], columns: Mapping[str, str], labels: Mapping[str, Any]
    ) -> Example | Reject:
        embedded = {**row, **{column: _embedded(row[column], self.root) for column in columns.values()}}
        made = self.example(key, source, embedded, columns)
        if isinstance(made, Reject):
            return made
        for name, feature in labels.items():
            index = row[name]
            if isinstance(index, int) and 0 <= index < feature.num_classes:  # -1 is a test set's "unknown"
                made = replace(made, meta={"class": feature.int2str(index), "class_index": index, **made.meta})
        return made

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Adds the rows that are known; None for what is streamed without saying how many they are."""
        counts = [item.data["rows"] for item in items]
        return None if None in counts else sum(counts)


@functools.lru_cache(maxsize=2)
def _opened(root: str, config: str | None, commit: str | None) -> Mapping[str, Any]:
    """Opens a dataset's splits by the publisher's names; pictures stay encoded.

    Raises: `UserError` when there is none, it cannot be reached, or the library is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError("this source needs Hugging Face datasets: install the [huggingface] extra") from error
    saved = any(places.exists(below(root, name)) for name in ("dataset_dict.json", "state.json"))
    try:
        found = datasets.load_from_disk(root) if saved else _streamed(root, config, commit)
        splits = found if isinstance(found, dict) else {"train": found}
        return {str(name): _encoded(rows) for name, rows in splits.items()}
    except Exception as error:  # as above
        raise UserError(f"datasets cannot open {readable(root)}: {str(error).partition(chr(10))[0]}") from error


def _streamed(root: str, config: str | None, commit: str | None) -> Any:
    """Opens what is not saved; of a URL the library is told the files, as it looks for folders on disks alone."""
    import datasets

    if not places.is_url(root):
        return datasets.load_dataset(root, name=config, revision=commit, streaming=True)
    from datasets.data_files import DataFilesDict, get_data_patterns
    from datasets.load import infer_module_for_data_files

    found = DataFilesDict.from_patterns(get_data_patterns(root), base_path=root)
    builder, options = infer_module_for_data_files(found, path=root)
    if builder is None:
        raise UserError(f"{root} holds no files that datasets knows, such as parquet, tars or pictures")
    names = {str(split): list(paths) for split, paths in found.items()}
    # `builder` is one of the library's own readers, such as parquet: nothing comes from the hub.
    return datasets.load_dataset(builder, data_files=names, streaming=True, **options)  # nosec B615


def _files_digest(root: str) -> str:
    """Hashes names and sizes of the files below a folder, so that other files are noticed as another listing."""
    digest = hashlib.sha256()
    for path in walk(root):
        digest.update(f"{readable(path)}\0{places.size_of(below(root, path))}\n".encode())
    return digest.hexdigest()


def _encoded(rows: Any) -> Any:
    """Keeps pictures as the bytes they are stored as."""
    import datasets

    if not _is_saved(rows):
        return rows.decode(False)
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows


def _is_saved(rows: Any) -> bool:
    import datasets

    return isinstance(rows, datasets.Dataset)


def _commit(root: str, revision: str | None) -> str | None:
    """Returns the commit of a dataset on the hub.

    Raises: `UserError` when the hub does not know it, or cannot be reached.
    """
    try:
        import huggingface_hub

        return huggingface_hub.HfApi().dataset_info(root, revision=revision).sha
    except ImportError as error:
        raise UserError("this source needs Hugging Face datasets: install the [huggingface] extra") from error
    except Exception as error:  # of the network, of its client, and of the hub
        detail = str(error).partition("\n")[0]
        raise UserError(f"{root} is no folder here, and cannot be found on the hub: {detail}") from error


def _runs(split: str, rows: Any, data: Mapping[str, Any]) -> Iterator[Item]:
    for first in range(0, len(rows), ROWS_PER_ITEM):
        count = min(ROWS_PER_ITEM, len(rows) - first)
        yield Item(key=f"{split}/{first:08d}", files={}, data={**data, "row": first, "rows": count})


def _shards(split: str, rows: Any, data: Mapping[str, Any]) -> Iterator[Item]:
    count = min(rows.num_shards, MOST_ITEMS)
    stated = rows.info.splits[split].num_examples if rows.info.splits and split in rows.info.splits else None
    for shard in range(count):
        more = {"shard": [shard, count], "rows": None if stated is None else -(-stated // count)}
        yield Item(key=f"{split}/{shard:05d}-of-{count:05d}", files={}, data={**data, **more})


def _part(rows: Any, columns: Sequence[str], item: Item) -> Any:
    """Returns an iterable over the item's rows with these columns alone."""
    rows = rows.select_columns(columns)
    if "shard" in item.data:
        shard, count = item.data["shard"]
        return rows.shard(num_shards=count, index=shard)
    return rows.select(range(item.data["row"], item.data["row"] + item.data["rows"]))


def _sound(rows: Any) -> Any:
    """Checks that what is mapped from a file points nowhere but into the file: the library takes that for granted.

    Raises: an error of Arrow's.
    """
    if _is_saved(rows):
        rows.data.validate(full=True)
    return rows


def _row_key(item: Item, number: int) -> str:
    return f"{item.data['split']}/{item.data['row'] + number:08d}"


def _class_labels(features: Mapping[str, Any]) -> dict[str, Any]:
    import datasets

    found = [(name, feature) for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    return dict(found[:1])


def _holds_bytes(feature: Any) -> bool:
    """Says whether a column that is not declared to be of pictures may hold their files."""
    if isinstance(feature, Mapping):
        return "bytes" in feature and _holds_bytes(feature["bytes"])
    return getattr(feature, "dtype", "") in ("binary", "large_binary")


def _may_name(root: str, path: str) -> bool:
    """Says whether a cell may name a file: one of its own folder; of a dataset on the hub, any that is not here."""
    if not root.startswith("/") and not places.is_url(root):
        return places.is_url(path) and not path.startswith(("file:", "local:"))
    tops = [root] if places.is_url(root) else [root, os.path.realpath(root)]  # the library resolves links
    *above, file = (text.rpartition("://")[2].strip("/") + "/" for text in (*tops, path))
    return file.startswith(tuple(above)) and ".." not in file.split("/")


def _embedded(cell: Any, root: str) -> Any:
    """Reads the file that a cell names instead of holding its bytes; one that is not there is an empty cell."""
    if not isinstance(cell, Mapping) or cell.get("bytes") is not None or not cell.get("path"):
        return cell
    path = os.fspath(cell["path"])
    try:
        return places.read(path) if _may_name(root, path) else None
    except FileNotFoundError:
        return None
