"""`visent tokenizer check`: whether a checkpoint, its preprocessing and its precision belong together."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenizer.commands.options import choose_preset, foreign_facts
from visent.staging import staged

if TYPE_CHECKING:
    import numpy as np

    from tokenizer.card import TokenizerCard
    from tokenizer.checking import Finding, PrecisionResult
    from tokenizer.checkpoints import Checkpoint
    from tokenizer.vqgan import VQGAN

SYNTHETIC = 16  # pictures
COMPARED = 4  # pictures given to diffusers, which takes seconds for each of f16-8192


@click.command()
@click.argument("name_or_path", metavar="TOKENIZER")
@click.argument("images", nargs=-1, metavar="[IMG...]", type=click.Path())
@click.option("--precision", "precisions", multiple=True, metavar="NAME",
              help="Compare this one with float32. Repeatable. Default: the card's.")  # fmt: skip
@choose_preset
@click.option("--limit", default=32, show_default=True, type=click.IntRange(min=1),
              help="Pictures at most, drawn by the hash of their names.")  # fmt: skip
@foreign_facts
@staged(reads=("images",))
def check(name_or_path: str, images: tuple[Path, ...], precisions: tuple[str, ...], limit: int, **told: Any) -> None:
    """Check that weights, pixels and precision fit.

    Prints the card, the network and its size; how many tokens each precision shares with float32, and how fast it is;
    how well pictures come back, also with pixels in the other range; and, where torch and diffusers are installed, how
    far diffusers' VQModel agrees with the same weights. Give photos of the kind you will tokenize: without any it
    takes drawn pictures, on which PSNR and speed say less.

    Ends with status 1 when something is wrong. A preset cannot be found out from weights: crop is what open-muse and
    LVM-Lite used, squash what LVM used.

    \b
    Example:
      visent tokenizer check openMUSE/vqgan-f16-8192-laion photos/ --precision bfloat16 --precision tf32
      visent tokenizer check vqgan_imagenet_f16_16384.ckpt photos/
    """
    import dataclasses

    from tokenizer.checking import compare_precisions, judge_codes, judge_precisions
    from tokenizer.checkpoints.network import build
    from tokenizer.load import open_tokenizer
    from tokenizer.precision import precision as known_precision

    for name in precisions:
        known_precision(name)
    checkpoint, card = open_tokenizer(name_or_path, **told)
    print_tokenizer(checkpoint, card)
    squares, of = find_squares(images, card, limit)
    model = build(checkpoint)
    results, codes = compare_precisions(model, card, precisions or (card.precision,), squares)
    print_precisions(results, f"{len(squares)} {of}")
    findings = judge_codes(codes) + judge_precisions(results)
    exact = dataclasses.replace(card, precision="float32")
    findings += check_reconstruction(checkpoint, model, exact, squares, codes)
    findings += check_against_diffusers(checkpoint, model, squares[:COMPARED], codes[:COMPARED])
    print_verdict(findings, drawn=not images)


def print_tokenizer(checkpoint: "Checkpoint", card: "TokenizerCard") -> None:
    """Prints the card, then the network."""
    import dataclasses

    from tokenizer.checking import parameters
    from tokenizer.commands.card import print_card
    from tokenizer.commands.report import print_table

    print_card(card)
    counts = parameters(checkpoint)
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    rows = [("layout", checkpoint.layout), ("stored as", checkpoint.stored_dtype)]
    rows += [("parameters", f"{sum(counts.values()):,}: {parts}"), ("tensors", f"{len(checkpoint.tensors)}")]
    for field, value in dataclasses.asdict(checkpoint.config).items():
        rows.append((field, " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)))
    print_table("network", rows)


def find_squares(images: tuple[Path, ...], card: "TokenizerCard", limit: int) -> "tuple[np.ndarray, str]":
    """Returns the pictures as squares of the preset, or drawn ones, and what they are."""
    import numpy as np

    from tokenizer.checking import synthetic_pictures
    from tokenizer.commands.report import print_rejects
    from tokenizer.images import decode_image, prepare
    from tokenizer.judging import check_some
    from tokenizer.listing import Reject, list_images, read_images, sample

    if not images:
        return synthetic_pictures(min(SYNTHETIC, limit), card.image_size), "drawn pictures (none were given)"
    files, rejects = sample(list_images(images), limit), list[Reject]()

    def make(data: bytes) -> np.ndarray:
        return prepare(decode_image(data), card.preset, card.image_size)

    squares = [square for _, square in read_images(files, make, rejects)]
    print_rejects(rejects)
    check_some(len(squares), files, rejects)
    return np.stack(squares), "given pictures"


def print_precisions(results: "list[PrecisionResult]", pictures: str) -> None:
    """Prints one line for each precision."""
    from rich.console import Console
    from rich.table import Table

    columns = ("precision", "tokens as float32", "images/s", "fingerprint")
    table = Table(*columns, title=f"precisions on {pictures}", title_justify="left")
    for result in results:
        rate = f"{result.images_per_second:.1f}"
        table.add_row(result.precision, f"{result.agreement:.2%}", rate, result.fingerprint)
    Console().print(table)


def check_reconstruction(
    checkpoint: "Checkpoint", model: "VQGAN", card: "TokenizerCard", squares: "np.ndarray", codes: "np.ndarray"
) -> "list[Finding]":
    """Prints how well pictures come back."""
    from tokenizer.checking import judge_reconstruction, reconstruct
    from tokenizer.tokenizer import Tokenizer

    if not checkpoint.config.has_decoder:
        click.echo("round trips: these weights have no decoder, so only tokens could be checked")
        return []
    found = reconstruct(checkpoint, Tokenizer(model, card), squares, codes)
    here, there = ("[-1, 1]", "[0, 1]") if checkpoint.config.signed_pixels else ("[0, 1]", "[-1, 1]")
    click.echo(f"round trips: PSNR {found.psnr:.2f} dB, {len(set(codes.flat))} different codes in {codes.size} tokens")
    click.echo(
        f"range of pixels: {found.few_here:.2f} dB in {here}, as loaded; {found.few_other:.2f} dB in {there} "
        f"(first {min(len(squares), 8)} pictures)"
    )
    return judge_reconstruction(found, checkpoint.config.signed_pixels)


def check_against_diffusers(checkpoint: "Checkpoint", model: "VQGAN", *pictures: Any) -> "list[Finding]":
    """Prints how far diffusers' VQModel agrees, or what it takes to find out."""
    from tokenizer.checking import Finding
    from tokenizer.oracle import compare_with_diffusers, oracle_missing
    from visent.errors import UserError

    if missing := oracle_missing():
        click.echo(f"diffusers: not compared, {missing} not installed: pip install 'visent[oracles]'")
        return []
    try:
        result = compare_with_diffusers(checkpoint, model, *pictures)
    except UserError as error:
        click.echo(f"diffusers: not compared, {error}")
        return []
    click.echo(
        f"diffusers: VQModel gives {result.same_tokens:.2%} of the tokens of {result.pictures} pictures, and decoded "
        f"pixels differ by at most {result.pixel_difference:.1e} (of 1)"
    )
    text = "diffusers' VQModel disagrees by more than rounding: please report this with the file's config"
    return [] if result.agrees else [Finding("failure", text)]


def print_verdict(findings: "list[Finding]", *, drawn: bool) -> None:
    """Prints what was found and ends with status 1 for a failure."""
    for finding in findings:
        click.echo(f"{finding.level}: {finding.text}")
    if any(finding.level == "failure" for finding in findings):
        click.echo("verdict: do not tokenize with this as it is")
        raise SystemExit(1)
    of = " (seen on drawn pictures: give some of yours to be sure)" if drawn else ""
    click.echo(f"verdict: {'usable, with the warnings above' if findings else 'good'}{of}")
