"""The TOML file beside an ONNX network that judges: how pixels become its input, and what its outputs are."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Float32

from trainer.networks.network import PAPERS
from trainer.networks.resizing import Grid
from visent.errors import UserError, unknown
from visent.untrusted.arrays import read_array
from visent.untrusted.fields import read_fields
from visent.untrusted.names import is_plain

AXES = {"images": "NHWC", "clips": "NFHWC"}  # of pixels: pictures, frames, height, width, channels
MOST_SIDE = 4096  # pixels of an input, its frames, and what is in a batch
MOST_MEAN = 1 << 28  # numbers in a file of means


@dataclass(frozen=True, kw_only=True)
class NetworkCard:
    """Pixels are resized to `size`, cut to the `crop` in their middle, and given as (pixel / scale - mean) / std.

    `resize` is one of the grids of trainer/networks/resizing.py; nothing is rounded in between.
    """

    file: str  # of the network, beside this file
    sha256: str  # of that file
    name: str = ""  # that stands beside figures, or
    port_of: str = ""  # one of PAPERS, where whoever made the file says that it gives the same numbers
    takes: str  # images or clips
    frames: int = 0  # of a clip
    size: tuple[int, ...]  # height and width
    crop: tuple[int, ...] = ()  # height and width; all unless said
    resize: str = "edges"
    layout: str = ""  # the input's axes: NCHW unless said for images, NCFHW for clips
    colours: str = "RGB"  # or BGR: the order of channels, also of mean and std
    scale: float = 255.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    mean_file: str = ""  # .npy beside this file, of the input's axes without N, in the place of mean
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    features: str  # output that Fréchet distances compare
    probabilities: str = ""  # output, or
    logits: str = ""  # output whose softmax they are
    batch_size: int = 8  # where the network leaves it open

    def __post_init__(self) -> None:
        for name, choices in (("takes", tuple(AXES)), ("resize", get_args(Grid)), ("colours", ("RGB", "BGR"))):
            if getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), choices)
        if self.port_of and self.port_of not in PAPERS.values():
            raise UserError(f"port_of is {self.port_of!r}, expected one of {', '.join(map(repr, PAPERS.values()))}")
        if bool(self.name) == bool(self.port_of) or self.name in PAPERS.values():
            raise UserError(
                f"name is {self.name!r}, expected one of its own, or port_of where it is the papers' network"
            )
        object.__setattr__(self, "layout", self.layout or {"images": "NCHW", "clips": "NCFHW"}[self.takes])
        object.__setattr__(self, "crop", self.crop or self.size)
        axes = AXES[self.takes]
        if sorted(self.layout) != sorted(axes) or self.layout[0] != "N":
            raise UserError(f"layout is {self.layout!r}, expected N and then {', '.join(axes[1:])} in any order")
        for name in ("file", "mean_file"):
            if getattr(self, name) and not is_plain(getattr(self, name)):
                raise UserError(f"{name} is {getattr(self, name)[:80]!r}, expected the name of a file beside the card")
        for name, length in (("size", 2), ("crop", 2), ("mean", 3), ("std", 3)):
            if len(getattr(self, name)) != length:
                raise UserError(f"{name} is {list(getattr(self, name))}, expected {length} numbers")
        self._check_counts()

    def _check_counts(self) -> None:
        if min(*self.crop, self.batch_size) < 1 or 0 in (self.scale, *self.std):
            raise UserError("size, crop and batch_size must be positive, scale and std other than 0")
        if max(*self.size, self.batch_size, self.frames) > MOST_SIDE:
            raise UserError(f"size, frames and batch_size may be {MOST_SIDE} at most, got {list(self.size)}")
        if self.crop[0] > self.size[0] or self.crop[1] > self.size[1]:
            raise UserError(f"crop is {list(self.crop)}, expected a part of size, {list(self.size)}")
        if (self.takes == "clips") != (self.frames > 0):
            raise UserError(f"frames is {self.frames}, expected those of a clip, and none for images")
        if self.probabilities and self.logits:
            raise UserError("both probabilities and logits are named: the first are the softmax of the others")

    @property
    def shape(self) -> tuple[int, ...]:
        """The input's axes without the first."""
        sides = {"C": 3, "F": self.frames, "H": self.crop[0], "W": self.crop[1]}
        return tuple(sides[axis] for axis in self.layout[1:])

    @property
    def channels(self) -> tuple[int, ...]:
        """The shape of three numbers, one a channel, beside the input's axes."""
        return tuple(3 if axis == "C" else 1 for axis in self.layout[1:])


def read_card(path: Path) -> NetworkCard:
    """Reads the TOML file.

    Raises:
        UserError: it is missing or no TOML, or a key or value is missing, unknown or wrong.
    """
    if not path.is_file():
        raise UserError(f"no {path}: an ONNX network needs a TOML file of its name beside it; see docs/networks.md")
    return read_fields(path, NetworkCard, "docs/networks.md for what describes an ONNX network")


def read_mean(card: NetworkCard, folder: Path) -> Float32[np.ndarray, "..."]:
    """Returns what is subtracted, with the input's axes but the first.

    Raises:
        UserError: the file is missing, damaged, or of another shape.
    """
    if not card.mean_file:
        return np.array(card.mean, np.float32).reshape(card.channels)
    path = folder / card.mean_file
    try:
        with path.open("rb") as file:
            mean = read_array(file, 4 * MOST_MEAN)
    except OSError as error:
        raise UserError(f"cannot read {path}, the mean_file of a network: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is no mean of pixels: {error}") from error
    fits = mean.ndim == len(card.shape) and all(a in (1, b) for a, b in zip(mean.shape, card.shape, strict=True))
    if not fits or mean.dtype.kind != "f" or not np.isfinite(mean).all():
        raise UserError(
            f"{path} is {mean.dtype}{list(mean.shape)}, expected finite floats {list(card.shape)}, in the order "
            f"{card.layout[1:]}, or 1 where all are the same"
        )
    return mean.astype(np.float32)
