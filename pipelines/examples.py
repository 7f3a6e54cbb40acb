"""From an example's media to the squares of pixels that are encoded: decode, align, annotate, cut."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pipelines.annotate.annotators import DRAWN, drawing
from pipelines.augment import LARGEST_ASPECT, STANDARD, Augmentation, geometry
from pipelines.geometry import Geometry, cut, cut_scaled, scaled_whole
from pipelines.meter import Meter
from pipelines.sources.base import Drawn, Encoded, Example, Reject
from pipelines.sources.trust import fault_of
from tokenizer.images import ImageError

Frames = Sequence[UInt8[np.ndarray, "h w 3"]]  # of one role of one example; one frame for a still

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # pictures over our own limit are rejected
Image.init()  # registers all of Pillow's formats once, before threads open pictures
ASPECT_TOLERANCE = 0.02  # a depth map of half the size rounds its sides


@dataclass(frozen=True, kw_only=True)
class Look:
    """How examples of a dataset become squares. `dataset` seeds the views; `roles` are the source's, input first."""

    dataset: str
    roles: tuple[str, ...]
    annotate: tuple[str, ...]
    preset: str
    size: int
    augment: Augmentation = STANDARD


@dataclass(frozen=True, kw_only=True)
class Squares:
    """A view of an example ready to be encoded: for each role uint8[n size size 3], n = 1 for a still."""

    key: str
    view: int
    pictures: Mapping[str, UInt8[np.ndarray, "n s s 3"]]
    meta: Mapping[str, Any]
    whole: Frames = ()  # the first role at the view's resolution, where networks are to draw on it
    shown: Geometry | None = None  # what is cut out of what they draw


def squares(example: Example, look: Look, views: Sequence[int], meter: Meter | None = None) -> list[Squares] | Reject:
    """Makes the squares of some views from one decoding; whatever is wrong with the media comes as a reject.

    `meter` is told what decoding and drawing take.
    """
    stage: Literal["decode", "align"] = "decode"
    meter = meter or Meter()
    if fault := fault_of(example.key, example.meta):
        return Reject(key=example.key, source=example.source, stage="read", reason=fault)
    try:
        with meter.at("decode"):
            media = decoded(example, look.roles)
            stage = "align"
            shape = _common_shape(media)
    except ImageError as error:
        return Reject(key=example.key, source=example.source, stage=stage, reason=error.reason, detail=str(error))
    return [_view(example, look, view, media, shape, meter) for view in views]


def _view(
    example: Example, look: Look, view: int, media: Mapping[str, Frames], shape: tuple[int, int], meter: Meter
) -> Squares:
    with meter.at("decode"):
        shown = geometry(look.dataset, example.key, view, shape, look.preset, look.size, look.augment)
        pictures = {
            role: np.stack([cut(frame, shown, nearest=_is_exact(example.media[role])) for frame in media[role]])
            for role in look.roles
        }
        whole = [scaled_whole(frame, shown) for frame in media[look.roles[0]]] if look.annotate else []
    for annotator in filter(DRAWN.__contains__, look.annotate):
        draw = drawing(annotator)
        with meter.at("annotate"):
            pictures[annotator] = np.stack([cut_scaled(draw(frame, example.key), shown) for frame in whole])
    networks = any(annotator not in DRAWN for annotator in look.annotate)
    size = {"source": example.source, "size": [shape[1], shape[0]]}
    meta = {**size, **example.meta, **_view_meta(shown, view, shape)}
    return Squares(
        key=example.key, view=view, pictures=pictures, meta=meta, whole=whole if networks else (), shown=shown
    )


def decoded(example: Example, roles: Sequence[str]) -> dict[str, Frames]:
    """Returns the frames of each role, one for a still; what is drawn gets the shape of the first role's first."""
    media: dict[str, Frames] = {}
    shape = (0, 0)
    for role in roles:
        media[role] = [_pixels(still, shape) for still in frames(example.media[role])]
        if not media[role]:
            raise ImageError("no-frames", f"the clip of role {role} is empty")
        shape = shape if any(shape) else media[role][0].shape[:2]
    return media


def frames(media: Any) -> Sequence[Any]:
    """Returns the frames of a media value, one for a still."""
    return [media] if isinstance(media, (Encoded, Drawn, np.ndarray)) else media


def _pixels(still: Any, shape: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    if isinstance(still, Encoded):
        return still.decode(still.data)
    if isinstance(still, Drawn):
        return still.draw(shape)
    pixels: np.ndarray = still
    return pixels


def _common_shape(media: Mapping[str, Frames]) -> tuple[int, int]:
    """Returns height and width of the first role's first frame after checking that all others have its aspect."""
    first = next(iter(media.values()))[0]
    height, width = first.shape[:2]
    if max(height, width) > LARGEST_ASPECT * min(height, width):
        raise ImageError("too-narrow", f"{width} x {height}, one side is over {LARGEST_ASPECT} times the other")
    for role, frames in media.items():
        for frame in frames:
            h, w = frame.shape[:2]
            if abs(w * height - h * width) > ASPECT_TOLERANCE * max(w * height, h * width):
                raise ImageError("sizes-differ", f"{role} is {w} x {h}, the first picture {width} x {height}")
    return height, width


def _is_exact(media: Any) -> bool:
    return any(isinstance(still, (Encoded, Drawn)) and still.exact for still in frames(media)[:1])


def _view_meta(shown: Geometry, view: int, shape: tuple[int, int]) -> dict[str, Any]:
    """Returns what `Geometry.meta` tells of an augmented view; the original is its preset's and needs no more."""
    return shown.meta(shape[1], shape[0]) if view else {}
