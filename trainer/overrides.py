"""Typed changes to a configuration from the command line: `stages.images.steps=100`, or `stages.*.steps=100`."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.config import ComputeConfig, RunConfig
from visent.errors import UserError, unknown

_ALL = "*"
_NOT_TO_BE_SET = {
    "recipe": "the recipe is the command's first argument",
    "classify": "only `visent classify` has these settings",
    "model.codebook_size": "it is that of the shards' tokenizer",
    "model.codebook_width": "it is that of the shards' tokenizer",
}
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def apply(config: RunConfig, changes: Iterable[str]) -> RunConfig:
    """Returns `config` with every `path=value` applied; values are read as the type that the field has.

    `*` names all stages; what is set for one stage by its name comes before it. Several changes to one object are made
    together, so that their order cannot matter to its checks.

    Raises:
        UserError: a path or a value is wrong; says which names and types there are.
    """
    tree: dict[str, Any] = {}
    for change in changes:
        path, equals, value = change.partition("=")
        if not equals or not path:
            raise UserError(f"--set {change!r}: expected path=value, such as stages.images.steps=100")
        _insert(tree, path, value)
    changed: RunConfig = _change(config, tree, "")
    return changed


def apply_to_compute(config: RunConfig, changes: Iterable[str]) -> ComputeConfig:
    """Returns how a saved run is computed with every `compute.x=value` applied; nothing else of it can change.

    Raises:
        UserError: as `apply`, or a change is of something else.
    """
    changes = list(changes)
    if others := [change for change in changes if not change.startswith("compute.")]:
        raise UserError(f"--set {others[0]}: expected a setting of compute; all else is as the run was trained")
    return apply(config, changes).compute


def _insert(tree: dict[str, Any], path: str, value: str) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise UserError(f"--set {path}: {parent} was already given a value; name its fields instead")
    tree[last] = value


def _change(value: Any, tree: Mapping[str, Any], path: str) -> Any:
    """Changes a dataclass or a mapping of them, field by field."""
    if isinstance(value, Mapping):
        names, current = list(value), dict(value)
        tree = _for_all(tree, names, path)
    else:
        names = [f.name for f in dataclasses.fields(value)]
        current = {name: getattr(value, name) for name in names}
    changed = {}
    for name, change in tree.items():
        where = f"{path}.{name}".lstrip(".")
        if name not in current:
            raise unknown("setting", where, [f"{path}.{known}".lstrip(".") for known in names])
        if where in _NOT_TO_BE_SET and not dataclasses.is_dataclass(current[name]):
            raise UserError(f"--set {where}: {_NOT_TO_BE_SET[where]}; leave it out")
        changed[name] = _new_value(value, name, current[name], change, where)
    return {**current, **changed} if isinstance(value, Mapping) else dataclasses.replace(value, **changed)


def _for_all(tree: Mapping[str, Any], names: Iterable[str], path: str) -> Mapping[str, Any]:
    """Gives what is set under `*` to every name that is not given another value."""
    if _ALL not in tree:
        return tree
    everywhere = tree[_ALL]
    own = {name: change for name, change in tree.items() if name != _ALL}
    if not isinstance(everywhere, dict) or not all(isinstance(change, dict) for change in own.values()):
        raise UserError(f"--set {path}.*: expected one of its fields, such as {path}.*.steps=100")
    return {**own, **{name: {**everywhere, **own.get(name, {})} for name in names}}


def _new_value(owner: Any, name: str, old: Any, change: Any, where: str) -> Any:
    nested = isinstance(old, Mapping) or dataclasses.is_dataclass(old)
    if nested != isinstance(change, dict):
        expected = f"one of its fields, such as {where}.{_first_field(old)}=..." if nested else "a single value"
        raise UserError(f"--set {where}: expected {expected}")
    if nested:
        return _change(old, change, where)
    return parse(change, typing.get_type_hints(type(owner))[name], where)


def _first_field(value: Any) -> str:
    return str(next(iter(value))) if isinstance(value, Mapping) else dataclasses.fields(value)[0].name


def parse(text: str, kind: Any, where: str) -> Any:
    """Reads `text` as a value of the annotation `kind`: int, float, bool, str, a Literal, or one of these or None."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if type(None) in options and text.lower() in ("none", "null"):
        return None
    plain = next(option for option in options if option is not type(None))
    try:
        return _parse_plain(text, plain)
    except ValueError:
        raise UserError(f"--set {where}={text}: expected {_describe(plain)}") from None


def _parse_plain(text: str, kind: Any) -> Any:
    if typing.get_origin(kind) is typing.Literal:
        if text not in typing.get_args(kind):
            raise ValueError(text)
        return text
    if kind is bool:
        if text.lower() not in _WORDS:
            raise ValueError(text)
        return _WORDS[text.lower()]
    if kind is int:
        return int(text.replace("_", ""))
    return kind(text)


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(typing.get_args(kind))
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
