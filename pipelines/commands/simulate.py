"""`visent plan simulate`."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipelines.planning.choices import Choice


@click.command()
@click.argument("plan", metavar="PLAN.json")
@click.option("--workers", default="10,100,1000", show_default=True, metavar="N,...", help="Machines with one "
              "accelerator.")  # fmt: skip
@click.option("--rows-per-shard", metavar="N,...", help="Sizes of a unit; by default the plan's.")
@click.option("--preemptions", type=float, default=0.0, show_default=True, metavar="RATE",
              help="Of one machine in an hour, on average.")  # fmt: skip
@click.option("--slow", type=float, default=0.0, show_default=True, metavar="PART", help="Of the machines are slow.")
@click.option("--slow-factor", type=float, default=2.0, show_default=True, help="Times longer that these take.")
@click.option("--spread", type=float, default=0.1, show_default=True,
              help="Of the units' times: deviation of their logarithm.")  # fmt: skip
@click.option("--start", type=float, default=300.0, show_default=True, metavar="SECONDS",
              help="Until a machine that was asked for has its tokenizer.")  # fmt: skip
@click.option("--replace", type=float, default=120.0, show_default=True, metavar="SECONDS",
              help="Until another machine is found for one that was taken.")  # fmt: skip
@click.option("--per-unit", type=float, default=2.0, show_default=True, metavar="SECONDS",
              help="Besides its rows: opening, receipt, log.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--days", type=float, metavar="N", help="Mark what is cheapest and takes at most so long.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts in place of a table.")
def simulate(
    plan: str, workers: str, rows_per_shard: str | None, days: float | None, as_json: bool, **fleet: Any
) -> None:
    """Simulate the job of a plan: what unit sizes, worker counts, slow machines and preemptions make of it.

    A preempted worker loses the unit it was at: a shard is whole or not there. Cost is that of all hours from asking
    for the workers to the job's end, at the plan's prices.

    \b
    Example:
      visent plan simulate plan.json --workers 50,100,200 --rows-per-shard 1000,10000,50000 --preemptions 0.05
    """
    import json

    from pipelines.planning.choices import best, choices, load_saved

    found = choices(load_saved(plan), _numbers("--workers", workers),
                    _numbers("--rows-per-shard", rows_per_shard) if rows_per_shard else [], fleet)  # fmt: skip
    chosen = best(found, days)
    if as_json:
        click.echo(json.dumps([{**choice.to_json(), "chosen": choice is chosen} for choice in found], indent=1))
        return
    show(found, chosen)
    if chosen is None:
        click.echo(f"none of these ends within {days:g} days: allow more workers, or more days")


def _numbers(option: str, text: str) -> list[int]:
    from visent.errors import UserError

    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UserError(f"{option} is {text!r}, expected whole numbers with commas between them, as 50,100,200")
    return numbers


def show(found: "list[Choice]", chosen: "Choice | None") -> None:
    """Prints the choices as a table; the chosen one is marked."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", box=None, header_style="bold", pad_edge=False)
    names = ("workers", "rows/shard", "shards", "unit", "days", "paid hours", "lost", "starting", "idle", "useful")
    for name in (*names, *(["cost"] if found[0].cost is not None else [])):
        table.add_column(name, justify="right")
    for choice in found:
        out = choice.outcome
        cost = [] if choice.cost is None else [f"{choice.cost:,.0f} {choice.currency}"]
        parts = [f"{part / out.paid:.1%}" for part in (out.lost, out.starting, out.idle, out.useful)]
        table.add_row(
            "→" if choice is chosen else "", f"{choice.workers:,}", f"{choice.rows_per_shard:,}", f"{out.units:,}",
            f"{choice.unit_seconds:,.0f} s", f"{out.wall / 24:,.2f}", f"{out.paid:,.0f}", *parts, *cost,
            style="bold" if choice is chosen else "",
        )  # fmt: skip
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)
