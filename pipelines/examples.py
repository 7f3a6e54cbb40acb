"""From an example's media to the squares of pixels that are encoded: decode, align, annotate, cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pipelines.annotate.annotators import ANNOTATORS
from pipelines.augment import LARGEST_ASPECT, Geometry, cut, cut_scaled, geometry, scaled_whole
from pipelines.render import decode_depth, depth_to_rgb, labels_to_rgb
from pipelines.sources.base import Encoded, Example, Reject
from tokenizer.images import ImageError, decode_image, decode_labels

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


@dataclass(frozen=True, kw_only=True)
class Squares:
    """An example ready to be encoded: for each role uint8[n size size 3], n = 1 for a still."""

    key: str
    pictures: Mapping[str, UInt8[np.ndarray, "n s s 3"]]
    meta: Mapping[str, Any]


def squares(example: Example, look: Look, view: int) -> Squares | Reject:
    """Makes the squares of one view; whatever is wrong with the media comes as a reject."""
    stage: Literal["decode", "align"] = "decode"
    try:
        media = {role: _decoded(example.media[role]) for role in look.roles}
        stage = "align"
        height, width = _common_shape(media)
        shown = geometry(look.dataset, example.key, view, (height, width), look.preset, look.size)
    except ImageError as error:
        return Reject(key=example.key, source=example.source, stage=stage, reason=error.reason, detail=str(error))
    pictures = {
        role: np.stack([_cut(frame, shown, example.media[role]) for frame in media[role]]) for role in look.roles
    }
    for name in look.annotate:
        frames = [
            cut_scaled(ANNOTATORS[name](scaled_whole(frame, shown), example.key), shown)
            for frame in media[look.roles[0]]
        ]
        pictures[name] = np.stack(frames)
    meta = {"source": example.source, "size": [width, height], **example.meta, **_view_meta(shown, view, width, height)}
    return Squares(key=example.key, pictures=pictures, meta=meta)


def _decoded(media: Any) -> Sequence[UInt8[np.ndarray, "h w 3"]]:
    """Returns the frames of a role, one for a still."""
    if isinstance(media, Encoded):
        return [_picture(media)]
    return [media] if isinstance(media, np.ndarray) else media


def _picture(media: Encoded) -> UInt8[np.ndarray, "h w 3"]:
    if media.kind == "depth":
        return depth_to_rgb(decode_depth(media.data), media.depth_is)
    return labels_to_rgb(decode_labels(media.data)) if media.kind == "labels" else decode_image(media.data)


def _common_shape(media: Mapping[str, Sequence[UInt8[np.ndarray, "h w 3"]]]) -> tuple[int, int]:
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


def _cut(frame: UInt8[np.ndarray, "h w 3"], shown: Geometry, media: Any) -> UInt8[np.ndarray, "s s 3"]:
    return cut(frame, shown, nearest=isinstance(media, Encoded) and media.kind == "labels")


def _view_meta(shown: Geometry, view: int, width: int, height: int) -> dict[str, Any]:
    """Returns the crop in pixels of the picture (left, top, right, bottom) and the flip; the original has neither."""
    if view == 0:
        return {}
    return {"crop": [round(side, 2) for side in shown.box(width, height)], "flip": shown.flip}
