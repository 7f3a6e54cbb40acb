"""`visent tokenizer encode`: pictures to a file of codes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenizer.commands.options import choose_preset, choose_tokenizer, max_reject_fraction
from visent.staging import shown, staged

if TYPE_CHECKING:
    from tokenizer.listing import ImageFile, Reject


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMG...", type=click.Path())
@click.option("--out", required=True, metavar="FILE.npz", type=click.Path(), help="File to write.")
@click.option("--nearest", is_flag=True, help="Pick pixels, never mix them: keeps the colours of annotations.")
@choose_tokenizer
@choose_preset
@max_reject_fraction
@staged(reads=("images",), writes=("out",))
def encode(
    images: tuple[Path, ...], out: Path, nearest: bool, name_or_path: str, max_reject_fraction: float, **chosen: Any
) -> None:
    """Encode pictures to a file of codes.

    IMG is a picture, or a folder that holds some at any depth. FILE.npz holds `codes` (uint16, one row of tokens per
    picture, row by row of the grid), `names`, and `card` and `fingerprint` of the tokenizer; numpy reads it without
    pickle. A picture that cannot be read is listed with its reason and has no row. For sets that a model is trained
    on, `visent tokenize` writes shards instead.

    \b
    Example:
      visent tokenizer encode photos/ portrait.jpg --out codes.npz
      visent tokenizer encode masks/ --nearest --out masks.npz
      python -c "import numpy; print(numpy.load('codes.npz')['codes'].shape)"
    """
    import numpy as np

    from tokenizer.codes import write_codes
    from tokenizer.commands.report import print_rejects, print_table, reject_rows
    from tokenizer.images import decode_image, prepare
    from tokenizer.listing import Reject, list_images, read_batches
    from tokenizer.load import load
    from tokenizer.output import check_writable
    from visent.errors import UserError

    if out.suffix != ".npz":
        raise UserError(f"--out {out}: expected a name that ends in .npz")
    files = list_images(images)
    names = unique_names(files)
    check_writable(out)
    tokenizer = load(name_or_path, **chosen)
    card = tokenizer.card
    rejects: list[Reject] = []
    rows, done = [], []

    def make(data: bytes) -> np.ndarray:
        return prepare(decode_image(data), card.preset, card.image_size, nearest=nearest)

    try:
        for batch in read_batches("encoding", files, make, rejects, tokenizer.batch_size):
            rows.append(tokenizer.encode(np.stack([square for _, square in batch])))
            done += [names[file.path] for file, _ in batch]
            check_rejects(rejects, len(files), max_reject_fraction)
        check_rejects(rejects, len(files), max_reject_fraction)
    finally:
        print_rejects(rejects)
    codes = np.concatenate(rows)
    write_codes(out, codes, done, card, nearest=nearest)
    rate = f"{out.stat().st_size:,} bytes"
    facts = [("pictures", f"{len(codes):,} of {len(files):,}"), *reject_rows(rejects), ("size", rate)]
    facts += [("tokenizer", f"{card.name}, {card.fingerprint}"), ("tokens per picture", str(card.tokens_per_image))]
    print_table(f"codes in {out.name}", facts)
    click.echo(f"wrote {shown(out)}")


def unique_names(files: Sequence["ImageFile"]) -> dict[Path, str]:
    """Returns a name for each file: below its folder, or below "/" where two would have the same.

    Raises:
        UserError: two still have the same name.
    """
    from collections import Counter

    from tokenizer.listing import readable
    from visent.errors import UserError

    often = Counter(file.name for file in files)
    names: dict[Path, str] = {}
    taken: dict[str, Path] = {}
    for file in files:
        whole = "/".join(part for part in file.path.parts if part not in ("/", ".."))
        name = names[file.path] = readable(file.name if often[file.name] == 1 else whole)
        if name in taken:
            both = f"{readable(file.path)} and {readable(taken[name])}"
            raise UserError(f"{both} would both be named {name}: encode them to two files")
        taken[name] = file.path
    return names


def check_rejects(rejects: Sequence["Reject"], listed: int, limit: float) -> None:
    """Stops as soon as it is certain that too many are rejected.

    Raises:
        UserError: more than `limit` of all files are, or all of them.
    """
    from tokenizer.listing import by_reason
    from visent.errors import UserError

    reasons = ", ".join(f"{count} {why}" for why, count in by_reason(rejects).items())
    if len(rejects) == listed:
        raise UserError(f"none of the {listed} pictures could be read ({reasons}); nothing was written")
    if len(rejects) > limit * listed:
        raise UserError(
            f"{len(rejects)} of {listed} pictures could not be read ({reasons}), over --max-reject-fraction {limit}; "
            "nothing was written: mend them, or give a higher limit"
        )
