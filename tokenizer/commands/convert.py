"""`visent tokenizer convert`: the same weights in another project's layout."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenizer.commands.options import choose_preset, foreign_facts
from visent.staging import shown, staged

if TYPE_CHECKING:
    from tokenizer.checkpoints import Checkpoint

LAYOUTS = ("visent", "muse", "diffusers", "taming", "lwm")


@click.command()
@click.argument("source")
@click.option("--to", "layout", required=True, type=click.Choice(LAYOUTS), help="Layout to write.")
@click.option("--out", required=True, type=click.Path(), help="Folder; a file for taming and lwm.")
@click.option("--name", help="Name on the card of the layout visent; default: the source's.")
@choose_preset
@foreign_facts
@click.option("--encoder-only", is_flag=True, help="Leave the decoder out: enough for tokenizing. Only to visent.")
@staged(writes=("out",))
def convert(source: str, layout: str, out: Path, name: str | None, encoder_only: bool, **told: Any) -> None:
    """Write the weights of SOURCE in another layout; no token changes.

    SOURCE is a name, path, URL or Hugging Face id of any layout. Numbers keep their type. What is written is read
    again, and its fingerprint compared with the source's. A layout that cannot hold the network is refused.

    \b
    Example:
      visent tokenizer convert vqgan_imagenet_f16_16384.ckpt --to visent --out f16-16384
      visent tokenizer convert openMUSE/vqgan-f16-8192-laion --to diffusers --out vqvae
    """
    import dataclasses

    from rich.console import Console
    from rich.table import Table

    from tokenizer.checkpoints import read, write
    from tokenizer.load import open_tokenizer
    from visent.errors import UserError

    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out} is already there: name another --out, or delete it")
    original, card = open_tokenizer(source, **told)
    checkpoint = _without_decoder(original) if encoder_only else original
    if encoder_only:
        card = dataclasses.replace(card, decoder_sha256="")
    write(checkpoint, layout, out, card=dataclasses.replace(card, name=name or card.name))
    again = read(out)
    after = again.card(name=card.name, preset=card.preset, precision=card.precision)
    if (after.fingerprint, after.decoder_sha256) != (card.fingerprint, card.decoder_sha256):
        raise UserError(f"{out} reads back as {after.fingerprint}, expected {card.fingerprint}: the disk changed bytes")
    table = Table("", "before", "after", title=f"tokenizer {card.name}")
    table.add_row("place", source, shown(out))
    table.add_row("layout", original.layout, again.layout)
    table.add_row("fingerprint", card.fingerprint, after.fingerprint)
    table.add_row("decoder", original.decoder_sha256[:16] or "none", after.decoder_sha256[:16] or "none")
    table.add_row("stored as", original.stored_dtype, again.stored_dtype)
    table.add_row("tensors", str(len(original.tensors)), str(len(again.tensors)))
    Console().print(table)
    if layout != "visent":
        _say_what_is_lost(checkpoint, card.preset, layout)


def _without_decoder(checkpoint: "Checkpoint") -> "Checkpoint":
    import dataclasses

    from tokenizer.checkpoints.checkpoint import DECODING

    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if not DECODING.match(name)}
    config = dataclasses.replace(checkpoint.config, decoder_res_blocks=0)
    return dataclasses.replace(checkpoint, config=config, tensors=tensors)


def _say_what_is_lost(checkpoint: "Checkpoint", preset: str, layout: str) -> None:
    """Names the facts that the layout does not carry and its programs take for granted."""
    if preset != "crop":
        click.echo(f"the layout {layout} does not say how pictures become squares: load it with preset {preset!r}")
    if layout in ("muse", "diffusers") and checkpoint.config.signed_pixels:
        click.echo("config.json says _signed_pixels for visent; other programs must be given pixels in [-1, 1]")
