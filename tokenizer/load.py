"""Loads a tokenizer by name, path, URL or Hugging Face id, whatever its layout."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizer.card import CARD_FILE, TokenizerCard, read_card
from tokenizer.fetch import locate
from tokenizer.precision import precision as known_precision
from visent.errors import unknown

if TYPE_CHECKING:
    from tokenizer.checkpoints import Checkpoint
    from tokenizer.tokenizer import Tokenizer


def load(
    name_or_path: str | Path = "default",
    *,
    preset: str | None = None,
    precision: str | None = None,
    signed_pixels: bool | None = None,
    image_size: int | None = None,
    all_devices: bool = False,
) -> "Tokenizer":
    """Loads a tokenizer: `default` (shipped with visent), a folder or checkpoint of any layout, a URL, or an id.

    `preset` and `precision` replace those of the card and enter its fingerprint; `signed_pixels` says whether a
    foreign network takes pixels in [-1, 1], `image_size` how many on each side, where that is not its project's custom.
    With `all_devices` it runs on all of this machine's accelerators at once, for those who have large batches.

    Raises:
        UserError: it is missing or damaged, its parts do not belong together, or a name is unknown.
    """
    import jax

    from tokenizer.checkpoints.network import build
    from tokenizer.tokenizer import Tokenizer

    told: dict[str, Any] = {"signed_pixels": signed_pixels, "image_size": image_size}
    checkpoint, card = open_tokenizer(name_or_path, preset=preset, precision=precision, **told)
    return Tokenizer(build(checkpoint), card, devices=jax.local_devices() if all_devices else ())


def load_card(
    name_or_path: str | Path = "default",
    *,
    preset: str | None = None,
    precision: str | None = None,
    signed_pixels: bool | None = None,
    image_size: int | None = None,
) -> TokenizerCard:
    """Returns the card that `load` would give; of visent's own folders it reads the card alone and needs no jax.

    Raises:
        UserError: as `load`.
    """
    path = locate(name_or_path)
    if (path / CARD_FILE).is_file() and signed_pixels is None and image_size is None:
        return _chosen(read_card(path), preset, precision)
    told: dict[str, Any] = {"signed_pixels": signed_pixels, "image_size": image_size}
    return open_tokenizer(name_or_path, preset=preset, precision=precision, **told)[1]


def open_tokenizer(
    name_or_path: str | Path,
    *,
    preset: str | None = None,
    precision: str | None = None,
    signed_pixels: bool | None = None,
    image_size: int | None = None,
) -> tuple["Checkpoint", TokenizerCard]:
    """Reads the weights of a tokenizer, and the card that it has or gets.

    Raises:
        UserError: as `load`.
    """
    from tokenizer.checkpoints import read

    path = locate(name_or_path)
    checkpoint = read(path, signed_pixels=signed_pixels, image_size=image_size)
    if (path / CARD_FILE).is_file():
        return checkpoint, _chosen(read_card(path), preset, precision)
    return checkpoint, _chosen(checkpoint.card(name=_name(name_or_path), about=checkpoint.notes), preset, precision)


def _name(name_or_path: str | Path) -> str:
    """Returns a name for the card: an id as it is, of a path or URL its end, since cards travel and places change."""
    name = str(name_or_path)
    if not Path(name).exists() and "://" not in name:
        return name
    parts = [part for part in Path(name).absolute().parts if part != "/"]
    return "/".join(parts[-2:] if parts[-1] in ("vqvae", "vae") else parts[-1:])


def _chosen(card: TokenizerCard, preset: str | None, precision: str | None) -> TokenizerCard:
    from tokenizer.images import PRESETS

    preset, precision = preset or card.preset, precision or card.precision
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    known_precision(precision)
    return dataclasses.replace(card, preset=preset, precision=precision)
