"""Which images COCO's annotation files list, and where in the files the annotations of each stand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.sources.files import below, readable
from pipelines.sources.json_lists import Span, entries
from visent.errors import UserError

KINDS = ("instances", "pose", "boxes", "panoptic", "semantic")
# the annotation files are <group>_<split>.json; semantic classes are pictures alone
GROUPS = {"instances": "instances", "boxes": "instances", "pose": "person_keypoints", "panoptic": "panoptic"}
NOUNS = {"instances": "objects", "person_keypoints": "annotated joints", "panoptic": "panoptic segments"}

_NEEDED: dict[str, dict[str, type]] = {"person_keypoints": {"keypoints": list}, "panoptic": {"file_name": str}}


@dataclass(kw_only=True)
class Image:
    """One listed image: its size as (height, width), and where its annotations stand by group."""

    id: int
    file_name: str
    size: list[int]
    map_name: str = ""  # of its panoptic map
    spans: dict[str, list[Span]] = field(default_factory=dict)


def listed_images(root: str, files: Mapping[str, str], photos: Sequence[str], crowds: bool) -> Iterator[Image]:
    """Yields every image that the files list, one that a file lists twice as often; without annotations, every photo.

    `files` gives the path of the JSON file of each group; captions are noted but list no images. `photos` are names.

    Raises: `UserError` for a file that is not laid out as COCO's are.
    """
    images: dict[int, Image] = {}
    spans: dict[tuple[str, int], list[Span]] = {}
    maps: dict[int, str] = {}
    again: list[Image] = []
    for group, path in files.items():
        seen: set[int] = set()
        for name, entry, span in _entries(root, path, group):
            if name == "images":
                image = _image(entry)
                images.setdefault(image.id, image)
                again += [image] if image.id in seen else []
                seen.add(image.id)
            elif _is_drawn(group, entry, crowds):
                spans.setdefault((group, entry["image_id"]), []).append(span)
                maps |= {entry["image_id"]: entry["file_name"]} if group == "panoptic" else {}
    of_json = set(files) - {"captions"}
    for image in [*images.values(), *again] if of_json else [_of_photo(name) for name in photos]:
        image.map_name = maps.get(image.id, "")
        image.spans = {group: spans[group, image.id] for group in files if (group, image.id) in spans}
        yield image


def _entries(root: str, path: str, group: str) -> Iterator[tuple[str, Any, Span]]:
    """Yields the entries of a file after a look at what the listing needs of them."""
    needed: dict[str, dict[str, type]] = {
        "images": {"id": int, "file_name": str, "height": int, "width": int},
        "annotations": {"image_id": int, **_NEEDED.get(group, {})},
    }
    for name, entry, span in entries(below(root, path), ("annotations",) if group == "captions" else needed):
        for member, kind in needed[name].items():
            if not isinstance(entry, dict) or not isinstance(entry.get(member), kind):
                where = f"the entry of {name!r} at byte {span[0]:,} has no {member!r} of type {kind.__name__}"
                raise UserError(f"{readable(path)} is not laid out as COCO's annotation files: {where}; fetch it again")
        yield name, entry, span


def _image(entry: Mapping[str, Any]) -> Image:
    return Image(id=entry["id"], file_name=entry["file_name"], size=[entry["height"], entry["width"]])


def _is_drawn(group: str, entry: Mapping[str, Any], crowds: bool) -> bool:
    if group == "instances":
        return crowds or not entry.get("iscrowd")
    if group == "person_keypoints":
        return any(isinstance(visible, int | float) and visible > 0 for visible in entry["keypoints"][2::3])
    return True


def _of_photo(name: str) -> Image:
    """An image that only its file lists; the digits at the end of its name are its id, as everywhere in COCO."""
    digits = name.partition(".")[0][-12:]
    return Image(id=int(digits) if digits.isdecimal() else -1, file_name=name, size=[])
