"""Renders of one object from many sides, as SyncDreamer (Liu et al., 2023) and others keep them."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pipelines.render.depth import depth_to_rgb
from pipelines.sources.base import Encoded, Example, Item, Reject
from pipelines.sources.dataset import option
from pipelines.sources.files import readable
from pipelines.sources.frame_files import names_in
from pipelines.sources.frame_folders import AnnotatedFolders
from pipelines.sources.frames import drawn
from tokenizer.images import decode_image, decode_labels, open_still

Background = Literal["white", "black"]
NOTHING = 65535  # depth of the background


@dataclass(frozen=True, kw_only=True)
class Multiview(AnnotatedFolders):
    """Multiview renders: a clip of the views of one object, and their depth maps.

    <root>/<object>/000.png ...        (RGBA)
    <root>/<object>/000-depth.png ...  (16 bit distances, 65535 = background)
    """

    root: str
    background: Literal["white", "black"] = option("white", "Colour behind the transparent parts.")
    annotations: tuple[str, ...] = option((), "Roles beside the frames, of depth.")

    drawings: ClassVar[tuple[str, ...]] = ("depth",)

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the folders."""
        for name in names_in(self.root, "."):
            yield Item(key=readable(name), files={"frames": name})

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the views in the order of their numbers."""
        folder = item.files["frames"]
        patterns = {"frames": f"{folder}/%d.png", "depth": f"{folder}/%d-depth.png"}
        roles: dict[str, Callable[[bytes], Any]] = {
            "frames": view(self.background),
            "depth": partial(drawn, decode=draw_distance, exact=False),
        }
        wanted = tuple(self.roles)
        return self.clips(item, {role: patterns[role] for role in wanted}, {role: roles[role] for role in wanted})


def view(background: Background) -> Callable[[bytes], Encoded]:
    """Says what the bytes of a transparent render become, over a background."""
    return partial(drawn, decode=decode_image if background == "white" else decode_on_black, exact=False)


def decode_on_black(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes a picture with its transparent parts over black.

    Raises:
        ImageError: as `decode_image`.
    """
    image = open_still(data)
    if not image.has_transparency_data:
        return decode_image(data)
    rgba = image.convert("RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("RGB"))


def draw_distance(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a 16-bit depth map of a render: near bright, far dark, background black.

    Raises:
        ImageError: it is no such map, or shows the background alone (reason "no-depth").
    """
    depth = decode_labels(data).astype(np.float32)
    depth[depth == NOTHING] = 0
    return depth_to_rgb(depth, "distance")
