"""What the commands print: a table of figures, and the files that gave no picture."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tokenizer.listing import Reject


def print_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Prints names and values under a title."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # a digest is of no use with its end left out
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    Console().print(table)


def print_rejects(rejects: Sequence["Reject"]) -> None:
    """Lists every file that gave no picture, with the reason, on standard error."""
    from tokenizer.listing import readable

    for reject in rejects:
        click.echo(f"rejected {readable(reject.path)}: {reject.detail}", err=True)


def reject_rows(rejects: Sequence["Reject"]) -> list[tuple[str, str]]:
    """Returns rows for the table: how many were rejected, and for what."""
    from tokenizer.listing import by_reason

    return [("rejected", str(len(rejects))), *((f"  {why}", str(count)) for why, count in by_reason(rejects).items())]
