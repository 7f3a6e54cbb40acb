"""Samples of a tar (webdataset's layout): neighbouring members whose names agree up to the first dot of the file name.

https://github.com/webdataset/webdataset#the-webdataset-format
"""

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from pipelines.sources import places
from pipelines.sources.open_tar import open_tar
from pipelines.sources.reading import MAX_BYTES

TAR_ENDINGS = (".tar", ".tgz", ".tar.gz")
BLOCK = tarfile.BLOCKSIZE
MAX_MEMBERS = 1000  # of a sample
COUNTED = 64 << 20  # bytes of a tar that are looked through for an estimate
CUT = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, OSError)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Members of one key: ending in lower case (".jpg", ".seg.png") -> content.

    `fault` is a stable word, and `detail` a sentence, where the tar does not say for certain what belongs to the
    sample; it then has no members.
    """

    key: str
    members: Mapping[str, bytes] = field(default_factory=dict)
    fault: str = ""
    detail: str = ""


def samples(path: str, cut: list[str], wanted: Callable[[str], bool] | None = None) -> Iterator[Sample]:
    """Yields the samples in the order of the tar; only members whose name is `wanted` are read and given.

    A sample whose key came before is faulty ("key-again"): its members stand apart, or the sample is doubled. So is
    one that holds a name twice ("doubled-member"). Where the tar is cut or damaged, `cut` gets the reason.
    """
    seen: set[str] = set()
    for key, group in groupby(_members(path, cut, wanted), key=lambda member: key_of(member[0])):
        members = _bounded(group)
        if key in seen:
            yield Sample(key=key, fault="key-again", detail="members of this key stand elsewhere in the tar too")
        else:
            yield _sample(key, members)
        seen.add(key)


def _bounded(group: Iterator[tuple[str, bytes | None, str]]) -> list[tuple[str, bytes | None, str]]:
    """Returns a sample's members; those beyond the most bytes or members of a sample are let go, not gathered."""
    members: list[tuple[str, bytes | None, str]] = []
    held = 0
    for name, content, fault in group:
        held += len(content or b"")
        if held > MAX_BYTES:
            members = [(kept, None, why) for kept, _, why in members]
            content, fault = None, "too-large"
        if len(members) <= MAX_MEMBERS:
            members.append((name, content, fault))
    return members


def _sample(key: str, found: list[tuple[str, bytes | None, str]]) -> Sample:
    members: dict[str, bytes] = {}
    names: set[str] = set()
    if len(found) > MAX_MEMBERS:
        return Sample(key=key, fault="too-large", detail=f"over {MAX_MEMBERS} members")
    for name, content, fault in found:
        ending = ending_of(name)
        if ending in names:
            return Sample(key=key, fault="doubled-member", detail=f"two members end in {ending}")
        if fault:
            return Sample(key=key, fault=fault, detail=f"over {MAX_BYTES} bytes, up to the member ending in {ending}")
        names.add(ending)
        if content is not None:
            members[ending] = content
    return Sample(key=key, members=members)


def _members(
    path: str, cut: list[str], wanted: Callable[[str], bool] | None
) -> Iterator[tuple[str, bytes | None, str]]:
    """Yields (name, content, fault) of the files in a tar, None for content that is not wanted.

    `tarfile` takes a file that ends inside a header, or without the closing block of zeros, for a complete one; so the
    block where it stopped is looked at here.
    """
    try:
        with places.open_file(path) as file, open_tar(file) as tar:
            assert tar.fileobj is not None
            for member in tar:
                if member.isfile():
                    read = wanted is None or wanted(member.name)
                    fault = "too-large" if read and member.size > MAX_BYTES else ""
                    yield member.name, _content(tar, member) if read and not fault else None, fault
                tar.members = []  # type: ignore[attr-defined]  # tarfile remembers every member otherwise
            tar.fileobj.seek(tar.offset)
            block = tar.fileobj.read(BLOCK)
            if len(block) < BLOCK or any(block):
                cut.append(f"no end of archive at byte {tar.offset}: the file was cut or damaged there")
    except CUT as error:
        cut.append(str(error))


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    assert content is not None  # isfile() says so
    return content.read()


def key_of(name: str) -> str:
    """Everything before the first dot of the file name, folders included."""
    folder, base = os.path.split(name)
    return os.path.join(folder, base.split(".")[0])  # noqa: PTH118


def ending_of(name: str) -> str:
    """Everything from the first dot of the file name on, in lower case; "." where there is none."""
    return "." + os.path.basename(name).partition(".")[2].lower()  # noqa: PTH119


def is_whole(path: str) -> bool:
    """Says whether a tar ends as it must, without reading its members."""
    cut: list[str] = []
    for _ in samples(path, cut, wanted=lambda _: False):
        pass
    return not cut


def count_of(path: str, endings: frozenset[str]) -> int | None:
    """Guesses the members of some endings from the tar's first 64 MiB, for estimates; None for a damaged tar."""
    count = offset = 0
    try:
        size = places.size_of(path)
        with places.open_file(path) as file, open_tar(file) as tar:
            for member in tar:
                count, offset = count + (ending_of(member.name) in endings), tar.offset
                if offset > COUNTED:
                    return round(count * max(size / offset, 1))
    except CUT:
        return None
    return count
