"""A tokenizer with its weights: arrays of images to codes and back, and the folder that holds it.

A tokenizer is a folder of three files: `card.json`, `config.json` (the network's shape) and `model.safetensors` (one
tensor per parameter, named by its path in the network).
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from jaxtyping import Array, Float, Float32, Int, UInt8, UInt16
from safetensors import SafetensorError

from tokenizer.card import CARD_FILE, TokenizerCard, load_card, tokenizer_dir
from tokenizer.vqgan import VQGAN, VQGANConfig
from visent.errors import UserError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
BATCH_SIZE = 8  # the fastest on two CPU cores, see benchmarks/tokenizer_encode.py


class Tokenizer:
    """Turns squares of pixels into codes and back; safe to call from several threads.

    Every call runs the same compiled program over batches of `batch_size`, the last one padded, so the codes of an
    image depend on that image alone.
    """

    def __init__(self, model: VQGAN, card: TokenizerCard, batch_size: int = BATCH_SIZE) -> None:
        self.card = card
        self.batch_size = batch_size
        self._graph, self._state = nnx.split(model)

    def encode(self, images: UInt8[np.ndarray, "n s s 3"]) -> UInt16[np.ndarray, "n t"]:
        """Returns the codes of square RGB images of the card's size, row by row."""
        size = self.card.image_size
        if images.shape[1:] != (size, size, 3):
            raise ValueError(f"images of shape {images.shape}, expected (n, {size}, {size}, 3): use images.prepare")
        run = functools.partial(_encode, self._graph, self._state)
        return self._batched(run, images, (self.card.tokens_per_image,), np.uint16)

    def decode(self, codes: Int[np.ndarray, "n t"] | UInt16[np.ndarray, "n t"]) -> UInt8[np.ndarray, "n s s 3"]:
        """Returns the RGB images that whole grids of codes stand for."""
        if codes.shape[1:] != (self.card.tokens_per_image,):
            raise ValueError(f"codes of shape {codes.shape}, expected (n, {self.card.tokens_per_image})")
        if codes.size and not 0 <= codes.min() <= codes.max() < self.card.codebook_size:
            raise ValueError(f"codes in {codes.min()}..{codes.max()}, expected 0..{self.card.codebook_size - 1}")
        run = functools.partial(_decode, self._graph, self._state)
        size = self.card.image_size
        return self._batched(run, codes.astype(np.int32), (size, size, 3), np.uint8)

    @property
    def model(self) -> VQGAN:
        """The network, for those who read its features or go on training it."""
        model = nnx.merge(self._graph, self._state)
        assert isinstance(model, VQGAN)
        return model

    @property
    def codebook(self) -> Float32[np.ndarray, "k d"]:
        """The vector of each code."""
        return np.asarray(self._state["codebook"][...], np.float32)

    def _batched(self, run: Callable[..., Any], values: np.ndarray, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        result: np.ndarray = np.empty((len(values), *shape), dtype)
        for start in range(0, len(values), self.batch_size):
            part = values[start : start + self.batch_size]
            padding = [(0, self.batch_size - len(part))] + [(0, 0)] * (part.ndim - 1)
            result[start : start + len(part)] = np.asarray(run(np.pad(part, padding)))[: len(part)]
        return result


@functools.partial(jax.jit, static_argnums=0)
def _encode(graph: Any, state: Any, images: UInt8[Array, "n s s 3"]) -> UInt16[Array, "n t"]:
    codes: Int[Array, "n t"] = nnx.merge(graph, state).encode(images.astype(jnp.float32) / 255)
    return codes.astype(jnp.uint16)


@functools.partial(jax.jit, static_argnums=0)
def _decode(graph: Any, state: Any, codes: Int[Array, "n t"]) -> UInt8[Array, "n s s 3"]:
    images: Float[Array, "n s s 3"] = nnx.merge(graph, state).decode(codes)
    return jnp.round(images * 255).astype(jnp.uint8)


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
