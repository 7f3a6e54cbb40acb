"""visent's own layout: a folder of `card.json`, `config.json` (the network's shape) and `model.safetensors`.

The tensors are one for each parameter, named by its path in the network.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from safetensors import SafetensorError

from tokenizer.card import CARD_FILE, TokenizerCard, load_card, tokenizer_dir
from tokenizer.tokenizer import Tokenizer
from tokenizer.vqgan import VQGAN, VQGANConfig
from visent.errors import UserError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def load(name_or_path: str | Path = "default") -> Tokenizer:
    """Loads a tokenizer: `default` (shipped with visent) or a folder.

    Raises:
        UserError: it is missing, or its files do not belong together.
    """
    folder = tokenizer_dir(name_or_path)
    card = load_card(name_or_path)
    try:
        config_bytes, weight_bytes = (folder / CONFIG_FILE).read_bytes(), (folder / WEIGHTS_FILE).read_bytes()
    except OSError as error:
        raise UserError(f"the tokenizer in {folder} is incomplete: {error}") from error
    digest = hashlib.sha256(config_bytes + weight_bytes).hexdigest()
    if digest != card.weights_sha256:
        raise UserError(
            f"the tokenizer in {folder} is not the one of its card: {CONFIG_FILE} and {WEIGHTS_FILE} have sha256 "
            f"{digest}, expected {card.weights_sha256}; copy the folder again"
        )
    try:
        config = VQGANConfig.from_json(json.loads(config_bytes))
        weights = safetensors.numpy.load(weight_bytes)
    except (ValueError, SafetensorError) as error:
        raise UserError(f"cannot read the tokenizer in {folder}: {error}") from error
    return Tokenizer(_model(config, weights, folder), card)


def save(folder: Path, model: VQGAN, *, name: str, preset: str = "crop", about: Mapping[str, str]) -> TokenizerCard:
    """Writes a tokenizer's folder, the card last; weights are stored as float16, arithmetic is float32."""
    config = model.config
    tensors = {path: np.asarray(value, np.float16) for path, value in _named(nnx.state(model, nnx.Param))}
    weight_bytes = safetensors.numpy.save(tensors)
    config_bytes = (json.dumps(dataclasses.asdict(config), indent=1) + "\n").encode()
    card = TokenizerCard(
        name=name,
        weights_sha256=hashlib.sha256(config_bytes + weight_bytes).hexdigest(),
        preset=preset,
        image_size=config.image_size,
        grid=config.grid,
        codebook_size=config.codebook_size,
        dtype="float32",
        about=about,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_bytes(config_bytes)
    (folder / WEIGHTS_FILE).write_bytes(weight_bytes)
    (folder / CARD_FILE).write_text(json.dumps(card.to_json(), indent=1) + "\n", encoding="utf-8")
    return card


def _named(state: Any) -> Iterator[tuple[str, Any]]:
    for path, variable in nnx.to_flat_state(state):
        yield ".".join(map(str, path)), variable[...]


def _model(config: VQGANConfig, weights: Mapping[str, np.ndarray], folder: Path) -> VQGAN:
    """Builds the network with the stored weights; nothing is initialised at random on the way."""
    graph, state = nnx.split(nnx.eval_shape(lambda: VQGAN(config, nnx.Rngs(0))))
    flat = nnx.to_flat_state(state)
    shapes = {".".join(map(str, path)): variable.shape for path, variable in flat}
    found = {name: value.shape for name, value in weights.items()}
    if shapes != found:
        name, *_ = sorted(name for name in {**shapes, **found} if shapes.get(name) != found.get(name))
        raise UserError(
            f"the weights in {folder} do not fit {CONFIG_FILE}: {name} has shape {found.get(name)}, "
            f"expected {shapes.get(name)}"
        )
    loaded = [
        (path, variable.replace(jnp.asarray(weights[name], jnp.float32)))
        for (path, variable), name in zip(flat, shapes, strict=True)
    ]
    model = nnx.merge(graph, nnx.from_flat_state(loaded))
    assert isinstance(model, VQGAN)
    return model
