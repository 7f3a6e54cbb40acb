"""Reading the files of an item: bytes, or a reject that says why not."""

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.sources import places
from pipelines.sources.base import Encoded, Example, Item, Pixels, Reject
from pipelines.sources.files import below, readable
from pipelines.sources.trust import outside
from visent.errors import UserError
from visent.untrusted.documents import parse_json

MAX_BYTES = 1 << 30  # a "picture" of more than 1 GiB is none, and would break the memory bound
_parsing = threading.Lock()


def read_file(key: str, source: str, path: str) -> bytes | Reject:
    """Returns the bytes of a file, or a reject of stage "read"; `source` is its readable name."""
    try:
        size = places.size_of(path)
        if size > MAX_BYTES:
            return _reject(key, source, "too-large", f"over {MAX_BYTES} bytes")
        return places.read(path, size)
    except FileNotFoundError:
        return _reject(key, source, "missing", "gone since the listing")
    except OSError as error:
        return _reject(key, source, "unreadable", error.strerror or str(error))


def _reject(key: str, source: str, reason: str, detail: str) -> Reject:
    return Reject(key=key, source=source, stage="read", reason=reason, detail=detail)


def picture(data: bytes) -> Encoded:
    """A photo or a drawing as it is in its file."""
    return Encoded(data=data)


def drawing(decode: Callable[[bytes], Pixels], exact: bool = True) -> Callable[[bytes], Encoded]:
    """An annotation whose bytes `decode` draws in the worker's threads; `exact` when its colours mean something."""
    return lambda data: Encoded(data=data, decode=decode, exact=exact)


def example_of_files(
    root: str, item: Item, roles: Mapping[str, Callable[[bytes], Any]], meta: Mapping[str, Any] | None = None
) -> Example | Reject:
    """Makes an example of an item's files: `roles` says for each role what its bytes become, the input first.

    A role without a file is a reject of stage "list", reason "missing-<role>".
    """
    source = readable(next(iter(item.files.values())))
    media = {}
    for role, make in roles.items():
        if role not in item.files:
            return Reject(key=item.key, source=source, stage="list", reason=f"missing-{role}")
        if outside([item.files[role]]):
            return Reject(
                key=item.key, source=source, stage="list", reason="outside-root", detail=readable(item.files[role])
            )
        data = read_file(item.key, readable(item.files[role]), below(root, item.files[role]))
        if isinstance(data, Reject):
            return data
        media[role] = make(data)
    return Example(key=item.key, source=source, media=media, meta=dict(meta or {}))


def read_json(path: str) -> Any:
    """Returns the value of a JSON file.

    Raises: `UserError` when it is missing, unreadable or no JSON.
    """
    try:
        return parse_json(places.read(path))
    except OSError as error:
        raise UserError(f"cannot read {readable(path)}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{readable(path)} is no JSON ({error}); fetch it again") from error


def parsed_once(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Wraps a function of a path so that the threads of a process share its result; for annotation files of all items.

    The two used last are kept.
    """
    cached = functools.lru_cache(maxsize=2)(parse)

    @functools.wraps(parse)
    def locked(path: str) -> Any:
        with _parsing:  # four threads that ask at once must not parse four times
            return cached(path)

    return locked
