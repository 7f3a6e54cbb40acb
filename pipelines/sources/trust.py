"""What a dataset's own lists may not say: names of files that lead out of its root, and keys that are no text."""

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pipelines.sources.base import Item
from tokenizer.listing import readable
from visent.untrusted.documents import is_shallow
from visent.untrusted.names import stays_below

MOST_TIMES = 100  # that a gzip may unpack to, of its own size; lists of annotations pack 10 to 40 times, zeros 1,000
_FREE = 64 << 20  # bytes that any gzip may unpack to
_STEP = 1 << 20
MOST_KEY = 4096  # characters
MOST_META = 16 << 20  # bytes of one row's


def trusted(item: Item) -> Item:
    """Returns an item whose key is UTF-8, and that is a reject if one of its files leads out of the root."""
    if outside(filter(None, _paths(item.files.values()))):  # "" is the root itself
        item = replace(item, reject="outside-root")
    return item if _is_text(item.key) else replace(item, key=readable(item.key))


def outside(paths: Iterable[str]) -> str:
    """Returns the first of some paths that leads out of its root; "" when none does."""
    return next((path for path in paths if not stays_below(path)), "")


def fault_of(key: str, meta: Mapping[str, Any]) -> str:
    """Returns why a row cannot have this key and meta ("" when it can): no text, too long, too deep, no JSON."""
    if not _is_text(key) or len(key) > MOST_KEY:
        return "bad-key"
    try:
        text = json.dumps(meta, ensure_ascii=False, allow_nan=False).encode() if is_shallow(meta) else b""
    except (ValueError, TypeError):
        return "bad-meta"
    return "" if 0 < len(text) <= MOST_META else "bad-meta"


def _paths(values: Iterable[str | tuple[str, ...]]) -> Iterable[str]:
    return (path for value in values for path in ((value,) if isinstance(value, str) else value))


def _is_text(key: str) -> bool:
    try:
        return bool(key.encode())
    except UnicodeEncodeError:
        return False


def gunzip(data: bytes) -> bytes:
    """Unpacks gzip, of one part or several, unless it is a bomb.

    Raises:
        ValueError: it would unpack to more than 100 times its size, or is cut or damaged.
    """
    most = max(MOST_TIMES * len(data), _FREE)
    found = bytearray()
    left = data
    try:
        while left:
            part = zlib.decompressobj(wbits=31)
            while not part.eof:
                step = part.decompress(left, _STEP)
                left = part.unconsumed_tail or part.unused_data
                found += step
                if len(found) > most:
                    raise ValueError(f"{len(data):,} bytes of gzip unpack to more than {most:,}")
                if not step and not left and not part.eof:
                    raise ValueError("it is truncated")
            left = part.unused_data.lstrip(b"\0")
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(str(error)) from error
    return bytes(found)
