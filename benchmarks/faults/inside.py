"""Damage inside of what is packed: the text in a gzip, a member of a tar or zip, the header of a safetensors file.

From outside, a checksum would tell of most of it before anything is believed; whoever lies packs it anew.
"""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable

Damage = Callable[[bytes], bytes]


def unpacked(data: bytes) -> Callable[[Damage], bytes] | None:
    """Returns what damages the inside of a file and packs it again; None for a file that is not packed."""
    for looks, change in ((_is_gzip, _in_gzip), (_is_tar, _in_tar), (_is_zip, _in_zip), (_is_tensors, _in_tensors)):
        if looks(data):
            return lambda damage, change=change: change(data, damage)
    return None


def _is_gzip(data: bytes) -> bool:
    return data[:2] == b"\x1f\x8b"


def _is_tar(data: bytes) -> bool:
    return data[257:262] == b"ustar"


def _is_zip(data: bytes) -> bool:
    return data[:4] == b"PK\x03\x04"


def _is_tensors(data: bytes) -> bool:
    return data[8:10] == b'{"' and struct.unpack("<Q", data[:8])[0] < len(data)


def _in_gzip(data: bytes, damage: Damage) -> bytes:
    text = gzip.decompress(data)
    inner = unpacked(text)
    return gzip.compress(inner(damage) if inner else damage(text), 1, mtime=0)


def _in_tar(data: bytes, damage: Damage) -> bytes:
    """Damages one member, drawn by the damage itself: the first whose content it changes."""
    written = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as whole, tarfile.open(fileobj=written, mode="w") as tar:
        members = [member for member in whole if member.isfile()]
        chosen = len(damage(bytes(64))) % max(len(members), 1)
        for number, member in enumerate(members):
            content = whole.extractfile(member).read()  # type: ignore[union-attr]
            content = damage(content) if number in (chosen, chosen + 1) else content
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return written.getvalue()


def _in_zip(data: bytes, damage: Damage) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(written, "w") as archive:
        names = whole.namelist()
        chosen = len(damage(bytes(64))) % max(len(names), 1)
        for number, name in enumerate(names):
            content = whole.read(name)
            archive.writestr(name, damage(content) if number == chosen else content)
    return written.getvalue()


def _in_tensors(data: bytes, damage: Damage) -> bytes:
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = damage(data[8:end])
    return struct.pack("<Q", len(header)) + header + data[end:]
