"""Tars of samples: `key.jpg`, `key.txt`, `key.json` side by side."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import option
from pipelines.sources.files import IMAGE_ENDINGS, below, keys_of, listed, readable
from pipelines.sources.table import Table, named
from pipelines.sources.tars import TAR_ENDINGS, Sample, count_of, samples
from visent.untrusted.documents import parse_json


@dataclass(frozen=True, kw_only=True)
class Webdataset(Table):
    """Any tars of samples: each sample with a picture is a row of role `image`, each tar one shard.

    <root>/**/*.tar with <key>.jpg, <key>.txt, <key>.json as neighbours

    The row's key is the `uid` of its json, as DataComp has it, else the tar's name and the sample's key. Rows stand in
    the tar's order.
    """

    columns: tuple[str, ...] = option((), "ROLE=ENDING of pictures, the input first: image=jpg,depth=depth.png.")
    key_column: str | None = option(None, "Field of the json that names a row; else its uid, or tar and sample.")
    meta: tuple[str, ...] = option(("member", "caption"), "Fields of the json to keep in meta; the txt is caption.")

    items_per_shard: ClassVar[int] = 1

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the tars with their sizes."""
        return tars_below(self.root)

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Gives each sample's pictures as bytes; where a tar is cut, everything before the cut and one reject."""
        source = readable(item.files["tar"])
        cut: list[str] = []
        for sample in samples(below(self.root, item.files["tar"]), cut):
            yield self.of_sample(sample, f"{item.key}/{readable(sample.key)}", source)
        yield from cut_reject(item, cut)

    def of_sample(
        self, sample: Sample, key: str, source: str, known: Mapping[str, Any] = MappingProxyType({})
    ) -> Example | Reject:
        """Makes an example of a sample: its members, the fields of its json and what else is `known` are columns."""
        if sample.fault:
            return Reject(key=key, source=source, stage="read", reason=sample.fault, detail=sample.detail)
        row = {**known, **row_of(sample)}
        uid = row.get("uid")
        if self.key_column is None and isinstance(uid, str) and uid:
            key = readable(uid)
        columns = {role: f".{end.lower().lstrip('.')}" for role, end in named(self.columns, "--columns").items()}
        if not columns:
            pictures = [ending for ending in sample.members if ending in IMAGE_ENDINGS]
            if len(pictures) != 1:
                reason = "several-images" if pictures else "no-image"
                return Reject(key=key, source=source, stage="read", reason=reason, detail=held(sample))
            columns = {"image": pictures[0]}
        row["member"] = readable(sample.key) + next(iter(columns.values()))
        return self.example(key, source, row, columns)

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Counts the pictures of the first tar and scales by size."""
        return pictures_in(self.root, items)


def tars_below(root: str) -> Iterator[Item]:
    """Lists the tars below a folder, the key is the path without ending; other files are expected beside them."""
    for key, path in keys_of(listed(root, TAR_ENDINGS, "tars", Counter())).items():
        yield Item(key=key, files={"tar": path}, size=places.size_of(below(root, path)))


def pictures_in(root: str, items: Sequence[Item], endings: frozenset[str] = IMAGE_ENDINGS) -> int | None:
    """Counts the members of the first tar and scales by size."""
    if not items:
        return 0
    count = count_of(below(root, items[0].files["tar"]), endings)
    return None if count is None else round(count * sum(item.size for item in items) / max(items[0].size, 1))


def cut_reject(item: Item, cut: Sequence[str]) -> Iterator[Reject]:
    """Gives the reject of a tar that does not end as it must."""
    for detail in cut:
        yield Reject(key=item.key, source=readable(item.files["tar"]), stage="read", reason="tar-cut", detail=detail)


def held(sample: Sample) -> str:
    """Says what a sample holds."""
    return f"the sample holds {' '.join(readable(ending) for ending in sample.members)}"


def row_of(sample: Sample) -> dict[str, Any]:
    """Returns a sample's columns: members by ending, the fields of its json, and `caption` of the txt."""
    row: dict[str, Any] = dict(json_of(sample))
    if ".txt" in sample.members:
        row.setdefault("caption", sample.members[".txt"].decode("utf-8", errors="replace"))
    return {**row, **sample.members}


def json_of(sample: Sample) -> Mapping[str, Any]:
    """Returns a sample's json; a damaged one has no fields, and the row then has the sample's own key."""
    try:
        value = parse_json(sample.members.get(".json", b"{}"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
