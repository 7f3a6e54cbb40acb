"""TOML files that describe something, as the dataclass of what they may say."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from visent.errors import UserError, unknown
from visent.untrusted.documents import parse_toml

Kind = TypeVar("Kind")


def read_fields(path: Path, kind: type[Kind], described: str) -> Kind:
    """Reads a TOML file of a dataclass's fields, which are text, numbers, truth values, or tuples of one of these.

    `described` says where the fields are described.

    Raises:
        UserError: it is missing or no TOML, a field is unknown, missing, or of another type, or what the dataclass
            itself raises.
    """
    try:
        given = parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is no TOML: {error}") from error
    known = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise UserError(f"{path}: {unknown('key', name, known)}")
    for name, default in known.items():
        if default is dataclasses.MISSING and name not in given:
            raise UserError(f"{path} lacks {name}; see {described}")
    try:
        hints = get_type_hints(kind)
        return kind(**{name: _value(name, value, hints[name]) for name, value in given.items()})
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _value(name: str, value: Any, hint: Any) -> Any:
    """Returns a value as its field's type."""
    kind = get_args(hint)[0] if get_args(hint) else hint
    parts = value if get_args(hint) and isinstance(value, list) else [value]
    if kind is float:
        parts = [float(part) if isinstance(part, int) and not isinstance(part, bool) else part for part in parts]
    if (isinstance(value, list) != bool(get_args(hint))) or any(type(part) is not kind for part in parts):
        wanted = f"a list of {kind.__name__}" if get_args(hint) else f"one {kind.__name__}"
        raise UserError(f"{name} is {value!r}, expected {wanted}")
    return tuple(parts) if get_args(hint) else parts[0]
