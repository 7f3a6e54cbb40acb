"""Label maps: drawn in colours for a tokenizer, read back from its pictures, and how many pixels stayed right."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from PIL import Image

from tokenizer.images import ImageError, open_still, prepare, upright

MAX_CLASSES = 256
_GREY = ("1", "L", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class LabelMap:
    """One label of each pixel, and the colour that each label is drawn in."""

    labels: UInt8[np.ndarray, "h w"]
    palette: UInt8[np.ndarray, "k 3"]
    named: bool  # whether a label means the same in other maps; colours of an RGB picture may not

    @property
    def picture(self) -> UInt8[np.ndarray, "h w 3"]:
        """The map in its colours."""
        drawn: np.ndarray = self.palette[self.labels]
        return drawn

    @property
    def present(self) -> list[int]:
        """The labels that occur, in order."""
        return [int(label) for label in np.unique(self.labels)]

    def square(self, preset: str, size: int) -> "LabelMap":
        """Returns the square of a preset; labels are picked, never mixed."""
        channels = np.repeat(self.labels[..., None], 3, axis=2)
        return LabelMap(prepare(channels, preset, size, nearest=True)[..., 0], self.palette, self.named)


def voc_palette() -> UInt8[np.ndarray, "256 3"]:
    """Builds the palette of the VOC development kit (VOClabelcolormap).

    The bits of the label are dealt to red, green and blue from the top: 0 is black, 255 is (224, 224, 192).
    """
    ids = np.arange(256)
    channels = [sum(((ids >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


def decode_label_map(data: bytes) -> LabelMap:
    """Reads an annotation as labels and their colours.

    Of a palette picture the indices and its palette. Of a grey picture the values, which are drawn with VOC's palette.
    Of a colour picture its exact colours, at most 256, as labels of that picture alone.

    Raises:
        ImageError: it is no picture (see `decode_image`) or no label map; reasons: not-labels, too-many-colours,
            same-colour.
    """
    image = open_still(data)
    try:
        if image.mode == "P":
            return _from_palette(image)
        return _from_grey(image) if image.mode in _GREY else _from_colours(image)
    except ImageError:
        raise
    except Exception as error:  # Pillow's converters raise many types on damaged palettes
        raise ImageError("damaged", str(error)) from error


def _from_palette(image: Image.Image) -> LabelMap:
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    labels = np.array(upright(image), np.uint8)
    if labels.max() >= len(palette):
        raise ImageError("damaged", f"label {labels.max()} has no colour in the palette of {len(palette)}")
    result = LabelMap(labels, palette, named=True)
    colours = palette[result.present]
    if len(np.unique(colours, axis=0)) < len(colours):
        raise ImageError("same-colour", "two of its labels have the same colour in the palette")
    return result


def _from_grey(image: Image.Image) -> LabelMap:
    values = np.array(upright(image))
    if values.max() > 255:
        raise ImageError("not-labels", f"values up to {values.max()}, expected labels of 0..255")
    return LabelMap(values.astype(np.uint8), voc_palette(), named=True)


def _from_colours(image: Image.Image) -> LabelMap:
    if image.mode in ("I", "F"):
        raise ImageError("not-labels", f"mode {image.mode}, expected a palette, 8 or 16 bit grey, or colours")
    colours = upright(image).convert("RGB")
    if colours.getcolors(MAX_CLASSES) is None:
        raise ImageError("too-many-colours", f"more than {MAX_CLASSES} colours: a photo, or an annotation kept as JPEG")
    red, green, blue = np.moveaxis(np.array(colours), 2, 0).astype(np.uint32)
    found, labels = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    palette = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    return LabelMap(labels.reshape(red.shape).astype(np.uint8), palette.astype(np.uint8), named=False)


def read_labels(
    picture: UInt8[np.ndarray, "h w 3"], truth: LabelMap, classes: Collection[int]
) -> UInt8[np.ndarray, "h w"]:
    """Returns the label with the nearest colour (Euclidean, in RGB) for each pixel of a reconstruction.

    `classes` are the labels to choose from, in the colours of the true map. Where two have the same colour there, one
    that occurs in the true map is chosen.
    """
    present = set(truth.present)
    candidates: dict[tuple[int, ...], int] = {}
    for label in sorted(classes, key=lambda label: (label not in present, label)):
        if label < len(truth.palette):
            candidates.setdefault(tuple(truth.palette[label].tolist()), label)
    candidates = dict(sorted(candidates.items(), key=lambda item: item[1]))  # at equal distance, the lower label
    nearest = nearest_colour(picture, np.array(list(candidates), np.uint8))
    labels: np.ndarray = np.array(list(candidates.values()), np.uint8)[nearest]
    return labels


def nearest_colour(picture: UInt8[np.ndarray, "h w 3"], colours: UInt8[np.ndarray, "k 3"]) -> Int64[np.ndarray, "h w"]:
    """Returns the row of the colour that is nearest (Euclidean, in RGB) to each pixel; the first at equal distance."""
    points = colours.astype(np.float32)
    # |p - c|^2 without |p|^2; whole numbers below 2^24, so exact in float32. Row by row, to keep it small.
    lengths = (points**2).sum(axis=1)
    return np.stack([np.argmin(lengths - 2 * row.astype(np.float32) @ points.T, axis=1) for row in picture])


class Confusion:
    """Running counts of (true label, label read back) over pixels."""

    def __init__(self) -> None:
        self.counts = np.zeros((MAX_CLASSES, MAX_CLASSES), np.int64)

    def add(
        self, truth: UInt8[np.ndarray, "*s"], found: UInt8[np.ndarray, "*s"], where: Bool[np.ndarray, "*s"]
    ) -> None:
        """Counts the pixels where `where` holds."""
        pairs = truth[where].astype(np.int64) * MAX_CLASSES + found[where]
        self.counts += np.bincount(pairs, minlength=MAX_CLASSES**2).reshape(self.counts.shape)

    @property
    def iou(self) -> Float64[np.ndarray, "256"]:
        """Intersection over union of each label; NaN for labels that occur neither in truth nor in what was read."""
        return iou(self.counts)

    @property
    def miou(self) -> float:
        """The mean of `iou` over the labels that occur; NaN without pixels."""
        values = self.iou
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else float("nan")

    @property
    def accuracy(self) -> float:
        """Part of the pixels that kept their label; NaN without pixels."""
        total = int(self.counts.sum())
        return int(np.trace(self.counts)) / total if total else float("nan")


def iou(counts: Int64[np.ndarray, "k k"]) -> Float64[np.ndarray, "k"]:
    """Returns intersection over union of each label from counts of (true, found)."""
    both = np.diagonal(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    with np.errstate(invalid="ignore"):
        return np.asarray(both / either)
