"""JSON and TOML from anywhere: whatever is wrong with a text is a `ValueError`, however it was made."""

import json
import tomllib
from collections.abc import Callable
from typing import Any

DEEPEST = 64  # lists and objects inside each other, of what goes into a row; the parsers themselves bear about 900


def parse_json(text: bytes | str, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Returns the value of a JSON text; `hook` is given each object and its result takes the object's place.

    Raises:
        ValueError: it is no JSON, no UTF-8, holds a number of thousands of digits, or is nested too deeply.
    """
    try:
        return json.loads(text, object_hook=hook)
    except RecursionError:
        raise ValueError("lists or objects nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Returns the table of a TOML text.

    Raises:
        ValueError: it is no TOML, or nested too deeply.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("arrays or tables nested too deeply") from None


def is_shallow(value: Any, deepest: int = DEEPEST) -> bool:
    """Tells whether no more than `deepest` lists and objects of a JSON value lie inside each other."""
    if isinstance(value, dict):
        return deepest > 0 and all(is_shallow(part, deepest - 1) for part in value.values())
    if isinstance(value, (list, tuple)):
        return deepest > 0 and all(is_shallow(part, deepest - 1) for part in value)
    return True
