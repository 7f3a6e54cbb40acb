"""Tars of samples, as img2dataset writes them for DataComp and LAION: `key.jpg`, `key.txt`, `key.json` side by side."""

import gzip
import json
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from pipelines.sources.base import Encoded, Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind
from pipelines.sources.files import IMAGE_ENDINGS, below, keys_of, listed, readable

TAR_ENDINGS = (".tar", ".tgz", ".tar.gz")
BLOCK = tarfile.BLOCKSIZE
_CUT = (tarfile.ReadError, EOFError, zlib.error, gzip.BadGzipFile, OSError)


@dataclass(frozen=True, kw_only=True)
class Webdataset(Dataset):
    """Any tars of samples: each sample with a picture is a row of role `image`, each tar one shard.

    <root>/**/*.tar with <key>.jpg, <key>.txt, <key>.json as neighbours

    The row's key is the tar's name and the sample's key, or the `uid` of its json, as DataComp has it. Rows stand in
    the tar's order.
    """

    root: str

    items_per_shard: ClassVar[int] = 1

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """One still picture."""
        return {"image": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the tars; their sizes count as listed, so that a tar fetched again is noticed."""
        found = listed(self.root, TAR_ENDINGS, "tars", Counter())  # the parquet and stats files beside are expected
        for key, path in keys_of(found).items():
            yield Item(key=key, files={"tar": path}, size=Path(below(self.root, path)).stat().st_size)

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Gives each sample's picture as bytes; where a tar is cut, everything before the cut and one reject."""
        return samples(item, Path(below(self.root, item.files["tar"])))

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Counts the members of the first tar and scales by size."""
        try:
            with tarfile.open(below(self.root, items[0].files["tar"])) as tar:
                names = [member.name for member in tar if _ending(member.name) in IMAGE_ENDINGS]
        except _CUT:
            return None
        return round(len(names) * sum(item.size for item in items) / max(items[0].size, 1))


def samples(item: Item, path: Path) -> Iterator[Example | Reject]:
    """Reads one tar from front to back and gives an example or a reject for each sample."""
    source = readable(item.files["tar"])
    cut: list[str] = []
    for key, members in groupby(_members(path, cut), key=lambda member: _key(member[0])):
        yield _sample(item, source, key, dict(members))
    if cut:
        yield Reject(key=item.key, source=source, stage="read", reason="tar-cut", detail=cut[0])


def _members(path: Path, cut: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yields (name, content) of the files in a tar; puts the reason into `cut` when it does not end as a tar must.

    `tarfile` takes a file that ends inside a header, or without the closing block of zeros, for a complete one; so the
    block where it stopped is looked at here.
    """
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile():
                    content = tar.extractfile(member)
                    assert content is not None  # isfile() says so
                    yield member.name, content.read()
                tar.members = []  # type: ignore[attr-defined]  # tarfile remembers every member otherwise
            assert tar.fileobj is not None
            tar.fileobj.seek(tar.offset)
            block = tar.fileobj.read(BLOCK)
            if len(block) < BLOCK or any(block):
                cut.append(f"no end of archive at byte {tar.offset}: the file was cut or damaged there")
    except _CUT as error:
        cut.append(str(error))


def _key(name: str) -> str:
    """Everything before the first dot of the file name, folders included (webdataset's rule)."""
    folder, base = os.path.split(name)
    return os.path.join(folder, base.split(".")[0])  # noqa: PTH118


def _ending(name: str) -> str:
    return "." + os.path.basename(name).partition(".")[2].lower()  # noqa: PTH119


def _sample(item: Item, source: str, key: str, members: Mapping[str, bytes]) -> Example | Reject:
    pictures = [name for name in members if _ending(name) in IMAGE_ENDINGS]
    row_key = f"{item.key}/{readable(key)}"
    if not pictures:
        held = " ".join(readable(_ending(name)) for name in members)
        return Reject(key=row_key, source=source, stage="read", reason="no-image", detail=f"the sample holds {held}")
    notes = next((_object(content) for name, content in members.items() if _ending(name) == ".json"), {})
    uid = notes.get("uid")
    meta: dict[str, Any] = {"member": readable(pictures[0])}
    if isinstance(uid, str) and uid:
        row_key = readable(uid)
    return Example(key=row_key, source=source, media={"image": Encoded(data=members[pictures[0]])}, meta=meta)


def _object(content: bytes) -> dict[str, Any]:
    """Reads a JSON object; a damaged one only loses the uid, and the row then has the sample's own key."""
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
