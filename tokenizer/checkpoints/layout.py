"""What a layout is: how a project names the same parameters, keeps their numbers, and writes its config."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tokenizer.vqgan import VQGANConfig

Facts = Mapping[str, Any]  # fields of a VQGANConfig that a config file states


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One project's way of keeping a VQGAN. Reading and writing go through the same name map."""

    name: str
    about: str
    rename: Callable[[str, int], str]  # our name of a parameter and the number of levels -> theirs
    order: Literal["torch", "torch-linear", "ours"]  # of the axes; "torch-linear": attention has matrices, no kernels
    signed_pixels: bool  # where no config says otherwise
    facts: Callable[[Mapping[str, Any]], Facts] | None = None  # from its config.json; it raises UserError
    to_json: Callable[[VQGANConfig], dict[str, Any]] | None = None  # back to its config.json
    lacks: Callable[[VQGANConfig], str | None]  # why this project's network cannot be the one of a config
    skips: Callable[[VQGANConfig], str | None] | None = None  # what this project's network has and does not run


def renamed(name: str, replacements: tuple[tuple[str, str], ...]) -> str:
    """Replaces parts of a dotted name, whole parts only, one rule after the other."""
    text = f".{name}."
    for ours, theirs in replacements:
        text = text.replace(f".{ours}.", f".{theirs}.")
    return text.strip(".")


def to_ours(tensor: np.ndarray, name: str, order: str) -> np.ndarray:
    """Returns a tensor in our order of axes (height, width, in, out); `name` is ours."""
    if order == "ours" or not name.endswith("kernel"):
        return tensor
    if tensor.ndim == 2 and order == "torch-linear":
        return np.ascontiguousarray(tensor.T[None, None])
    return np.ascontiguousarray(tensor.transpose(2, 3, 1, 0)) if tensor.ndim == 4 else tensor


def to_theirs(tensor: np.ndarray, name: str, order: str) -> np.ndarray:
    """Undoes `to_ours`."""
    if order == "ours" or not name.endswith("kernel"):
        return tensor
    if order == "torch-linear" and ".attention" in name:
        return np.ascontiguousarray(tensor[0, 0].T)
    return np.ascontiguousarray(tensor.transpose(3, 2, 0, 1))


def common_lacks(config: VQGANConfig, *, groups: int | None, noted: bool) -> str | None:
    """Why other projects' implementations of the paper cannot hold a network, or None.

    `groups` is the number that their norms always have; `noted` says that a config file keeps what shapes do not tell.
    """
    if config.patch_size != 1:
        return f"it folds {config.patch_size} x {config.patch_size} pixels into channels"
    if not config.has_decoder:
        return "it has no decoder, and its programs load none without"
    if not config.norm_groups:
        return "its norms have no groups (RMS norms), there they have"
    if groups and config.norm_groups != groups:
        return f"its norms have {config.norm_groups} groups, there they have {groups}"
    if not noted and not config.signed_pixels:
        return "it takes pixels in [0, 1], there they are in [-1, 1] and the file cannot say otherwise"
    if not noted and config.image_size != 256:
        return f"its images have {config.image_size} pixels a side and the file cannot say so"
    return None


def uneven(config: VQGANConfig) -> str | None:
    """Why projects whose decoder always has one block a level more than the encoder cannot hold a network."""
    if config.decoder_res_blocks != config.num_res_blocks + 1:
        return f"its decoder has {config.decoder_res_blocks} blocks a level, not one more than its encoder"
    return None
