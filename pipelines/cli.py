"""The commands `visent tokenize`, `visent plan`, `visent sources`, `visent verify` and `visent show`."""

from typing import Any

import click

from pipelines.commands.common import FOLDER
from pipelines.commands.plan import plan
from pipelines.commands.sources import sources
from pipelines.commands.tokenize import tokenize

__all__ = ["plan", "show", "sources", "tokenize", "verify"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("datasets", nargs=-1, required=True, type=FOLDER, metavar="DATASET...")
@click.option("--tokenizer", metavar="NAME", help="Tells which codes are a black picture; the datasets' own otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts in place of tables.")
def verify(datasets: tuple[str, ...], tokenizer: str | None, as_json: bool) -> None:
    """Check every shard of a dataset against its facts, and look at what its codes are.

    Reads all bytes: checksums, rows, keys, roles and codes, receipts and facts. Says how much of the codebook each
    role uses, and which pictures are black or uniform. Ends with exit status 1 when anything is wrong: black pictures
    are no fault, a key in two shards or datasets of different tokenizers are.

    \b
    Example:
      visent verify corpus/photos corpus/clips
    """
    import json

    from pipelines.verify import report, tokenizer_mismatch, verify_dataset

    results = [verify_dataset(dataset, tokenizer) for dataset in datasets]
    if as_json:
        mismatch = tokenizer_mismatch(results)
        click.echo(json.dumps({"datasets": [result.to_json() for result in results], "problems": mismatch}, indent=1))
        sound = not mismatch and not any(result.problems for result in results)
    else:
        sound = report(results)
    if not sound:
        raise SystemExit(1)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("what", metavar="DATASET | MANIFEST")
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="PNG to write.")
@click.option("--count", type=int, default=8, show_default=True, help="Rows, or visual sentences, on the sheet.")
@click.option("--view", type=int, default=0, show_default=True, help="Of a dataset: the view to show.")
@click.option("--split", default="train", show_default=True, help="Split to show.")
@click.option("--stage", help="Of a manifest: the stage whose visual sentences are drawn.")
@click.option("--task", help="Of a manifest: only this task.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of a manifest: seed of the order of sentences.")
@click.option("--tokenizer", default=None, help="Tokenizer that decodes; the one that the dataset was made with.")
def show(what: str, out: str, **options: Any) -> None:
    """Draw rows or visual sentences as a contact sheet.

    What is drawn is decoded from the stored codes, so it shows what a model sees.

    \b
    Examples:
      visent show corpus/photos --out rows.png
      visent show manifest.toml --stage sequences --task depth --out sentences.png
    """
    from pipelines.show import show_dataset, show_manifest

    draw = show_manifest if what.endswith((".toml", ".json")) else show_dataset
    click.echo(f"wrote {draw(what, out, **options)}")
