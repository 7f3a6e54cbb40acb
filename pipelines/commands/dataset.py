"""`visent tokenize NAME` for each dataset of the catalog, built from the fields of its class."""

import dataclasses
import inspect
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click

from pipelines.commands.common import (
    FOLDER,
    beam_arguments,
    holdout_option,
    items_per_shard_option,
    names_in,
    run_job,
    source_options,
)
from pipelines.sources.catalog import dataset_class
from pipelines.sources.dataset import Dataset, DatasetSource


def dataset_command(name: str) -> click.Command:
    """Builds the command of a dataset: --root, --split, one option for each field, and those that all sources have."""
    cls = dataset_class(name)

    def run(beam: tuple[str, ...], root: str, split: str, items_per_shard: int, **options: Any) -> None:
        stray, beam_options = beam_arguments(beam)
        if stray:
            raise click.UsageError(f"unexpected {stray[0]!r}; give the folder as --root, and Beam options after --")
        fields = {field.name: _value(cls, field.name, options.pop(field.name)) for field in _fields(cls)}
        dataset = cls(root=root, **fields)  # type: ignore[call-arg]
        source = DatasetSource(name=name, dataset=dataset, items_per_unit=items_per_shard, splits=names_in(split))
        run_job(source, beam_options, **options)

    command: Any = source_options(holdout_option(items_per_shard_option(cls.items_per_shard, "Items")(run)))
    for field in reversed(_fields(cls)):
        command = _option(cls, field)(command)
    text = f"Of {', '.join(cls.splits)}; without it, those that are there."
    command = click.option("--split", default="", metavar="NAMES", help=text)(command)
    command = click.option(
        "--root", required=True, type=FOLDER, help="Folder of the dataset, as laid out above; or a URL."
    )(command)
    command = click.argument("beam", nargs=-1, metavar="[-- BEAM OPTIONS]")(command)
    return click.command(name, help=_help(name, cls))(command)  # type: ignore[no-any-return]


def _help(name: str, cls: type[Dataset]) -> str:
    about, *rest = inspect.cleandoc(cls.__doc__ or name).split("\n\n")
    layout = "\n\n".join("\b\n" + part for part in rest)
    return f"{about}\n\n{layout}\n\n\b\nExample:\n  visent tokenize {name} --root {name}/ --out corpus/{name}"


def _fields(cls: type[Dataset]) -> list[Any]:
    return [field for field in dataclasses.fields(cls) if field.name != "root"]  # type: ignore[arg-type]


def _option(cls: type[Dataset], field: Any) -> Any:
    """Declares the option of a field by its type: a flag, a choice, a number, text, or several of a kind."""
    flag, hint = "--" + field.name.replace("_", "-"), _plain(get_type_hints(cls)[field.name])
    text = field.metadata.get("help", "")
    default = field.default
    if hint is bool:
        both = f"{flag}/--no-{flag.removeprefix('--')}" if default else flag
        return click.option(both, is_flag=True, default=default, show_default=default, help=text)
    if get_origin(hint) is tuple:
        return click.option(flag, default=",".join(default), show_default=bool(default), metavar="NAMES", help=text)
    kind = click.Choice(get_args(hint)) if get_origin(hint) is Literal else hint
    return click.option(flag, type=kind, default=default, show_default=default is not None, help=text)


def _plain(hint: Any) -> Any:
    """Takes `None` out of an optional type."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def _value(cls: type[Dataset], name: str, value: Any) -> Any:
    if get_origin(_plain(get_type_hints(cls)[name])) is tuple:
        return names_in(value)
    return value
