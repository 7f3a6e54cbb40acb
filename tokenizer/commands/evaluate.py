"""`visent tokenizer eval`: measure round trips."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenizer.commands.options import choose_preset, choose_tokenizer
from visent.staging import shown, staged

if TYPE_CHECKING:
    from tokenizer.card import TokenizerCard
    from tokenizer.judging import LabelQuality
    from tokenizer.listing import Reject
    from tokenizer.quality import Quality

ON_SHEET = 32  # round trips


@click.command(name="eval")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option("--labels", is_flag=True, help="PATHs hold annotations: measure how many pixels keep their class.")
@click.option("--ignore-label", type=click.IntRange(0, 255), help="With --labels: pixels of this class do not count.")
@click.option("--limit", type=click.IntRange(min=1), help="Pictures at most, drawn by the hash of their names.")
@click.option("--sheet", metavar="FILE.png", type=click.Path(), help="Draw up to 32 of the round trips.")
@click.option("--json", "json_path", metavar="FILE.json", type=click.Path(), help="Write all figures.")
@choose_tokenizer
@choose_preset
@staged(reads=("paths",), writes=("sheet", "json_path"))
def evaluate(
    paths: tuple[Path, ...], labels: bool, ignore_label: int | None, limit: int | None, sheet: Path | None,
    json_path: Path | None, name_or_path: str, **chosen: Any,
) -> None:  # fmt: skip
    """Measure round trips of pictures.

    PATH is a picture, or a folder that holds some at any depth. PSNR (dB) and SSIM say how near the pixels come;
    entropy and perplexity how evenly these pictures use the codebook; dead codes are those that never occur. Usage
    needs many pictures: at least ten codes for each entry.

    With --labels the files are annotations: palette PNGs, grey label maps (drawn in VOC's colours), or colour-coded
    RGB PNGs. They are resized without mixing, and each pixel that comes back is read as the nearest colour of a class
    that occurs in the set. mIoU is the mean over classes of intersection over union, counted over all maps; of RGB
    maps, whose colours may mean another thing in each picture, it is the mean over pictures.

    \b
    Example:
      visent tokenizer eval photos/ --sheet round-trips.png --json figures.json
      visent tokenizer eval VOC2012/SegmentationClass --labels --ignore-label 255 --sheet masks.png
    """
    from tokenizer.commands.report import print_rejects, print_table
    from tokenizer.judging import judge_labels, judge_pictures
    from tokenizer.listing import Reject, list_images, sample
    from tokenizer.load import load
    from tokenizer.output import check_writable
    from tokenizer.sheet import Sheet
    from visent.errors import UserError

    if ignore_label is not None and not labels:
        raise UserError("--ignore-label is for annotations: give --labels too")
    found = list_images(paths)
    files = sample(found, limit) if limit else found
    for target in filter(None, (sheet, json_path)):
        check_writable(target)
    tokenizer = load(name_or_path, **chosen)
    drawn, rejects = Sheet(ON_SHEET), list[Reject]()
    of_labels: LabelQuality | None = None
    try:
        if labels:
            quality, of_labels = judge_labels(tokenizer, files, drawn, rejects, ignore_label)
        else:
            quality = judge_pictures(tokenizer, files, drawn, rejects)
    finally:
        print_rejects(rejects)
    drawn_by_lot = f" drawn of {len(found):,}" if limit else ""
    counted = f"{quality.images:,} of {len(files):,}{drawn_by_lot} found"
    rows = figures(tokenizer.card, quality, of_labels, rejects, counted)
    print_table(f"round trips of {tokenizer.card.name}", rows)
    if sheet is not None:
        drawn.save(sheet)
        click.echo(f"wrote {shown(sheet)}")
    if json_path is not None:
        write_json(json_path, tokenizer.card, quality, of_labels, rejects)
        click.echo(f"wrote {shown(json_path)}")


def figures(
    card: "TokenizerCard", quality: "Quality", labels: "LabelQuality | None", rejects: "list[Reject]", pictures: str
) -> list[tuple[str, str]]:
    """Returns the rows of the table."""
    from tokenizer.commands.report import reject_rows

    rows = [("pictures", pictures), *reject_rows(rejects)]
    if labels is not None:
        over = (
            f"over {labels.classes} classes" if labels.iou else "mean over pictures: their colours are no fixed classes"
        )
        rows += [("mIoU", f"{labels.miou:.1%}, {over}"), ("pixels right", f"{labels.accuracy:.1%}")]
    exact = f", {quality.exact:,} came back exactly" if quality.exact else ""
    rows.append(("PSNR", f"{quality.psnr:.2f} dB{exact}"))
    rows.append(("SSIM", f"{quality.ssim:.4f}" if labels is None else "not for labels: flat areas decide it"))
    few = ", from few pictures: it will rise" if quality.tokens < 10 * card.codebook_size else ""
    rows += [
        ("codes in use", f"{quality.usage:.1%} of {card.codebook_size}{few}"),
        ("dead codes", str(quality.dead)),
        ("entropy", f"{quality.entropy:.2f} bits per code"),
        ("perplexity", f"{quality.perplexity:.0f}"),
        ("tokenizer", f"{card.name}, {card.preset}, {card.precision}, {card.fingerprint}"),
    ]
    if labels is None:
        rows.append(("mIoU", "only of annotations: --labels"))
    return rows


def write_json(
    path: Path, card: "TokenizerCard", quality: "Quality", labels: "LabelQuality | None", rejects: "list[Reject]"
) -> None:
    """Writes every figure, the card and the rejects."""
    import dataclasses
    import json

    from tokenizer.listing import readable
    from tokenizer.output import write_whole

    measured: dict[str, Any] = dataclasses.asdict(quality)
    if quality.exact == quality.images:
        measured["psnr"] = None  # JSON has no infinity
    if labels is not None:
        measured["ssim"] = None
    values = {
        "tokenizer": card.to_json() | {"fingerprint": card.fingerprint},
        **measured,
        "labels": dataclasses.asdict(labels) if labels is not None else None,
        "rejects": [
            {"file": readable(reject.path), "reason": reject.reason, "detail": reject.detail} for reject in rejects
        ],
    }
    write_whole(path, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())
