"""Depth of ImageNet's photos by MiDaS (Esser et al., Taming Transformers, 2021)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from pipelines.render.depth import depth_to_rgb
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.files import paired
from pipelines.sources.reading import drawing, example_of_files, picture
from tokenizer.images import ImageError, open_still


@dataclass(frozen=True, kw_only=True)
class ImageNetDepth(Dataset):
    """ImageNet depth: photos of ImageNet with the relative depth that MiDaS saw, as taming-transformers keeps it.

    <root>/drin_images/<wnid>/<name>.JPEG
    <root>/drin_depth/<wnid>/<name>.png            RGBA, whose four bytes are one little-endian float32

    These examples are split val. For a whole ImageNet beside its depth: `--images "{split}" --depths
    "imagenet_depth/{split}"`.
    """

    root: str
    images: str = option("drin_images", "Folder of the photos below the root; {split} in it stands for train or val.")
    depths: str = option("drin_depth", "Folder of the depth maps, in the same way.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The photo and its relative depth."""
        return {"image": "still", "depth": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Pairs photo and depth by class folder and name."""
        if split == "train" and "{split}" not in self.images:
            return
        folders = {role: path.replace("{split}", split) for role, path in self._folders.items()}
        for item in paired(self.root, folders, f"{split}/"):
            yield replace(item, data={"wnid": item.key.split("/")[1]})

    @property
    def _folders(self) -> Mapping[str, str]:
        return {"image": self.images, "depth": self.depths}

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads both; near is drawn bright, far dark."""
        roles = {"image": picture, "depth": drawing(draw_packed_depth, exact=False)}
        yield example_of_files(self.root, item, roles, item.data)


def draw_packed_depth(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a map of inverse depth whose float32 values are the bytes of an RGBA picture's pixels.

    Raises:
        ImageError: no RGBA picture, or no positive value in it.
    """
    image = open_still(data)
    if image.mode != "RGBA":
        raise ImageError("not-depth", f"mode {image.mode}, expected RGBA, the four bytes of a float32")
    depth = np.array(image).view("<f4")[..., 0].astype(np.float32)
    return depth_to_rgb(depth, "disparity")
