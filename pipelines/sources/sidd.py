"""SIDD (Abdelhamed et al., A High-Quality Denoising Dataset for Smartphone Cameras, 2018)."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar, Literal

import numpy as np

from pipelines.seeds import generator
from pipelines.sources import places
from pipelines.sources.base import Example, Item, Pixels, Reject
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.files import below, files_in, matched
from pipelines.sources.mat import shape_of, variable
from pipelines.sources.reading import example_of_files, parsed_once, picture
from tokenizer.images import ImageError, decode_image
from visent.errors import UserError

PHOTO = re.compile(r"(?:.*/)?(?P<scene>\d{4}_[^/]+)/\d{4}_(?P<role>NOISY|GT)_SRGB_(?P<shot>\d+)\.png", re.IGNORECASE)
BLOCKS = {"noisy": "ValidationNoisyBlocksSrgb", "image": "ValidationGtBlocksSrgb"}  # scenes, blocks, h, w, RGB


@dataclass(frozen=True, kw_only=True)
class SIDD(Dataset):
    """SIDD: phone photos with real noise and clean ones of the same scenes, in windows at full resolution.

    <root>/.../Data/<scene>/<nnnn>_{NOISY,GT}_SRGB_<nnn>.PNG                  train
    <root>/Validation{Noisy,Gt}BlocksSrgb.mat                                 val, 40 x 32 blocks of 256 x 256

    <scene> names instance, scene, camera, ISO, shutter, temperature and light: 0001_001_S6_00100_00060_3200_L.
    A photo of 12 megapixels loses its noise when it is made small, so a row is a window of it.
    """

    root: str
    crop_size: int = option(256, "Side of a window, in pixels of the photo.")
    crops_per_picture: int = option(32, "Windows of a photo, chosen at random from a grid without overlap; 0: all.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    items_per_shard: ClassVar[int] = 64
    small_items: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.crop_size < 16:
            raise UserError(f"--crop-size must be 16 pixels or more, got {self.crop_size}")
        if self.crops_per_picture < 0:
            raise UserError(f"--crops-per-picture must be 0 (all) or more, got {self.crops_per_picture}")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The noisy window and the clean one."""
        return {"noisy": "still", "image": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Pairs the photos of a scene; of the validation set, the blocks are listed."""
        if split == "val":
            yield from self._blocks()
            return
        photos: dict[str, list[tuple[str, str]]] = {"NOISY": [], "GT": []}
        for path in files_in(self.root, "", (".png",)):
            if found := PHOTO.fullmatch(path):
                photos[found["role"].upper()].append((f"{found['scene']}/{found['shot']}", path))
        yield from matched({"noisy": photos["NOISY"], "image": photos["GT"]})

    def _blocks(self) -> Iterator[Item]:
        files = {role: f"{name}.mat" for role, name in BLOCKS.items()}
        there = {role: file for role, file in files.items() if places.exists(below(self.root, file))}
        if not there:
            return
        role, file = next(iter(there.items()))
        try:
            scenes, blocks, *_ = shape_of(below(self.root, file), BLOCKS[role])
        except (ImageError, ValueError) as error:
            raise UserError(f"{file} does not hold blocks of 40 x 32 x 256 x 256 x 3: {error}; get it anew") from error
        missing = next((f"missing-{role}" for role in files if role not in there), "")
        for scene, block in np.ndindex(scenes, blocks):
            key = f"validation/{scene:02d}/{block:02d}"
            yield Item(key=key, files=there, data={"block": [scene, block]}, reject=missing)

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Cuts the windows from one decoding of the photos, the same from both, or reads a block."""
        if "block" in item.data:
            yield self._block(item)
            return
        pair = example_of_files(self.root, item, {"noisy": picture, "image": picture})
        yield from [pair] if isinstance(pair, Reject) else windows(pair, self.crop_size, self.crops_per_picture)

    def _block(self, item: Item) -> Example | Reject:
        try:
            files = {role: below(self.root, file) for role, file in item.files.items()}
            media = {role: _block(_loaded(path), item.data["block"]) for role, path in files.items()}
        except ImageError as error:
            return Reject(
                key=item.key, source=item.files["noisy"], stage="read", reason=error.reason, detail=str(error)
            )
        return Example(key=item.key, source=item.files["noisy"], media=media)

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Counts windows and blocks; a photo has some hundred windows."""
        return sum(1 if "block" in item.data else self.crops_per_picture or 200 for item in items)


@parsed_once
def _loaded(path: str) -> Any:
    """Returns the blocks of a file, or the error: a broken file of 250 MB is not to be read for every block."""
    try:
        return variable(places.read(path), PurePath(path).stem)
    except OSError as error:
        return ImageError("unreadable", error.strerror or str(error))
    except ImageError as error:
        return error


def _block(blocks: Any, index: Sequence[int]) -> Pixels:
    if isinstance(blocks, ImageError):
        raise ImageError(blocks.reason, str(blocks))
    scene, block = index
    if blocks.ndim != 5 or blocks.dtype != np.uint8 or scene >= blocks.shape[0] or block >= blocks.shape[1]:
        raise ImageError("bad-block", f"no block {scene}, {block} in {blocks.dtype}{blocks.shape}")
    pixels: Pixels = blocks[scene, block]
    return pixels


def windows(pair: Example, size: int, count: int) -> Iterator[Example | Reject]:
    """Cuts `count` windows (0: all) of a grid from all pictures of an example, chosen by its key alone."""

    def reject(stage: Literal["decode", "align"], reason: str, detail: str) -> Reject:
        return Reject(key=pair.key, source=pair.source, stage=stage, reason=reason, detail=detail)

    try:
        photos = {role: decode_image(media.data) for role, media in pair.media.items()}
    except ImageError as error:
        yield reject("decode", error.reason, str(error))
        return
    shapes = {photo.shape for photo in photos.values()}
    height, width, _ = min(shapes)
    if len(shapes) > 1:
        yield reject("align", "sizes-differ", f"(height, width, channels) are {sorted(shapes)}")
    elif min(height, width) < size:
        yield reject("decode", "too-small", f"{width} x {height}, a window has {size} x {size}")
    else:
        columns = width // size
        for cell in generator("windows", pair.key).permutation(height // size * columns)[: count or None]:
            left, top = int(cell) % columns * size, int(cell) // columns * size
            cut = {role: photo[top : top + size, left : left + size].copy() for role, photo in photos.items()}
            meta = {**pair.meta, "window": [left, top, left + size, top + size]}
            yield Example(key=f"{pair.key}/{left}-{top}", source=pair.source, media=cut, meta=meta)
