"""Which line of a manifest an error is about."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from visent.errors import UserError

_HEADER = re.compile(r"^\s*(\[\[?)([^\[\]]+)\]")
_KEY = re.compile(r"""^\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*=""")


class LocatedError(UserError):
    """An error about the value at a path of keys, as ("tasks", "pose", "kind")."""

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


@contextmanager
def at(*path: str) -> Iterator[None]:
    """Says that what is raised inside is about this key; nested, the paths join."""
    try:
        yield
    except LocatedError as error:
        raise LocatedError((*path, *error.path), str(error)) from error
    except UserError as error:
        raise LocatedError(path, str(error)) from error


def line_of(text: str, path: tuple[str, ...]) -> int:
    """Returns the line (from 1) of a TOML text that sets the value at a path, or that of the nearest table around it.

    An entry of a list has its place as its key: ("stages", "s", "schedule", "0") is the first [[stages.s.schedule]].
    A key inside an inline table has the line of the table's own key, a table written key by key that of its first.
    """
    table: tuple[str, ...] = ()
    times: Counter[tuple[str, ...]] = Counter()  # each [[table]] so far
    best, line = 0, 1
    for number, content in enumerate(text.splitlines(), 1):
        if found := _HEADER.match(content):
            table = _keys(f"[{found[2]}]")
            if found[1] == "[[":
                times[table] += 1
                table = (*table, str(times[table] - 1))
            place = table
        elif found := _KEY.match(content):
            place = (*table, *_keys(f"{found[1]} = 0"))
        else:
            continue
        shared = min(len(place), len(path))
        if shared > best and place[:shared] == path[:shared]:
            best, line = shared, number
    return line


def _keys(text: str) -> tuple[str, ...]:
    """Reads the keys of a header or of an assignment."""
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return ()
    keys: list[str] = []
    while isinstance(value, dict) and value:
        keys.append(next(iter(value)))
        value = value[keys[-1]]
    return tuple(keys)
