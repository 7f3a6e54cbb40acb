"""Large JSON files whose object holds long lists, as COCO's do: an entry is read alone, by where it stands.

A list of half a gigabyte takes several times that as Python objects. So the listing walks through it once, keeps what
it needs of each entry, and notes the bytes at which those entries stand that reading will ask for.
"""

import json
import mmap
import os
import re
from collections.abc import Collection, Generator, Iterator, Sequence
from typing import Any

from pipelines.sources import places
from pipelines.sources.files import readable
from visent.errors import UserError
from visent.untrusted.documents import parse_json

Span = list[int]  # first byte, and the byte after the last; a list, as JSON has no tuples

_SPACE = re.compile(r"[ \t\n\r]*")
_scan = json.JSONDecoder().raw_decode


def entries(path: str, lists: Collection[str]) -> Iterator[tuple[str, Any, Span]]:
    """Yields (list, entry, where it stands) of the lists of these names, in the order of the file.

    Raises: `UserError` when the file cannot be read or is no JSON object with these lists.
    """
    try:
        with places.at_hand(path) as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            text = str(data, "latin-1")  # a character for each byte: positions are those in the file
        yield from _members(text, set(lists))
    except OSError as error:
        raise UserError(f"cannot read {readable(path)}: {error.strerror}") from error
    except (ValueError, IndexError, RecursionError) as error:
        raise UserError(
            f"{readable(path)} is no JSON object with {', '.join(lists)} ({error}); fetch it again"
        ) from error


def _members(text: str, lists: set[str]) -> Iterator[tuple[str, Any, Span]]:
    """Walks through the members of the object and, of wanted ones, through the entries of the list."""
    at = _opened(text, _after_space(text, 0), "{")
    while text[at] != "}":
        name, at = _scan(text, at)
        at = _opened(text, _after_space(text, at), ":")
        if name in lists:
            lists.discard(name)
            at = yield from _list(text, at, name)
        else:
            _, at = _scan(text, at)
        at = _next(text, at, "}")
    if lists:
        raise ValueError(f"it lacks {', '.join(sorted(lists))}")


def _list(text: str, at: int, name: str) -> Generator[tuple[str, Any, Span], None, int]:
    """Yields the entries of the list that begins at `at`, and returns where it ends."""
    at = _opened(text, at, "[")
    while text[at] != "]":
        value, end = _scan(text, at)
        piece = text[at:end]
        yield name, value if piece.isascii() else parse_json(piece.encode("latin-1")), [at, end]
        at = _next(text, end, "]")
    return at + 1


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None  # it matches the empty text too
    return match.end()


def _opened(text: str, at: int, sign: str) -> int:
    if text[at] != sign:
        raise ValueError(f"expected {sign!r} at byte {at:,}")
    return _after_space(text, at + 1)


def _next(text: str, at: int, closing: str) -> int:
    """Returns where the next member begins, or where the closing sign stands."""
    at = _after_space(text, at)
    return at if text[at] == closing else _opened(text, at, ",")


def read_entries(path: str, spans: Sequence[Span]) -> list[Any]:
    """Reads the entries that stand at these bytes.

    Raises:
        OSError: the file cannot be read.
        ValueError: no JSON stands there (any more).
    """
    found = []
    with places.at_hand(path) as file:
        for start, end in spans:
            found.append(parse_json(os.pread(file.fileno(), end - start, start)))
    return found
