"""visent's own layout: a folder of `card.json`, `config.json` (the network's shape) and `model.safetensors`.

The tensors are one for each parameter, named by its path in the network.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from tokenizer.card import CARD_FILE, TokenizerCard, read_card
from tokenizer.checkpoints.checkpoint import Checkpoint
from tokenizer.checkpoints.network import check_numbers, check_shapes, parameter_shapes, read_out
from tokenizer.checkpoints.tensors import dtype_of, read_safetensors, write_safetensors
from tokenizer.vqgan import VQGAN, VQGANConfig
from visent.errors import UserError
from visent.untrusted.documents import parse_json

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def read_folder(folder: Path) -> tuple[Checkpoint, TokenizerCard]:
    """Reads a folder as `write_folder` writes it.

    Raises:
        UserError: a file is missing or damaged, or they do not belong together.
    """
    card = read_card(folder)
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / file).is_file():
            raise UserError(f"the tokenizer in {folder} is incomplete: there is no {file}; copy the folder again")
    tensors = read_safetensors(folder / WEIGHTS_FILE)
    config = _read_config(folder / CONFIG_FILE)
    check_shapes(
        f"{folder / WEIGHTS_FILE} (by its {CONFIG_FILE})",
        {name: tensor.shape for name, tensor in tensors.items()},
        parameter_shapes(config),
    )
    check_numbers(str(folder / WEIGHTS_FILE), tensors)
    checkpoint = Checkpoint(layout="visent", config=config, tensors=tensors, stored_dtype=dtype_of(tensors))
    for field in ("weights_sha256", "decoder_sha256"):
        if (found := getattr(checkpoint, field)) != getattr(card, field):
            raise UserError(
                f"the tokenizer in {folder} is not the one of its card: {CONFIG_FILE} and {WEIGHTS_FILE} have "
                f"{field} {found}, expected {getattr(card, field)}; copy the folder again"
            )
    return checkpoint, card


def write_folder(folder: Path, checkpoint: Checkpoint, card: TokenizerCard) -> None:
    """Writes the three files, the card last."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(checkpoint.config), indent=1) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    write_safetensors(folder / WEIGHTS_FILE, checkpoint.tensors)
    (folder / CARD_FILE).write_text(json.dumps(card.to_json(), indent=1) + "\n", encoding="utf-8")


def save(
    folder: Path,
    model: VQGAN,
    *,
    name: str,
    preset: str = "crop",
    precision: str = "float32",
    about: Mapping[str, str],
    weights_dtype: str = "float16",
) -> TokenizerCard:
    """Writes a network as a tokenizer's folder; its weights are rounded to `weights_dtype`."""
    checkpoint = read_out(model, weights_dtype)
    card = checkpoint.card(name=name, preset=preset, precision=precision, about=about)
    write_folder(folder, checkpoint, card)
    return card


def _read_config(path: Path) -> VQGANConfig:
    try:
        values = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the network's config {path}: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__}, expected a JSON object: the config of a VQGAN")
    return VQGANConfig.from_json(values)
