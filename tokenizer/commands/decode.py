"""`visent tokenizer decode`: a file of codes to pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenizer.commands.options import choose_tokenizer
from visent.staging import shown, staged

if TYPE_CHECKING:
    import numpy as np

    from tokenizer.tokenizer import Tokenizer


@click.command()
@click.argument("codes", metavar="CODES", type=click.Path())
@click.option("--out", required=True, metavar="DIR", type=click.Path(), help="Folder for the pictures.")
@click.option("--any-tokenizer", is_flag=True, help="Decode codes although another tokenizer made them.")
@click.option("--overwrite", is_flag=True, help="Replace pictures that are already there.")
@choose_tokenizer
@staged(reads=("codes",), writes=("out",))
def decode(codes: Path, out: Path, any_tokenizer: bool, overwrite: bool, name_or_path: str, **chosen: Any) -> None:
    """Decode a file of codes to pictures.

    Each row becomes a PNG below DIR, named as its picture was. CODES is a .npz of `visent tokenizer encode`, or a .npy
    of whole numbers, (pictures, tokens) or (pictures, rows, columns). Codes mean something only to the tokenizer that
    made them: those of another one are refused.

    \b
    Example:
      visent tokenizer decode codes.npz --out again/
      visent tokenizer decode samples.npy --tokenizer my-tokenizer --out pictures/
    """
    from tokenizer.codes import png_names, read_codes
    from tokenizer.commands.report import print_table
    from tokenizer.load import load
    from tokenizer.output import check_writable

    stored = read_codes(codes)
    targets = [out / name for name in png_names(stored.names, codes)]
    check_targets(out, targets, overwrite)
    tokenizer = load(name_or_path, **chosen)
    card = tokenizer.card
    if not stored.fingerprint:
        click.echo(f"note: {codes} does not say which tokenizer made it; {card.name} decodes it", err=True)
    elif not any_tokenizer:
        stored.check_made_by(card, codes)
    rows = stored.rows(card, codes)
    check_writable(out / "a.png")
    write_pictures(tokenizer, rows, targets)
    facts = [("pictures", f"{len(rows):,} of {card.image_size} x {card.image_size} pixels")]
    print_table(f"decoded {codes.name}", [*facts, ("tokenizer", f"{card.name}, {card.fingerprint}")])
    click.echo(f"wrote {shown(out)}")


def check_targets(out: Path, targets: Sequence[Path], overwrite: bool) -> None:
    """Refuses to write over what is there.

    Raises:
        UserError: `out` is a file, or a picture exists and `overwrite` is not given.
    """
    from visent.errors import UserError

    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder")
    there = [] if overwrite else [target for target in targets if target.exists()]
    if there:
        raise UserError(f"{len(there)} pictures are already there, as {there[0]}: name another --out, or --overwrite")


def write_pictures(tokenizer: "Tokenizer", rows: "np.ndarray", targets: Sequence[Path]) -> None:
    """Decodes rows of codes in batches and writes a PNG of each."""
    import io
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image

    from tokenizer.output import write_whole
    from visent.progress import track

    def write(picture: "np.ndarray", target: Path) -> None:
        data = io.BytesIO()
        Image.fromarray(picture).save(data, "PNG")
        write_whole(target, data.getvalue())

    with track("decoding", len(rows), "images") as progress, ThreadPoolExecutor() as pool:
        for start in range(0, len(rows), tokenizer.batch_size):
            pictures = tokenizer.decode(rows[start : start + tokenizer.batch_size])
            list(pool.map(write, pictures, targets[start : start + len(pictures)]))
            progress.advance(len(pictures))
