"""`visent pixels`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pipelines.commands.common import FOLDER, names_in, quiet_log

if TYPE_CHECKING:
    from pipelines.pixels import Made


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("datasets", nargs=-1, required=True, type=FOLDER, metavar="DATASET...")
@click.option("--split", default="val", show_default=True, help="Split whose rows get pixels.")
@click.option("--roles", default="", metavar="NAMES", help="Roles, with commas between them; without it, all.")
@click.option("--most", type=click.IntRange(1), help="Rows at most, chosen by hash of their keys; without it, all.")
def pixels(datasets: tuple[str, ...], split: str, roles: str, most: int | None) -> None:
    """Write the pictures behind a dataset's codes: what the tokenizer saw, without loss, to judge models against.

    A dataset holds only codes. This reads its source again, as its configuration says, and writes for each row of a
    split the very squares that were encoded: DATASET/pixels/SPLIT-*.parquet with the columns `key` and one of PNGs
    for each role, and DATASET/pixels/SPLIT.json. A source that has other rows by now, or pictures of other sizes, is
    refused; that a picture was replaced by another of its size goes unnoticed.

    Run it again after the dataset was changed, or a run was stopped: only what is missing is made. What is no longer
    wanted goes by removing the folder.

    \b
    Examples:
      visent pixels corpus/ade20k --split val
      visent pixels corpus/ucf101 --split test --roles frames --most 1000
    """
    quiet_log()
    from pipelines.pixels import make_pixels

    _print([make_pixels(dataset, split, names_in(roles), most) for dataset in datasets])


def _print(found: Sequence["Made"]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console() if Console().is_terminal else Console(width=160)
    table = Table("dataset", "split", "roles", title="pixels", title_justify="left")
    for name in ("rows", "files", "made now", "MB", "pictures/s"):
        table.add_column(name, justify="right")
    for one in found:
        rate = f"{one.pictures / max(one.seconds, 1e-9):,.1f}" if one.pictures else ""
        table.add_row(
            one.folder, one.split, ", ".join(one.roles), f"{one.rows:,}", f"{one.files:,}", f"{one.made:,}",
            f"{one.bytes / 1e6:,.2f}", rate,
        )  # fmt: skip
    console.print(table)
    for one in found:
        click.echo(f"wrote {one.folder}/pixels/{one.split}.json")
