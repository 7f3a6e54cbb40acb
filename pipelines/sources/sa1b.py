"""SA-1B (Kirillov et al., Segment Anything, 2023): photos with about a hundred masks each."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from pipelines.render.instances import paint_masks
from pipelines.sources import places
from pipelines.sources.base import Drawn, Encoded, Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind
from pipelines.sources.files import below, files_in, keys_of, named, readable
from pipelines.sources.reading import read_file
from pipelines.sources.tars import TAR_ENDINGS, ending_of, samples
from pipelines.sources.webdataset import cut_reject, pictures_in
from visent.untrusted.documents import parse_json

IMAGES_PER_PART = 2048  # of an extracted folder; a part is a shard, as a tar is


@dataclass(frozen=True, kw_only=True)
class SA1B(Dataset):
    """SA-1B: photos with all their masks, the largest below, each in a colour that the row's key draws.

    <root>/**/sa_<6 digits>.tar with sa_<id>.jpg and sa_<id>.json as neighbours
    <root>/**/sa_<id>.jpg, sa_<id>.json   (extracted)

    A tar is one shard, and so are 2048 photos of an extracted folder.
    """

    root: str

    items_per_shard: ClassVar[int] = 1
    small_items: ClassVar[bool] = False

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The photo and its masks."""
        return {"image": "still", "instances": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists tars and parts of folders; the same tar and folder side by side have one key."""
        for key, path in keys_of(files_in(self.root, "", TAR_ENDINGS)).items():
            yield Item(key=key, files={"tar": path}, size=places.size_of(below(self.root, path)))
        folders: dict[str, set[str]] = {}
        for _, path in named(self.root, "", "sa_*", (".jpg", ".json")):
            folder, name = os.path.split(path)
            folders.setdefault(folder, set()).add(os.path.splitext(name)[0])  # noqa: PTH122
        for folder, names in folders.items():
            for start in range(0, len(names), IMAGES_PER_PART):
                part = f"-part{start // IMAGES_PER_PART:03d}" if len(names) > IMAGES_PER_PART else ""
                chosen = sorted(names)[start : start + IMAGES_PER_PART]
                yield Item(key=readable(folder or "photos") + part, files={"folder": folder}, data={"names": chosen})

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads photos and JSON in the order of the tar, or of their names."""
        if "folder" in item.files:
            yield from self._of_folder(item.files["folder"], item.data["names"])
            return
        cut: list[str] = []
        for sample in samples(below(self.root, item.files["tar"]), cut, lambda name: ending_of(name) in _ENDINGS):
            key = f"{item.key}/{readable(os.path.basename(sample.key))}"  # noqa: PTH119
            source = readable(item.files["tar"])
            if sample.fault:
                yield Reject(key=key, source=source, stage="read", reason=sample.fault, detail=sample.detail)
            elif sample.members:  # not of a licence's text
                yield _example(key, source, sample.members)
        yield from cut_reject(item, cut)

    def _of_folder(self, folder: str, names: Sequence[str]) -> Iterator[Example | Reject]:
        return places.at_once(self._of_files, [below(folder, name) for name in names], self.root)

    def _of_files(self, path: str) -> Example | Reject:
        """Reads a photo and the JSON beside it."""
        key = readable(path)
        there = [ending for ending in _ENDINGS if places.exists(below(self.root, path + ending))]
        found = {ending: read_file(key, key + ending, below(self.root, path + ending)) for ending in there}
        broken = next((data for data in found.values() if isinstance(data, Reject)), None)
        return broken or _example(key, key + there[0] if there else key, found)

    def pictures(self, items: Sequence[Item]) -> int | None:
        """Counts the names of folders, and the photos of the first tar, scaled by size."""
        tars = [item for item in items if "tar" in item.files]
        in_tars = pictures_in(self.root, tars)
        return None if in_tars is None else in_tars + sum(len(item.data.get("names", ())) for item in items)


_ENDINGS = {".jpg": "image", ".json": "instances"}


def _example(key: str, source: str, found: Mapping[str, Any]) -> Example | Reject:
    """Makes an example of a photo and its JSON."""
    for ending, role in _ENDINGS.items():
        if ending not in found:
            return Reject(key=key, source=source, stage="read", reason=f"missing-{role}", detail=f"no {ending} beside")
    try:
        masks = [dict(annotation["segmentation"]) for annotation in parse_json(found[".json"])["annotations"]]
    except (ValueError, KeyError, TypeError) as error:
        return Reject(key=key, source=source, stage="read", reason="bad-annotation", detail=repr(error))
    if not masks:
        return Reject(key=key, source=source, stage="read", reason="no-masks", detail="its annotations are empty")
    drawn = Drawn(draw=partial(draw_masks, masks, key), bytes_held=len(found[".json"]))
    media = {"image": Encoded(data=found[".jpg"]), "instances": drawn}
    return Example(key=key, source=source, media=media, meta={"objects": len(masks)})


def draw_masks(masks: Sequence[Mapping[str, Any]], key: str, shape: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Paints the masks, the largest first, in colours of the key.

    Raises:
        ImageError: a mask of another size than the photo, or damaged.
    """
    return paint_masks(masks, shape, key)
