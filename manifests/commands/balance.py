"""`visent manifest balance`."""

from collections.abc import Sequence
from typing import Any

import click

from manifests.commands.options import JSON, PATH, PLAN, plans_of


@click.command("balance", short_help="Write shares by a target, and the views that close deficits.")
@PATH
@PLAN
@click.option("--target", metavar="NAME", help="Write shares: equal, proportional, temperature=T (0 to 1) or tokens.")
@click.option("--tokens", multiple=True, metavar="TASK=N", help="Wanted tokens of a task, for --target tokens.")
@click.option("--stage", help="Only this stage's shares.")
@click.option(
    "--close-with",
    type=click.Choice(["augment", "repeat", "mixed"]),
    help="augment: no row is seen twice; mixed: none over max-epochs; repeat: no views.",
)
@click.option("--max-views", type=int, help="Views of one example at most, the original included.")
@click.option("--max-epochs", type=float, help="How often one row may be seen.")
@click.option("--dry-run", is_flag=True, help="Decide and print, write nothing.")
@click.option("--plot", "plot_path", metavar="FILE.png", help="Draw shares before, after and wanted as a picture.")
@JSON
def balance_command(
    path: str,
    plans: tuple[str, ...],
    tokens: tuple[str, ...],
    as_json: bool,
    dry_run: bool,
    plot_path: str | None,
    **wanted: Any,
) -> None:
    """Balance tasks: write shares by a target, and how many augmented views each dataset needs, with the reasons.

    Without --target the shares stay. A task has a deficit when its planned sentences would read some row more than
    balance.max_epochs times. What is given here is written into the manifest; its comments and order stay. The views
    are then made by `visent tokenize --views-from MANIFEST`.

    \b
    Example:
      visent manifest balance manifest.toml --plot balance.png
      visent manifest balance manifest.toml --target temperature=0.5 --close-with mixed --max-epochs 4
      visent manifest balance manifest.toml --target tokens --tokens derain=14.02e9 --tokens pose=28.97e9
    """
    import json

    from manifests import tables
    from manifests.rebalance import Request, rebalance

    request = Request(sentences=plans_of(plans), tokens=_tokens(tokens), **wanted)
    before, after = rebalance(path, request, write=not dry_run)
    if plot_path:
        tables.plot(before, after, plot_path)
    if as_json:
        click.echo(json.dumps({"before": before.to_json(), "after": after.to_json()}, indent=1))
        return
    out = tables.console()
    out.print(
        "[bold]Before[/]", tables.report_table(before), "\n[bold]After[/]", tables.report_table(after), "", sep="\n"
    )
    if after.choices:
        out.print(tables.choices_table(after.choices))
    missing = [row.dataset for row in after.rows if row.views > row.views_made]
    if dry_run:
        out.print("\nNothing was written (--dry-run).")
    elif missing:
        names = ", ".join(dict.fromkeys(missing))
        out.print(f"\nViews of {names} are still to be made: visent tokenize --views-from {path}")
    if plot_path:
        out.print(f"Drew {plot_path}")


def _tokens(given: Sequence[str]) -> dict[str, float]:
    """Reads TASK=N options; N may be written 14.02e9."""
    result: dict[str, float] = {}
    for text in given:
        task, _, number = text.partition("=")
        try:
            result[task] = float(number)
        except ValueError:
            raise click.BadParameter(f"{text!r}; expected TASK=N, as pose=28.97e9", param_hint="--tokens") from None
    return result
