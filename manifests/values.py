"""Checks of a manifest's values; what they raise says which key it is about."""

import math
from collections.abc import Mapping
from typing import Any

from manifests.locate import LocatedError
from visent.errors import UserError, unknown


def floats(shares: Mapping[str, Any]) -> dict[str, float]:
    """Returns shares as floats, whole numbers too."""
    found = {}
    for name, share in shares.items():
        try:
            found[name] = float(share)
        except OverflowError:
            found[name] = math.inf
        if not math.isfinite(found[name]):
            raise LocatedError((name,), f"{name} is {str(share)[:20]}; expected a number that is not endless")
    return found


def table_of(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Returns the table under a key, empty where there is none."""
    table = value.get(key, {})
    if not isinstance(table, dict):
        raise UserError(f"{key} is {table!r}; expected a table, [{key}]")
    return table


def check_keys(where: str, entry: Any, known: tuple[str, ...], required: tuple[str, ...] = ()) -> None:
    """Refuses what is no table, has an unknown key, or lacks a required one."""
    if not isinstance(entry, dict):
        raise UserError(f"{where} is {entry!r}; expected a table with {', '.join(known)}")
    for key in entry:
        if key not in known:
            raise LocatedError((key,), str(unknown(f"key in {where}" if where else "table", key, known)))
    if missing := [key for key in required if key not in entry]:
        raise UserError(f"{where} lacks {', '.join(missing)}; expected {', '.join(required)}")


def check_types(where: str, entry: Mapping[str, Any], types: Mapping[str, type]) -> None:
    """Refuses a value of another type; a whole number is a number too."""
    names = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
    for key, wanted in types.items():
        accepted = (int, float) if wanted is float else (wanted,)
        value = entry.get(key)
        if key in entry and (not isinstance(value, accepted) or isinstance(value, bool)):
            raise LocatedError((key,), f"{where}: {key} is {value!r}; expected {names[wanted]}")


def check_choice(key: str, what: str, entry: Mapping[str, Any], choices: tuple[str, ...]) -> None:
    """Refuses a value that is none of the choices."""
    if key in entry and entry[key] not in choices:
        raise LocatedError((key,), str(unknown(what, entry[key], choices)))


def check_positive(what: str, value: int) -> None:
    """Refuses a number below 1."""
    if value < 1:
        raise UserError(f"{what} is {value}; expected 1 or more")
