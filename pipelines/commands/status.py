"""`visent status`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from visent.progress import duration

if TYPE_CHECKING:
    from pipelines.status import Status, Working

UNFINISHED = 3  # exit status
SHOWN = 5  # shards named of each kind


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("corpora", nargs=-1, required=True, metavar="CORPUS...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts in place of tables.")
def status(corpora: tuple[str, ...], as_json: bool) -> None:
    """Show how far datasets are: shards done, running and missing, rows, rejects by reason, rate and ETA.

    CORPUS is a dataset or a folder of datasets, on a disk or in a bucket. Only reads, also while a job runs anywhere:
    what is done is told by receipts, what runs by the logs that workers write beside the dataset.

    \b
    Exit status: 0 when all are complete, 3 when one is not, 1 for an error.

    \b
    Examples:
      visent status corpus/
      visent status gs://bucket/corpus/photos --json
      visent status corpus/photos && visent train tiny --manifest manifest.toml --out run/
    """
    import json

    from pipelines.datasets import datasets_at
    from pipelines.status import dataset_status

    found = [dataset_status(folder) for corpus in corpora for folder in datasets_at(corpus)]
    if as_json:
        click.echo(json.dumps({"datasets": [one.to_json() for one in found]}, indent=1))
    else:
        _print(found)
    if any(one.state != "complete" for one in found):
        raise SystemExit(UNFINISHED)


def _print(found: Sequence["Status"]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console() if Console().is_terminal else Console(width=160)
    table = Table("dataset", "state", "shards", "running", "missing", "rows", "rejected", "MB", "images/s", "ETA")
    for one in found:
        share = one.rejected / max(one.rows + one.rejected, 1)
        table.add_row(
            one.folder, one.state, f"{one.done:,} of {one.wanted:,}", f"{len(one.running):,}", f"{one.missing:,}",
            f"{one.rows:,}", f"{one.rejected:,} ({share:.2%})", f"{one.bytes / 1e6:,.2f}",
            "" if one.images_per_second is None else f"{one.images_per_second:,.1f}",
            "" if one.eta_seconds is None else duration(one.eta_seconds),
        )  # fmt: skip
    console.print(table)
    for one in found:
        for line in _details(one):
            click.echo(f"{one.folder}: {line}")


def _details(one: "Status") -> list[str]:
    lines = [f"rejected: {count:,} {reason}" for reason, count in one.rejects.items()]
    lines += [f"views {views}: {count:,} shards" for views, count in one.views.items()]
    lines += _working("running", one.running) + _working("stopped, its worker is gone or silent", one.stopped)
    errors = list(one.failed.items())
    lines += [f"failed: {shard}: {error}" for shard, error in errors[:SHOWN]] + _more(errors)
    if one.seconds and any(one.seconds.values()):
        total = sum(one.seconds.values())
        parts = (f"{stage} {seconds / total:.0%}" for stage, seconds in one.seconds.items() if seconds)
        lines.append(f"time of all threads: {', '.join(parts)}")
    return lines + [f"note: {note}" for note in one.notes]


def _working(what: str, shards: Sequence["Working"]) -> list[str]:
    lines = [f"{what}: {one.shard} on {one.host}, begun {duration(one.seconds)} ago" for one in shards[:SHOWN]]
    return lines + _more(shards)


def _more(listed: Sequence[object]) -> list[str]:
    return [f"... and {len(listed) - SHOWN:,} more"] if len(listed) > SHOWN else []
