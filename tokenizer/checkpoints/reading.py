"""Reads a checkpoint of any layout: every tensor is used exactly once, or none."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tokenizer.card import CARD_FILE
from tokenizer.checkpoints.checkpoint import Checkpoint
from tokenizer.checkpoints.diffusers import modern
from tokenizer.checkpoints.files import Stored, read_stored
from tokenizer.checkpoints.folder import read_folder
from tokenizer.checkpoints.infer import infer
from tokenizer.checkpoints.layout import Layout, to_ours
from tokenizer.checkpoints.network import check_numbers, check_shapes, parameter_shapes
from tokenizer.checkpoints.sniff import EXPECTED, sniff
from tokenizer.checkpoints.tensors import dtype_of
from tokenizer.vqgan import VQGANConfig
from visent.errors import UserError

IMAGE_SIZE = 256  # pixels a side, where no config says otherwise: what all public networks were trained on


def read(path: Path | str, *, signed_pixels: bool | None = None, image_size: int | None = None) -> Checkpoint:
    """Reads a file or folder of weights, whatever its layout.

    `signed_pixels` says that the network takes pixels in [-1, 1] (True) or [0, 1] (False), `image_size` how many on
    each side, where that differs from what the file says or its project's custom. Few files tell either.

    Raises:
        UserError: nothing there is a VQGAN, it is damaged, or a tensor is missing, left over or not finite.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"there is no file or folder {path}; expected {EXPECTED}")
    if (path / CARD_FILE).is_file():
        checkpoint, _ = read_folder(path)
        return _as_told(checkpoint, signed_pixels=signed_pixels, image_size=image_size)
    stored = read_stored(path, EXPECTED)
    layout = sniff(stored)
    found = _modern(stored)
    config = _changed(_config(stored, layout, found), signed_pixels, image_size)
    checkpoint = _converted(stored, layout, config, found)
    check_numbers(str(stored.file), checkpoint.tensors)
    return checkpoint


def _converted(stored: Stored, layout: Layout, config: VQGANConfig, found: Mapping[str, np.ndarray]) -> Checkpoint:
    """Brings tensors under their own names and in their own order into ours; all of them, or none."""
    theirs = {name: layout.rename(name, len(config.channel_mult)) for name in parameter_shapes(config)}
    ours = {their: name for name, their in theirs.items()}
    tensors = {name: to_ours(tensor, ours.get(name, name), layout.order) for name, tensor in found.items()}
    check_shapes(
        f"{stored.file} ({layout.name} layout, shapes as visent orders them)",
        {name: tensor.shape for name, tensor in tensors.items()},
        {theirs[name]: shape for name, shape in parameter_shapes(config).items()},
        hint=_disagreement(stored, layout, found, config),
    )
    notes = {"read from": f"{stored.file.name} ({layout.name} layout)"}
    if stored.left_out:
        notes["left out"] = f"{stored.left_out} tensors of the training losses"
    return Checkpoint(
        layout=layout.name,
        config=config,
        tensors={name: tensors[their] for name, their in theirs.items()},
        stored_dtype=dtype_of(found),
        notes=notes,
    )


def _modern(stored: Stored) -> dict[str, np.ndarray]:
    found = {modern(name): tensor for name, tensor in stored.tensors.items()}
    if len(found) < len(stored.tensors):
        raise UserError(f"{stored.file} holds the same attention under its names of old and of today")
    return found


def _config(stored: Stored, layout: Layout, found: Mapping[str, np.ndarray]) -> VQGANConfig:
    """Returns what the config file says, else what the shapes say."""
    if stored.config is None or layout.facts is None:
        return _inferred(stored, layout, found, {"signed_pixels": layout.signed_pixels})
    try:
        facts = layout.facts(stored.config)
        if not any(name.startswith(("decoder.", "post_quant_conv.")) for name in found):
            facts = {**facts, "decoder_res_blocks": 0}
        config = VQGANConfig.from_json(facts)
    except (UserError, TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        raise UserError(f"{stored.file.parent}/config.json is not that of a VQGAN: {error}") from error
    if why := layout.skips and layout.skips(config):
        raise UserError(f"{stored.file.parent}/config.json: {why}: visent would give other codes")
    return config


def _changed(config: VQGANConfig, signed_pixels: bool | None, image_size: int | None) -> VQGANConfig:
    """Returns a config with what the user told of it; attention stays at its levels."""
    if signed_pixels is not None:
        config = dataclasses.replace(config, signed_pixels=signed_pixels)
    if image_size is not None:
        attended = tuple(side * image_size // config.image_size for side in config.attn_resolutions)
        config = dataclasses.replace(config, image_size=image_size, attn_resolutions=attended)
    return config


def _inferred(stored: Stored, layout: Layout, found: Mapping[str, np.ndarray], kept: Mapping[str, Any]) -> VQGANConfig:
    levels = _levels(found, layout)

    def shape_of(name: str) -> tuple[int, ...] | None:
        tensor = found.get(layout.rename(name, levels))
        return None if tensor is None else to_ours(tensor, name, layout.order).shape

    try:
        return infer(shape_of, **{"image_size": IMAGE_SIZE, **kept})
    except UserError as error:
        raise UserError(f"{stored.file} ({layout.name} layout): {error}") from error


def _levels(found: Mapping[str, np.ndarray], layout: Layout) -> int:
    level = 0
    while layout.rename(f"encoder.levels.{level}.blocks.0.conv1.kernel", 0) in found:
        level += 1
    return level


def _disagreement(stored: Stored, layout: Layout, found: Mapping[str, np.ndarray], config: VQGANConfig) -> str:
    """Says in which fields the config file and the shapes differ, for the error when they do not fit."""
    if stored.config is None:
        return ""
    kept = {name: getattr(config, name) for name in ("image_size", "norm_groups", "signed_pixels")}
    try:
        shapes = dataclasses.asdict(_inferred(stored, layout, found, kept))
    except UserError as error:
        return str(error)
    said = dataclasses.asdict(config)
    different = [f"{name} {shapes[name]}, not {said[name]}" for name in said if said[name] != shapes[name]]
    return f"by their shapes they are of a network with {'; '.join(different)} as config.json says" if different else ""


def _as_told(checkpoint: Checkpoint, **told: int | bool | None) -> Checkpoint:
    """Returns a checkpoint of our own layout, whose config states everything: nothing else may be told of it."""
    for name, value in told.items():
        if value not in (None, stated := getattr(checkpoint.config, name)):
            raise UserError(
                f"{name} is {value}, but the tokenizer's own config.json says {stated}: leave it out, or convert the "
                "checkpoint that it was made from again"
            )
    return checkpoint
