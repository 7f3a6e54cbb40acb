"""`visent report`: a dataset as a page of HTML."""

import click

from pipelines.commands.common import FOLDER


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("dataset", type=FOLDER)
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="HTML file to write; a URL will do.")
@click.option("--rows", type=int, default=8, show_default=True, help="Examples on the contact sheet.")
@click.option("--shards", type=int, default=16, show_default=True, help="Shards whose codes are counted.")
@click.option("--originals/--no-originals", default=True, show_default=True,
              help="Show the source's pictures above what the codes show of them.")  # fmt: skip
@click.option("--tokenizer", metavar="NAME", help="Tokenizer that decodes; the one that the dataset was made with.")
def report(dataset: str, out: str, rows: int, shards: int, originals: bool, tokenizer: str | None) -> None:
    """Write a report on a finished dataset: one HTML file that needs no other.

    It shows examples beside what their codes show of them, what was rejected and why, how much of the codebook each
    role uses, sizes, and how fast the dataset was made, stage by stage.

    \b
    Examples:
      visent report corpus/photos --out photos.html
      visent report gs://bucket/corpus/photos --out gs://bucket/reports/photos.html --no-originals
    """
    from pipelines.reporting.report import Wanted, write_report

    wanted = Wanted(rows=rows, shards=shards, originals=originals, tokenizer=tokenizer)
    click.echo(f"wrote {write_report(dataset, out, wanted)}")
