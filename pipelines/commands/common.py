"""What every command that tokenizes has: its options, running the job, and the table at the end."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from pipelines.annotate.annotators import DRAWN, NETWORKS
from pipelines.commands.cloud import cloud_options, run_or_tell

if TYPE_CHECKING:
    from rich.table import Table

    from pipelines.sources.base import Source
    from pipelines.tokenize import Summary
    from pipelines.worklog import Totals

FOLDER = click.Path(file_okay=False)
PLANNED = "pipelines.planning.plan"  # where a context keeps what is to be done with a job in place of running it


def beam_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits what stands before `--` from the Beam options after it; click drops the `--` itself."""
    at = next((i for i, text in enumerate(arguments) if text.startswith("--")), len(arguments))
    return list(arguments[:at]), list(arguments[at:])


def names_in(text: str) -> tuple[str, ...]:
    """Reads an option that takes several names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that every source has."""
    options: list[Callable[[Any], Any]] = [
        click.option("--out", required=True, type=FOLDER, help="Folder of the dataset; its last part is the name."),
        click.option("--annotate", default="", metavar="NAMES",
                     help=f"Roles to draw, of {', '.join((*DRAWN, *NETWORKS))}; ROLE=FILE.toml runs an ONNX model."),
        click.option("--augment", default="crop,hflip", show_default=True, metavar="NAMES",
                     help="What later views may be: crop[=0.5], resize-crop[=400] or six-crops[=800]; hflip, vflip, "
                     "turn, rotate[=180]."),
        click.option("--format", "format_", type=click.Choice(["parquet", "arrayrecord"]), default="parquet",
                     show_default=True, help="Of the shards."),
        click.option("--tokenizer", default="default", show_default=True,
                     help="Its name, folder, checkpoint, gs:// URL or Hugging Face id."),
        click.option("--preset", metavar="NAME", help="How a picture becomes a square: crop or squash."),
        click.option("--precision", metavar="NAME", help="Of the network's arithmetic: float32, tf32, bfloat16, ..."),
        reject_option("Fail when more than this part of the examples cannot be read."),
    ]  # fmt: skip
    command = cloud_options(command)
    for option in reversed(options):
        command = option(command)
    return command


def reject_option(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds --max-reject-fraction, a part from 0 to 1."""
    return click.option("--max-reject-fraction", type=float, default=0.05, show_default=True, callback=_part, help=text)


def _part(_: click.Context, __: click.Parameter, value: float) -> float:
    if not 0 <= value <= 1:  # also nan
        raise click.BadParameter(f"{value:g}, expected a part of the examples, from 0 to 1")
    return value


def holdout_option(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --holdout."""
    text = 'Part of the items put into split "val", by hash of their names.'
    return click.option("--holdout", type=float, default=0.0, show_default=True, help=text)(command)


def items_per_shard_option(default: int, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds --items-per-shard."""
    return click.option("--items-per-shard", type=int, default=default, show_default=True, help=f"{what} in one shard.")


def quiet_log() -> None:
    """Keeps Beam's log off the screen, see `pipelines.runners.logs`."""
    from pipelines.runners.logs import keep_quiet

    keep_quiet()


def run_job(
    source: "Source",
    beam: Sequence[str],
    *,
    cloud: dict[str, Any],
    out: str,
    annotate: str,
    augment: str,
    format_: Any,
    tokenizer: str,
    preset: str | None,
    precision: str | None,
    max_reject_fraction: float,
    holdout: float,
) -> None:
    """Runs the job of a source with the options that `source_options` and `holdout_option` gave."""
    quiet_log()
    from pathlib import Path

    from pipelines.augment import parse
    from pipelines.job import Job

    folder = out if "://" in out else str(Path(out).absolute())
    names = names_in(annotate)
    job = Job(out=folder, name=folder.rstrip("/").rsplit("/", 1)[-1], source=source, annotate=names,
              augment=parse(augment), format=format_, tokenizer=tokenizer, preset=preset, precision=precision,
              holdout=holdout)  # fmt: skip
    if planned := click.get_current_context().meta.get(PLANNED):
        planned(job, cloud)
        return
    from pipelines.tokenize import tokenize as run

    summary = run_or_tell(cloud, beam, folder, lambda arguments: run(job, arguments, max_reject_fraction))
    if summary:
        report(summary)


def report(summary: "Summary") -> None:
    """Prints what a run did."""
    from rich.console import Console
    from rich.table import Table

    if summary.note:
        click.echo(f"note: {summary.note}", err=True)
    table = Table("", "value", title=f"dataset {summary.name}", title_justify="left")
    rows = [
        ("shards", f"{summary.units} ({summary.units_kept} finished before)"),
        ("rows", f"{summary.rows:,}"),
        ("rejected", str(sum(summary.rejects.values()))),
        *((f"  {reason}", str(count)) for reason, count in sorted(summary.rejects.items())),
        ("size", f"{summary.bytes / 1e6:,.2f} MB"),
    ]
    if summary.pictures:
        rows += [
            ("images encoded", f"{summary.pictures:,}"),
            ("images/s", f"{summary.pictures_per_second:,.1f}"),
            ("start-up", f"{summary.startup_seconds:.1f} s of {summary.seconds:.1f} s"),
        ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if summary.work is not None and summary.work.shards:
        Console().print(_stages(summary.work))
    click.echo(f"wrote {summary.out}")


def _stages(work: "Totals") -> "Table":
    """Says where the workers' time went."""
    from rich.table import Table

    title = f"{work.shards:,} shards, {work.wall:,.1f} s of work; the encoder was busy {work.busy:.0%} of it"
    table = Table("stage", title=title, title_justify="left")
    for name in ("seconds, all threads", "ms an image", "threads at work"):
        table.add_column(name, justify="right")
    for line in work.table():
        table.add_row(*line)
    return table
