"""`visent plan`: what a job of `visent tokenize` would take."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pipelines.commands.common import PLANNED
from pipelines.commands.tokenize import SourceGroup

if TYPE_CHECKING:
    from pipelines.job import Job
    from pipelines.planning.plan import Plan

OPTIONS = [
    click.option("--prices", metavar="FILE", help="Prices and chips, as docs/prices.toml; without it, for what is "
                 "here."),
    click.option("--accelerator", metavar="NAME", help="Of the price file; --gpu and --tpu name one, too."),
    click.option("--rate", type=float, metavar="IMAGES/S", help="That one accelerator encodes, as you measured it."),
    click.option("--probe", type=click.IntRange(min=1), default=1000, show_default=True,
                 help="Examples to read and decode."),
    click.option("--encode-seconds", type=float, default=30.0, show_default=True, help="Stop encoding them after this "
                 "time: what is left is decoded only."),
    click.option("--examples", type=click.IntRange(min=1), metavar="N", help="Plan for so many examples like those "
                 "that are here."),
    click.option("--save", metavar="FILE.json", help="Keep the plan, for `visent plan simulate`."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts in place of a table."),
]  # fmt: skip
NAMES = ("prices", "accelerator", "rate", "probe", "encode_seconds", "examples", "save", "as_json")


class PlanGroup(SourceGroup):
    """The sources as commands that plan, and `simulate`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns `simulate` and the names of all sources."""
        return ["simulate", *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Turns a source's command into one that plans."""
        if cmd_name == "simulate":
            from pipelines.commands.simulate import simulate

            return simulate
        command = super().get_command(ctx, cmd_name)
        return None if command is None else _planning(command)


@click.group(cls=PlanGroup, context_settings={"help_option_names": ["-h", "--help"]})
def plan() -> None:
    """Say what `visent tokenize` would take: images, accelerator hours, bytes, shards and cost.

    Takes the command line of `visent tokenize`, reads, decodes and encodes a few examples of the source, and writes
    nothing. Where the job is to run counts by --gpu or --tpu only. `visent plan simulate` then shows what unit sizes,
    worker counts and preemptions make of it.

    \b
    Examples:
      visent plan folder photos/ --probe 200
      visent plan webdataset --root tars/ --gpu l4 --prices docs/prices.toml --examples 1400000000 --save plan.json
      visent plan simulate plan.json --workers 50,100,200 --preemptions 0.05
    """


def _planning(command: click.Command) -> click.Command:
    """Returns a source's command with the options of a plan, which plans its job in place of running it."""
    run = command.callback
    assert run is not None

    def planned(**options: Any) -> None:
        settings = {name: options.pop(name) for name in NAMES}
        click.get_current_context().meta[PLANNED] = lambda job, cloud: _plan(job, cloud, **settings)
        run(**{**options, "out": options["out"] or "planned"})

    params = [copy.copy(param) for param in command.params]
    for param in params:
        if param.name == "out":
            param.required = False
    result = click.Command(command.name, callback=planned, params=params, context_settings=command.context_settings,
                           help=(command.help or "").replace("visent tokenize", "visent plan"))  # fmt: skip
    for option in reversed(OPTIONS):
        result = _added(option, result)
    return result


def _added(option: Callable[[Any], Any], command: click.Command) -> click.Command:
    """Adds an option to a command, before those that it has."""
    there = command.params
    command.params = []
    option(command)
    command.params = [*command.params, *there]
    return command


def _plan(
    job: "Job", cloud: dict[str, Any], *, prices: str | None, accelerator: str | None, rate: float | None, probe: int,
    encode_seconds: float, examples: int | None, save: str | None, as_json: bool,
) -> None:  # fmt: skip
    import json

    from manifests import files
    from pipelines.planning.plan import make_plan
    from pipelines.planning.prices import load_prices
    from visent.errors import UserError

    if rate is not None and not rate > 0:
        raise UserError(f"--rate is {rate:g}; expected images per second above 0")
    made = make_plan(
        job, count=probe, encode_seconds=encode_seconds, rate=rate, examples=examples,
        prices=load_prices(prices) if prices else None, accelerator=accelerator or _of_cloud(cloud),
    )  # fmt: skip
    if save:
        files.write_json(save, made.to_json())
    if as_json:
        click.echo(json.dumps(made.to_json(), indent=1))
        return
    show(made)
    if save:
        click.echo(f"wrote {save}; try worker counts with `visent plan simulate {save}`")


def _of_cloud(cloud: dict[str, Any]) -> str | None:
    """Returns Google's name of the accelerator that --gpu or --tpu asks for."""
    from pipelines.runners.accelerators import gpu, tpu
    from visent.errors import UserError

    if cloud["gpu"] and cloud["tpu"]:
        raise UserError(f"--gpu {cloud['gpu']} and --tpu {cloud['tpu']}: a plan is for one or the other; leave one out")
    if cloud["gpu"]:
        return gpu(cloud["gpu"]).type
    return tpu(cloud["tpu"]).type if cloud["tpu"] else None


def show(plan: "Plan") -> None:
    """Prints a plan: each figure, and how it came about."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "value", "how", title=f"plan of {plan.name}", title_justify="left")
    table.columns[1].justify = "right"
    for row in [*_work(plan), *_costs(plan)]:
        table.add_row(*row)
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)
    for line in plan.sources:
        click.echo(f"  {line}")


def _work(plan: "Plan") -> list[tuple[str, str, str]]:
    found, amounts = plan.probe, plan.amounts
    rejects = ", ".join(f"{count} {reason}" for reason, count in found.rejects.items()) or "none"
    source = "unknown" if amounts.source_bytes is None else size(amounts.source_bytes)
    return [
        ("examples", f"{amounts.examples:,}", f"in {amounts.items:,} items {amounts.note}".rstrip()),
        ("rows", f"{plan.rows:,}", f"of {found.looked_at:,} examples probed, rejected: {rejects}"),
        ("images to encode", f"{plan.images:,}", f"{found.pictures_per_example:g} of each row, all roles and frames"),
        ("operations", f"{plan.images * found.flops_per_picture:.3g} FLOP",
         f"{found.flops_per_picture / 1e9:.4g} GFLOP each, {found.precision}"),
        ("images/s of one", f"{plan.images_per_second:,.1f}", f"limited by {plan.bound}; {plan.how}"),
        (f"time of one {plan.accelerator}", time_of(plan.hours), "images / (images/s), start-up and waste apart"),
        ("decoding here", f"{1 / max(found.decode_per_picture, 1e-9):,.0f} images/s",
         f"of one core; the plan has {plan.vcpus:g} for each accelerator"),
        ("encoding here", f"{found.images_per_second:,.1f} images/s", f"{found.encoded:,} images on {found.device}"),
        ("read", source, "of the source by workers, each byte once"),
        ("shuffled", size(amounts.shuffled_bytes), "descriptions of units; pixels and codes stay inside a worker"),
        ("shards", f"{amounts.shards:,}", f"{plan.rows_per_shard:,.0f} rows, "
         f"{size(plan.rows_per_shard * found.bytes_per_row)} each"),
        ("written", size(plan.storage_bytes), f"{found.bytes_per_row:,.0f} bytes of each row"),
    ]  # fmt: skip


def _costs(plan: "Plan") -> list[tuple[str, str, str]]:
    if plan.costs is None or plan.cost is None:
        return []
    parts = ", ".join(f"{name} {cost:,.2f}" for name, cost in plan.costs.items())
    rows = [(f"cost, {plan.currency}", f"{plan.cost:,.2f}", parts)]
    if plan.storage_month:
        rows.append((f"keeping it, {plan.currency} a month", f"{plan.storage_month:,.2f}", "the shards alone"))
    return rows


def time_of(hours: float) -> str:
    """Returns hours, or what is short in minutes."""
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def size(count: float | int) -> str:
    """Returns bytes with three digits and a decimal unit."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} PB"
