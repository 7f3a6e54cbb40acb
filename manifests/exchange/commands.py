"""`visent export` and `visent import`."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from manifests.exchange.sentences import Selection

CONTEXT = {"help_option_names": ["-h", "--help"]}


@click.command("export", context_settings=CONTEXT)
@click.argument("what", metavar="LOCK | MANIFEST | DATASET")
@click.option("--to", "target", type=click.Choice(["lvm", "delvm", "parquet", "huggingface"]), required=True,
              help="lvm: .jsonl. delvm: train.bin, train.bin.meta. huggingface: a folder.")  # fmt: skip
@click.option("--out", required=True, metavar="PATH", help="File or, for huggingface, folder to write.")
@click.option("--stage", metavar="NAME", help="Of a lock; needed where it has several.")
@click.option("--sentences", metavar="N | FIRST:END", help="Of a lock: the first N, or FIRST to END - 1.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of a lock: the order of reading.")
@click.option("--split", default="train", show_default=True, help="Of a lock: the split to read.")
def export(what: str, target: str, out: str, sentences: str | None, **options: Any) -> None:
    """Write a corpus in the format of another project.

    Of a lock: visual sentences, in the order in which training reads them, for any trainer. Of a dataset: its rows,
    as a folder for the Hugging Face Hub. Long exports can be cut: --sentences 0:100000, then 100000:200000.

    \b
    Examples:
      visent export manifest.lock.json --to lvm --stage sequences --sentences 100000 --out corpus.jsonl
      visent export manifest.lock.json --to delvm --stage sequences --sentences 100000 --out pairs/train.bin
      visent export manifest.lock.json --to parquet --stage sequences --sentences 0:50000 --out part-0.parquet
      visent export corpus/photos --to huggingface --out photos-tokens
    """
    from manifests.dataset import has_facts
    from manifests.exchange import delvm, huggingface, lvm
    from manifests.exchange.sentences import write_parquet
    from visent.errors import UserError

    if has_facts(what):
        if target != "huggingface" or sentences is not None or options["stage"] is not None:
            raise UserError(
                f"{what} is a dataset, which has no sentences: a dataset goes --to huggingface without --stage "
                f"and --sentences; --to {target} of sentences takes a lock, see `visent manifest lock`"
            )
        huggingface.write_dataset(what, out)
    else:
        writers = {"lvm": lvm.write, "delvm": delvm.write, "parquet": write_parquet,
                   "huggingface": huggingface.write_sentences}  # fmt: skip
        writers[target](_selection(what, sentences, **options), out)
    click.echo(f"wrote {out}")


def _selection(path: str, sentences: str | None, stage: str | None, seed: int, split: str) -> "Selection":
    from manifests.corpus import Corpus
    from manifests.exchange.sentences import Selection
    from manifests.lineage import only_stage
    from manifests.lock import load_lock, resolve
    from visent.errors import UserError

    lock = resolve(path) if path.endswith(".toml") else load_lock(path)
    first, _, end = (sentences or "").rpartition(":")
    if not (first or "0").replace("_", "").isdigit() or not end.replace("_", "").isdigit():
        raise UserError(f"--sentences is {sentences}, expected a number N, or FIRST:END such as 0:100000")
    name = only_stage(Corpus(lock, split=split), stage)
    return Selection(lock=lock, stage=name, first=int(first or 0), end=int(end), seed=seed, split=split)


@click.command("import", context_settings=CONTEXT)
@click.argument("paths", nargs=-1, required=True, metavar="FILE...")
@click.option("--from", "kind", type=click.Choice(["lvm", "delvm"]), required=True, help="Format of the files.")
@click.option("--tokenizer-card", required=True, metavar="NAME",
              help="Of the codes: a tokenizer's name, folder or card.json, or a dataset made with it.")  # fmt: skip
@click.option("--out", required=True, metavar="FOLDER", help="The dataset to write; its last part is the name.")
@click.option("--clip", metavar="ROLE", help="Each sentence is one row, a clip of its images; default: frames.")
@click.option("--stills", metavar="ROLE,...", help="Each sentence is rows of one image a role, taken in turn.")
@click.option("--images-per-sentence", type=int, metavar="N", help="Refuse sentences of another number of images.")
@click.option("--split", default="train", show_default=True, help="Split that the rows are in.")
@click.option("--sentences-per-shard", type=click.IntRange(1), default=1000, show_default=True)
@click.option(
    "--format", "format_", type=click.Choice(["parquet", "arrayrecord"]), default="parquet", show_default=True
)
def import_(
    paths: tuple[str, ...], kind: Any, tokenizer_card: str, out: str, clip: str | None, stills: str | None,
    images_per_sentence: int | None, split: str, sentences_per_shard: int, format_: Any,
) -> None:  # fmt: skip
    """Make a dataset of token files of another project.

    Each sentence is cut into images of the tokenizer's tokens. With --clip they are the frames of one row, in their
    order; with --stills image,depth the first is the image of a row, the second its depth, the third the next row's
    image. The key is file and line. The files do not say which tokenizer made them: give its card. The same command
    goes on where it was stopped.

    \b
    Examples:
      visent import corpus.jsonl --from lvm --tokenizer-card vqgan-f16-8192 --out corpus/lvm
      visent import rain/train.bin --from delvm --tokenizer-card vqgan-f16-8192 --stills rainy,image --out corpus/rain
    """
    from manifests.exchange.incoming import Cut, find_card, import_files

    roles = tuple(role for role in (stills or "").split(",") if role)
    clip = clip if clip or roles else "frames"
    cut = Cut(clip=clip, stills=roles, images_per_sentence=images_per_sentence)
    facts = import_files(
        paths, kind, out, find_card(tokenizer_card), cut, split=split, sentences_per_shard=sentences_per_shard,
        format=format_,
    )  # fmt: skip
    click.echo(f"wrote {out}: {facts.examples(split):,} rows of {', '.join(facts.schema.roles)}")
