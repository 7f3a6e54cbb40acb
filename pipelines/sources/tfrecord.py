"""TFRecord files of tf.train.Example messages."""

import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from PIL import Image

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.files import below, readable, walk
from pipelines.sources.table import Table, chosen_columns, named, split_of
from pipelines.sources.tfrecords import Fault, features, records
from tokenizer.images import FORMATS
from visent.errors import UserError, unknown

_NAMES = re.compile(r"\.(tfrecords?|tfrec)(\.gz|-\d+-of-\d+|$)|-\d+-of-\d+$", re.IGNORECASE)
PROBED = 20  # records of the first file that are read for the estimate


@dataclass(frozen=True, kw_only=True)
class TFRecord(Table):
    """TFRecord files: each Example with an encoded picture is a row of role `image`, each file one shard.

    <root>/**/*.tfrecord, .tfrec, .tfrecord-00000-of-00010, or <name>-00000-of-00010; plain or gzip

    Features are the columns (image/encoded, image/class/label). The split is the one that the path names
    (validation-00000-of-00128), else train. A row's key is its file and its number there.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    items_per_shard: ClassVar[int] = 1

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the files with their sizes, after a look into the first."""
        paths = [path for path in walk(self.root) if _NAMES.search(path) and split_of(path) == split]
        for record in islice(records(below(self.root, paths[0])), 1) if paths else ():
            if isinstance(record, bytes) and isinstance(row := features(record), dict):
                self._check(row, readable(paths[0]))
        for path in paths:
            yield Item(key=readable(path), files={"records": path}, size=places.size_of(below(self.root, path)))

    def _check(self, row: Mapping[str, Any], where: str) -> None:
        for column in (*filter(None, [self.key_column]), *named(self.meta, "--meta").values()):
            if column not in row:
                raise unknown(f"feature of {where}", column, sorted(row))
        self._columns(row, where)

    def _columns(self, row: Mapping[str, Any], where: str) -> dict[str, str]:
        """Returns the feature of each role."""
        pictures = [name for name, value in row.items() if is_picture(value)]
        if "image/encoded" in pictures:  # beside masks and the like
            pictures = ["image/encoded"]
        return chosen_columns(self.columns, sorted(pictures), sorted(row), where)

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Gives each record's pictures as bytes; where a file is cut, everything before the cut and one reject."""
        source = readable(item.files["records"])
        columns: dict[str, str] = {}
        for number, record in enumerate(records(below(self.root, item.files["records"]))):
            row = record if isinstance(record, Fault) else features(record)
            key = f"{item.key}/{number:08d}"
            if isinstance(row, Fault):
                key = item.key if row.last else key
                yield Reject(key=key, source=source, stage="read", reason=row.reason, detail=row.detail)
                continue
            try:
                columns = columns or self._columns(row, source)
            except UserError as error:  # this record is not as the first file's
                yield Reject(key=key, source=source, stage="read", reason="no-image", detail=str(error))
                continue
            yield self.example(key, source, row, columns)

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Reads the first records of the first file and scales by size."""
        if not items:
            return 0
        found = [len(one) for one in islice(records(below(self.root, items[0].files["records"])), PROBED)
                 if isinstance(one, bytes)]  # fmt: skip
        return round(sum(item.size for item in items) * len(found) / (sum(found) + 16 * len(found))) if found else None


def is_picture(value: Any) -> bool:
    """Says whether a value begins as an encoded picture does."""
    if not isinstance(value, bytes) or not value:
        return False
    try:
        Image.open(io.BytesIO(value), formats=FORMATS)
    except Exception:  # a parser's error on another kind of bytes may be of any type
        return False
    return True
