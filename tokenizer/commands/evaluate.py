"""`visent tokenizer eval`: measure round trips."""

from pathlib import Path

import click


@click.command(name="eval")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--tokenizer", "name_or_path", default="default", show_default=True, help="Name or folder.")
@click.option("--limit", default=256, show_default=True, type=click.IntRange(min=1), help="Pictures at most.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Write a PNG of the first 32 round trips.")
def evaluate(folders: tuple[Path, ...], name_or_path: str, limit: int, sheet: Path | None) -> None:
    """Measure round trips of the image files below FOLDERS.

    PSNR says how near the pixels come; usage and perplexity how evenly the codebook serves these pictures.

    \b
    Example:
      visent tokenizer eval photos/ --sheet round-trips.png
    """
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from tokenizer.images import prepare
    from tokenizer.load import load
    from tokenizer.quality import judge, round_trip_sheet
    from tokenizer.training.pictures import Photos
    from visent.errors import UserError

    loaded = load(name_or_path)
    shown = loaded.card
    photos = Photos(folders, size=shown.image_size, preset=shown.preset, holdout=0, max_pictures=limit)
    squares = np.stack([prepare(picture, shown.preset, shown.image_size) for picture in photos.train])
    quality = judge(loaded, squares)
    table = Table("pictures", "PSNR dB", "codes in use", "perplexity", "rejected", title=f"round trips of {shown.name}")
    rejected = ", ".join(f"{count} {reason}" for reason, count in sorted(photos.rejects.items())) or "0"
    figures = (f"{quality.psnr:.2f}", f"{quality.usage:.1%} of {shown.codebook_size}", f"{quality.perplexity:.0f}")
    table.add_row(f"{quality.images} of {photos.found}", *figures, rejected)
    Console().print(table)
    if sheet is not None:
        try:
            sheet.parent.mkdir(parents=True, exist_ok=True)
            round_trip_sheet(loaded, squares[:32]).save(sheet, "PNG")
        except OSError as error:
            raise UserError(f"cannot write the sheet {sheet}: {error}") from error
        click.echo(f"wrote {sheet}")
