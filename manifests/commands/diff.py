"""`visent manifest diff`."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from manifests.compare import Amounts


@click.command("diff", short_help="Show what differs between two manifests.")
@click.argument("before")
@click.argument("after")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts in place of a table.")
def diff_command(before: str, after: str, as_json: bool) -> None:
    """Show what differs between two manifests: shares, views, sentences, tokens and epochs of each task.

    \b
    Example:
      visent manifest diff manifest.before.toml manifest.toml
    """
    import json

    from rich.table import Table

    from manifests import balance, tables
    from manifests.compare import compare
    from manifests.manifest import load

    first, second = load(before), load(after)
    found = compare(balance.analyse(first, balance.load_all(first)), balance.analyse(second, balance.load_all(second)))
    if as_json:
        click.echo(json.dumps([one.to_json() for one in found], indent=1))
        return
    table = Table("stage", "task", box=None, header_style="bold", pad_edge=False)
    for name in ("share", "views", "sentences", "tokens", "epochs"):
        table.add_column(name, justify="right")
    for one in found:
        if not one.same:
            cells = [_change(a, b) for a, b in zip(_cells(one.before), _cells(one.after), strict=True)]
            table.add_row(one.stage, one.task, *cells)
    same = sum(one.same for one in found)
    if table.row_count:
        tables.console().print(table)
    for name in dict.fromkeys([*first.stages, *second.stages]):
        old, new = (one.pieces(name) if name in one.stages else [] for one in (first, second))
        if old != new and max(len(old), len(new)) > 1:
            click.echo(f"the schedule of stage {name} differs")
    click.echo(f"{table.row_count} of {len(found)} differ, {same} are the same")


def _cells(amounts: "Amounts | None") -> list[str]:
    from manifests.tables import percent, si

    if amounts is None:
        return ["-"] * 5
    return [percent(amounts.share), str(amounts.views), f"{amounts.sentences:,.0f}", si(amounts.tokens),
            f"{amounts.epochs:.2f}"]  # fmt: skip


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"
