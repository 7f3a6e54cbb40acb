"""The TOML file beside an ONNX model: how a picture becomes its input, and what its output means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipelines.render import palettes
from visent.errors import UserError, unknown
from visent.untrusted.fields import read_fields
from visent.untrusted.names import is_plain

# decode -> what `values` may be, the first by default
DECODINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "depth": ("disparity", "distance"),
        "edges": ("logits", "probabilities"),
        "labels": ("scores", "ids"),
        "image": ("colours",),
    }
)
PALETTES: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        "voc": palettes.voc,
        "ade20k": palettes.ade20k,
        "painter_ade20k": palettes.painter_ade20k,
        "cityscapes": palettes.cityscapes,
        "cityscapes_train": palettes.cityscapes_train,
        "coco_stuff": palettes.coco_stuff,
        "vipseg": palettes.vipseg,
    }
)
MOST_SIDE = 8192  # pixels of an input, and pictures of a batch
CHOICES = {
    "decode": tuple(DECODINGS),
    "layout": ("NCHW", "NHWC"),
    "colours": ("RGB", "BGR"),
    "palette": tuple(PALETTES),
}


@dataclass(frozen=True, kw_only=True)
class OnnxCard:
    """A picture is squashed to `size`; its input is (pixel / scale - mean) / std, channel by channel.

    The output is enlarged to the picture again. `depth` is drawn as other depth maps are, `edges` as brightness,
    `labels` in a palette, whose row of the network's class 0 is `first_row`, and an `image` as it is, its values in
    `range` and its channels in the order of `colours`.
    """

    file: str  # of the model, beside this file
    size: tuple[int, ...]  # height and width of the input
    decode: str
    values: str = ""  # which of DECODINGS; "" is the first
    layout: str = "NCHW"  # of input and output
    colours: str = "RGB"
    scale: float = 255.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    output: str = ""  # its name, where there are several
    palette: str = ""
    first_row: int = 0  # 1 where a palette's row 0 is "other" and the network has no such class
    range: tuple[float, ...] = (0.0, 1.0)
    batch_size: int = 4  # where the model leaves it open

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices and (value or name != "palette"):
                raise unknown(name, value, choices)
        object.__setattr__(self, "values", self.values or DECODINGS[self.decode][0])
        if self.values not in DECODINGS[self.decode]:
            raise unknown(f"values of {self.decode}", self.values, DECODINGS[self.decode])
        if (self.decode == "labels") != bool(self.palette):
            raise UserError('palette goes with decode = "labels", and with nothing else')
        if not is_plain(self.file):
            raise UserError(f"file is {self.file[:80]!r}, expected the name of a model right beside the card")
        for name, length in (("size", 2), ("mean", 3), ("std", 3), ("range", 2)):
            if len(getattr(self, name)) != length:
                raise UserError(f"{name} is {list(getattr(self, name))}, expected {length} numbers")
        if min(*self.size, self.batch_size) < 1 or 0 in (self.scale, *self.std) or self.range[0] >= self.range[1]:
            raise UserError("size, batch_size, scale and std must be positive, and range must rise")
        if max(self.size) > MOST_SIDE or self.batch_size > MOST_SIDE:
            raise UserError(f"size is {list(self.size)}, batch_size {self.batch_size}, expected up to {MOST_SIDE}")
        rows = len(PALETTES[self.palette]()) if self.palette else 1
        if not 0 <= self.first_row < rows:
            raise UserError(f"first_row is {self.first_row}, palette {self.palette!r} has {rows} rows")

    @property
    def palette_rows(self) -> UInt8[np.ndarray, "k 3"]:
        """The colour of each of the network's classes."""
        rows: np.ndarray = PALETTES[self.palette]()
        return rows[self.first_row :]


def read_card(path: Path) -> OnnxCard:
    """Reads the TOML file.

    Raises: `UserError` for a file that is missing or no TOML, an unknown or missing key, or a value that is none.
    """
    return read_fields(path, OnnxCard, "`pipelines/README.md` for what describes a model")
