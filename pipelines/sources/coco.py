"""COCO (Lin et al., Microsoft COCO: Common Objects in Context, 2014), and its panoptic and COCO-Stuff annotations."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

from manifests.legend import Legend
from pipelines.render.labels import draw_labels
from pipelines.render.legends import legend
from pipelines.render.palettes import coco_stuff
from pipelines.sources import coco_drawings, places
from pipelines.sources.base import Drawn, Example, Item, Reject
from pipelines.sources.coco_listing import GROUPS, KINDS, NOUNS, Image, listed_images
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.files import below, files_in, readable
from pipelines.sources.json_lists import read_entries
from pipelines.sources.reading import drawing, example_of_files, picture
from visent.errors import UserError, unknown


@dataclass(frozen=True, kw_only=True)
class COCO(Dataset):
    """COCO: photos with objects, persons' poses, boxes, panoptic segments or semantic classes, all in one row.

    <root>/{train,val}2017/<12 digits>.jpg
    <root>/annotations/{instances,person_keypoints,panoptic,captions}_{train,val}2017.json
    <root>/annotations/panoptic_{train,val}2017/<12 digits>.png  (or beside annotations/)
    <root>/stuffthingmaps/{train,val}2017/<12 digits>.png        (COCO-Stuff)

    Only the files of the annotations that are asked for are needed; captions go into meta where there are some.
    """

    root: str
    annotations: tuple[str, ...] = option(
        ("instances",), f"What to draw, a role of the row each: {', '.join(KINDS)}. Images that lack one are left out."
    )
    crowds: bool = option(False, "Draw regions of many objects (iscrowd), too, in instances and boxes.")
    year: Literal["2017", "2014"] = option("2017", "The release; it names folders and files.")

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    def __post_init__(self) -> None:
        if not self.annotations:
            raise UserError(f"--annotations names none; give some of {', '.join(KINDS)}")
        for kind in self.annotations:
            if kind not in KINDS:
                raise unknown("annotation of COCO", kind, KINDS)

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The photo and what is drawn of it."""
        return {"image": "still", **dict.fromkeys(self.annotations, "still")}

    @property
    def legends(self) -> Mapping[str, Legend]:
        """Of COCO-Stuff's maps: category ids 1 to 182; 0, unlabelled, is ignored."""
        return {"semantic": legend(coco_stuff(), ignored=(0,))}

    def _file(self, group: str, split: str) -> str:
        return f"annotations/{group}_{split}{self.year}.json"

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Walks through the split's annotation files once and notes where the annotations of each image stand."""
        folder = f"{split}{self.year}"
        photos = files_in(self.root, folder)
        files = {group: self._file(group, split) for group in [*self._groups(), "captions"]}
        there = {group: path for group, path in files.items() if places.exists(below(self.root, path))}
        for group in self._groups():
            if group not in there:
                if photos:
                    left_out[f"photos of {folder}, since there is no {files[group]}"] += len(photos)
                return
        size = sum(places.size_of(below(self.root, path)) for path in there.values())
        pictures = {"image": set(photos), **self._maps(folder)}
        for image in listed_images(self.root, there, self._names(pictures), self.crowds):
            lacking = [group for group in self._groups() if not image.spans.get(group)]
            if lacking:
                left_out[f"images without {NOUNS[lacking[0]]}"] += 1
            else:
                yield self._item(image, folder, pictures, size)

    def _groups(self) -> list[str]:
        return list(dict.fromkeys(GROUPS[kind] for kind in self.annotations if kind in GROUPS))

    def _maps(self, folder: str) -> dict[str, set[str]]:
        """Lists the annotations that are pictures."""
        return {
            kind: {path for place in places for path in files_in(self.root, place)}
            for kind, places in {
                "panoptic": (f"annotations/panoptic_{folder}", f"panoptic_{folder}"),
                "semantic": (f"stuffthingmaps/{folder}",),
            }.items()
            if kind in self.annotations
        }

    def _names(self, pictures: Mapping[str, set[str]]) -> list[str]:
        """Names the photos that there are or, by their semantic maps, should be."""
        stems = {os.path.splitext(os.path.basename(path))[0] for path in pictures.get("semantic", ())}  # noqa: PTH119, PTH122
        photos = {os.path.basename(path) for path in pictures["image"]}  # noqa: PTH119
        return sorted(photos | {f"{stem}.jpg" for stem in stems})

    def _item(self, image: Image, folder: str, pictures: Mapping[str, set[str]], size: int) -> Item:
        stem = os.path.splitext(image.file_name)[0]  # noqa: PTH122
        places = {
            "image": [f"{folder}/{image.file_name}"],
            "panoptic": [f"annotations/panoptic_{folder}/{image.map_name}", f"panoptic_{folder}/{image.map_name}"],
            "semantic": [f"stuffthingmaps/{folder}/{stem}.png"],
        }
        files = {role: path for role, known in pictures.items() for path in places[role] if path in known}
        missing = next((role for role in pictures if role not in files), None)
        data = {"image_id": image.id, "size": image.size, **image.spans}
        return Item(key=f"{folder}/{readable(stem)}", files=files, size=size, data=data,
                    reject=f"missing-{missing}" if missing else "")  # fmt: skip

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the photo and its maps; what is drawn from annotations is drawn in threads."""
        try:
            found = {group: self._entries(item, group) for group in (*self._groups(), "captions") if group in item.data}
        except (OSError, ValueError) as error:
            yield Reject(key=item.key, source=readable(item.files["image"]), stage="read",
                         reason="annotations-changed", detail=str(error))  # fmt: skip
            return
        files = {role: make for role, make in self._pictures(item.key, found).items() if role in self.roles}
        example = example_of_files(self.root, item, files, _meta(item.data["image_id"], found))
        if isinstance(example, Example):
            media = {**example.media, **self._drawn(item, found)}
            example = replace(example, media={role: media[role] for role in self.roles})
        yield example

    def _entries(self, item: Item, group: str) -> list[Any]:
        spans = item.data[group]
        found = read_entries(below(self.root, self._file(group, item.split)), spans)
        if any(not isinstance(entry, dict) or entry.get("image_id") != item.data["image_id"] for entry in found):
            raise ValueError(f"{self._file(group, item.split)} is another than when it was listed")
        return found

    def _pictures(self, key: str, found: Mapping[str, list[Any]]) -> dict[str, Callable[[bytes], Any]]:
        makers: dict[str, Callable[[bytes], Any]] = {"image": picture}
        if "panoptic" in found:
            draw = partial(coco_drawings.draw_panoptic, annotation=found["panoptic"][0], key=key)
            makers["panoptic"] = drawing(draw)
        makers["semantic"] = drawing(partial(draw_labels, palette=coco_stuff()[1:], void=255))  # the files hold id - 1
        return makers

    def _drawn(self, item: Item, found: Mapping[str, list[Any]]) -> dict[str, Drawn]:
        size = item.data["size"]
        held = {group: sum(end - start for start, end in item.data[group]) for group in found}
        draw: dict[str, Callable[..., Any]] = {
            "instances": partial(coco_drawings.draw_instances, key=item.key),
            "boxes": coco_drawings.draw_object_boxes,
            "pose": coco_drawings.draw_pose,
        }
        return {
            kind: Drawn(draw=partial(draw[kind], found[GROUPS[kind]], size), bytes_held=held[GROUPS[kind]])
            for kind in self.annotations
            if kind in draw
        }


def _meta(number: int, found: Mapping[str, list[Any]]) -> dict[str, Any]:
    """What later tasks ask for: the image's id, how many objects and of which categories, persons, and captions."""
    meta: dict[str, Any] = {"image_id": number}
    if "instances" in found:
        numbers = [entry.get("category_id") for entry in found["instances"]]
        categories = sorted({number for number in numbers if isinstance(number, int)})
        meta |= {"objects": len(found["instances"]), "categories": categories}
    if "person_keypoints" in found:
        meta["persons"] = len(found["person_keypoints"])
    if "captions" in found:
        meta["captions"] = [entry.get("caption") for entry in found["captions"]]
    return meta
