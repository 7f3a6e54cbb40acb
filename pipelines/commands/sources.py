"""`visent sources`."""

import inspect

import click

from pipelines.sources.catalog import DATASETS, GENERAL, dataset_class
from visent.errors import unknown


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False)
def sources(name: str | None) -> None:
    """List what `visent tokenize` can read, or show the layout of one source.

    \b
    Example:
      visent sources
      visent sources coco
    """
    if name is None:
        _table()
    elif name in DATASETS:
        cls = dataset_class(name)
        click.echo(f"{inspect.cleandoc(cls.__doc__ or '')}\n\nsplits: {', '.join(cls.splits)}")
        click.echo(f"options: visent tokenize {name} --help")
    elif name in GENERAL:
        click.echo(f"options: visent tokenize {name} --help")
    else:
        raise unknown("source", name, (*GENERAL, *DATASETS))


def _table() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("source", "splits", "what it is")
    table.add_row("folder", "train", "Any folders of pictures; stills of videos too.")
    table.add_row("pairs", "train", "Any folders of pictures and annotations with the same file names.")
    for name in DATASETS:
        cls = dataset_class(name)
        about = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        table.add_row(name, " ".join(cls.splits), about)
    Console().print(table)
