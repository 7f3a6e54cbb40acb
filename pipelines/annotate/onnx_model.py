"""Any network in an ONNX file, run by onnxruntime and described by a TOML file beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from PIL import Image

from manifests.files import is_url, name, parent
from manifests.legend import Legend
from pipelines.annotate import models
from pipelines.annotate.canvas import resized
from pipelines.annotate.onnx_card import OnnxCard, read_card
from pipelines.render.depth import depth_to_rgb
from pipelines.render.legends import legend
from tokenizer.images import ImageError
from visent.errors import UserError, unknown
from visent.untrusted.onnx_sessions import TYPES, open_session


class OnnxModel:
    """A network of one input, which is a batch of pictures of one size."""

    def __init__(self, card: OnnxCard, path: Path) -> None:
        self._card, self._path = card, path
        self._session = open_session(path)
        self.exact = card.decode == "labels"
        self._input, self.batch_size, self._type = self._checked_input()
        self._output = self._checked_output()
        self.draw(self.run(np.zeros((self.batch_size, *card.size, 3), np.float32))[0], np.zeros((2, 2, 3), np.uint8))

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "a b 3"]:
        """Squashes the picture to the network's size and scales its values."""
        height, width = self._card.size
        squashed = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        if self._card.colours == "BGR":
            squashed = squashed[..., ::-1]
        values = squashed.astype(np.float32) / np.float32(self._card.scale)
        return (values - np.array(self._card.mean, np.float32)) / np.array(self._card.std, np.float32)

    def run(self, inputs: Float32[np.ndarray, "n a b 3"]) -> Shaped[np.ndarray, "n ..."]:
        """Returns the network's output."""
        values = inputs.transpose(0, 3, 1, 2) if self._card.layout == "NCHW" else inputs
        (output,) = self._session.run([self._output], {self._input: np.ascontiguousarray(values, self._type)})
        if len(output) != len(inputs):
            raise UserError(
                f"{self._path}: output {self._output!r} has shape {output.shape}, expected one map a picture"
            )
        if not np.isfinite(output).all():
            raise UserError(f"{self._path} gives values that are not finite; give a model in float32")
        result: np.ndarray = output
        return result

    def draw(self, output: Shaped[np.ndarray, "..."], image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Draws the output of one picture in the size of the picture."""
        shape, card = image.shape[:2], self._card
        if card.decode == "labels":
            return self._labels(output, shape)
        channels = 3 if card.decode == "image" else 1
        values = resized(self._maps(output, channels), shape)
        if card.decode == "depth":
            return self._depth(values[..., 0])
        if card.decode == "image":
            low, high = card.range
            picture = _bytes((values - low) / (high - low))
            return np.ascontiguousarray(picture[..., ::-1]) if card.colours == "BGR" else picture
        if card.values == "logits":
            values = 1 / (1 + np.exp(-np.clip(values, -50, 50)))
        return np.repeat(_bytes(values), 3, axis=2)

    def _maps(self, output: Shaped[np.ndarray, "..."], channels: int | None) -> Float32[np.ndarray, "a b c"]:
        """Returns maps with the channels last; a single one may come without the axis of channels."""
        maps = output[..., None] if output.ndim == 2 else np.moveaxis(output, 0, 2) if self._first(output) else output
        if maps.ndim != 3 or (channels is not None and maps.shape[2] != channels):
            raise UserError(
                f"{self._path}: output {self._output!r} has shape {output.shape} for a picture, expected "
                f"{channels or 'several'} map{'s' if channels != 1 else ''} for decode = {self._card.decode!r}"
            )
        return np.ascontiguousarray(maps, np.float32)

    def _first(self, output: Shaped[np.ndarray, "..."]) -> bool:
        return output.ndim == 3 and self._card.layout == "NCHW"

    def _depth(self, values: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
        """A network knows every pixel, so a disparity of 0 is just far."""
        try:
            if self._card.values == "disparity":
                return depth_to_rgb(values - values.min() + np.float32(1), "disparity")
            return depth_to_rgb(np.maximum(values, np.float32(1e-6)), "distance")
        except ImageError as error:
            raise UserError(f"{self._path}: {error}") from error

    def _labels(self, output: Shaped[np.ndarray, "..."], shape: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
        rows = self._card.palette_rows
        if self._card.values == "ids":
            ids = Image.fromarray(self._maps(output, 1)[..., 0]).resize(shape[::-1], Image.Resampling.NEAREST)
            labels = np.asarray(ids).astype(np.int64)
        else:
            labels = resized(self._maps(output, None), shape).argmax(axis=2)
        if labels.min() < 0 or labels.max() >= len(rows):
            raise UserError(
                f"{self._path} gives classes {labels.min()} to {labels.max()}, palette {self._card.palette!r} from row "
                f"{self._card.first_row} has colours for 0 to {len(rows) - 1}"
            )
        painted: np.ndarray = rows[labels]
        return painted

    def _checked_input(self) -> tuple[str, int, Any]:
        """Returns the name, batch size and type of the input after comparing it with the card."""
        inputs, (height, width) = self._session.get_inputs(), self._card.size
        expected = (3, height, width) if self._card.layout == "NCHW" else (height, width, 3)
        shape, kind = inputs[0].shape, inputs[0].type
        fits = len(shape) == 4 and all(
            not isinstance(a, int) or a == b for a, b in zip(shape[1:], expected, strict=True)
        )
        if len(inputs) != 1 or not fits or kind not in TYPES:
            got = ", ".join(f"{one.name}: {one.type}{one.shape}" for one in inputs)
            raise UserError(f"{self._path} takes {got}; by its TOML it should take one float (n, {str(expected)[1:]}")
        return inputs[0].name, shape[0] if isinstance(shape[0], int) else self._card.batch_size, TYPES[kind]

    def _checked_output(self) -> str:
        names = [output.name for output in self._session.get_outputs()]
        if not self._card.output and len(names) > 1:
            raise UserError(f"{self._path} has outputs {', '.join(names)}: name one as `output` in its TOML")
        if self._card.output and self._card.output not in names:
            raise unknown(f"output of {self._path}", self._card.output, names)
        return self._card.output or names[0]


def _bytes(values: Float32[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w c"]:
    result: np.ndarray = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return result


def files(card: str | Path) -> list[Path]:
    """Returns the TOML file, the model, and the files of its weights: those whose names begin with the model's.

    Those at a URL are fetched.

    Raises: `UserError` when one is missing.
    """
    card_path = _fetched(str(card)) if is_url(card) else Path(card)
    path = card_path.parent / read_card(card_path).file
    if not path.is_file():
        raise UserError(f"{card_path} names the model {path}, which is not there")
    return [card_path, *sorted(other for other in path.parent.iterdir() if other.name.startswith(path.name))]


def _fetched(url: str) -> Path:
    """Fetches a TOML file, and then what it names."""
    folder, card = parent(url), name(url)
    model = read_card(models.fetched(folder, lambda other: other == card) / card).file
    return models.fetched(folder, lambda other: other == card or other.startswith(model)) / card


def legend_of(files: Sequence[Path]) -> Legend | None:
    """Returns the colours of the classes that a model draws, by the rows of its palette; None where it draws others."""
    card = read_card(files[0])
    if card.decode != "labels":
        return None
    rows = enumerate(card.palette_rows.tolist(), card.first_row)
    return legend({number: (red, green, blue) for number, (red, green, blue) in rows})


def load(files: Sequence[Path], size: int) -> OnnxModel:
    """Opens a model, which is the same for squares of any `size`, and runs it once.

    Raises: `UserError` when onnxruntime is not installed, or the model does not fit its TOML.
    """
    return OnnxModel(read_card(files[0]), files[1])
