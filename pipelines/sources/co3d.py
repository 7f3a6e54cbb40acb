"""CO3D v2 (Reizenstein et al., Common Objects in 3D, ICCV 2021)."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import UInt8

from pipelines.render.depth import depth_to_rgb
from pipelines.sources import places
from pipelines.sources.base import Encoded, Example, Item, Reject
from pipelines.sources.dataset import option
from pipelines.sources.files import below, readable
from pipelines.sources.frame_files import Files, names_in
from pipelines.sources.frame_folders import AnnotatedFolders, TimedFolders
from pipelines.sources.frames import drawn, frame, video_item
from pipelines.sources.reading import parsed_once, read_json
from pipelines.sources.trust import gunzip
from pipelines.sources.video_masks import draw_mask
from tokenizer.images import ImageError, decode_labels
from visent.errors import UserError, unknown
from visent.untrusted.documents import parse_json

FRAMES, SEQUENCES = "frame_annotations.jgz", "sequence_annotations.jgz"
HALF = 128  # masks hold the probability of the object, times 255


@dataclass(frozen=True, kw_only=True)
class CO3D(TimedFolders, AnnotatedFolders):
    """CO3D v2: videos around objects of 51 categories, with masks of the object and depth.

    <root>/<category>/{frame,sequence}_annotations.jgz
    <root>/<category>/<sequence>/images/frame000001.jpg ...
    <root>/<category>/<sequence>/masks/frame000001.png ...
    <root>/<category>/<sequence>/depths/frame000001.jpg.geometric.png ...  (16 bits of a float)
    <root>/<category>/<sequence>/depth_masks/frame000001.png ...           (where depth is known)
    <root>/<category>/set_lists/set_lists_<subset>.json

    Without --subset, all frames are of split train.
    """

    root: str
    annotations: tuple[str, ...] = option(("mask",), "Roles beside the frames, of mask and depth.")
    categories: tuple[str, ...] = option((), "Read these alone.")
    subset: str | None = option(None, "Frames and splits of one of the set lists: fewview_train, manyview_dev_0, ...")

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    drawings: ClassVar[tuple[str, ...]] = ("mask", "depth")

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the sequences, with --subset those that have frames in the split."""
        for category in self._categories(left_out):
            if self.subset:
                for sequence, numbers in self._listed(category, split).items():
                    yield self._sequence(category, sequence, f"{split}/", numbers=numbers)
            elif split == "train":
                path = below(self.root, category, SEQUENCES)
                for one in read_jgz(path):
                    if not isinstance(one, dict) or not isinstance(one.get("sequence_name"), str):
                        raise UserError(f"{readable(path)} holds a sequence without a name; fetch it again")
                    yield self._sequence(category, one["sequence_name"])

    def _categories(self, left_out: Counter[str]) -> list[str]:
        folders = names_in(self.root, ".")
        there = [name for name in folders if places.is_file(below(self.root, name, FRAMES))]
        for category in self.categories:
            if category not in there:
                raise unknown("category", category, there)
        if len(there) < len(folders):
            left_out[f"folders without {FRAMES}"] = len(folders) - len(there)  # the same for each split
        return [name for name in there if not self.categories or name in self.categories]

    def _listed(self, category: str, split: str) -> dict[str, list[int]]:
        """Reads the numbers of a split's frames from the subset's list."""
        path = below(self.root, category, "set_lists", f"set_lists_{self.subset}.json")
        numbers: dict[str, list[int]] = {}
        try:
            for sequence, number, _ in read_json(path).get(split, ()):
                numbers.setdefault(str(sequence), []).append(int(number))
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{readable(path)} is no set list of CO3D ({error!r}); fetch it again") from error
        return numbers

    def _sequence(self, category: str, sequence: str, prefix: str = "", **data: Any) -> Item:
        folder, annotations = f"{category}/{sequence}", f"{category}/{FRAMES}"
        meta = {"class": category}
        item = video_item(self.root, f"{prefix}{folder}", {"frames": f"{folder}/images"}, meta=meta, **data)
        size = places.size_of(below(self.root, annotations))
        return replace(item, files={**item.files, "annotations": annotations}, size=size)

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the frames with their masks and depth, as the annotations pair them."""
        name = item.files["frames"].split("/")[1]
        found = frames_by_sequence(below(self.root, item.files["annotations"])).get(name, {})
        numbers = sorted(item.data.get("numbers", found))
        frames = {number: found[number].files if number in found else {} for number in numbers}
        roles: dict[str, Callable[..., Any]] = {"frames": frame, "mask": mask, "depth": depth}
        times = {number: found[number].time for number in numbers if number in found}
        ordered = len(times) == len(frames) and all(before < after for before, after in pairwise(times.values()))
        known = ordered and min(times.values(), default=0) >= 0  # some sequences have -1 for all
        return self.cut(item, frames, {role: roles[role] for role in self.roles}, times if known else None)


class Frame(NamedTuple):
    """What is kept of a frame's annotation."""

    time: float
    files: Files


@parsed_once
def frames_by_sequence(path: str) -> Mapping[str, Mapping[int, Frame]]:
    """Reads frame_annotations.jgz: the frames of each sequence by their number.

    Raises: `UserError` when it is no such file.
    """
    sequences: dict[str, dict[int, Frame]] = {}
    try:
        for sequence, number, one in read_jgz(path, _kept):
            sequences.setdefault(sequence, {})[number] = one
    except (TypeError, ValueError) as error:
        raise UserError(f"{readable(path)} holds a frame that is none of CO3D's ({error}); fetch it again") from error
    return sequences


def _kept(fields: dict[str, Any]) -> Any:
    """Reduces a frame while the file is parsed: cameras make up most of it. Inner objects come here first."""
    if "frame_number" not in fields:
        return None if "R" in fields else fields
    if not isinstance(fields["frame_number"], int) or not isinstance(fields["sequence_name"], str):
        raise TypeError(
            f"a frame of number {fields['frame_number']!r:.40} and sequence {fields['sequence_name']!r:.40}"
        )
    files: dict[str, str | tuple[str, ...]] = {"frames": fields["image"]["path"]}
    mask, depth = fields.get("mask"), fields.get("depth")
    if mask and mask.get("path"):
        files["mask"] = mask["path"]
    if depth and depth.get("path"):
        valid = depth.get("mask_path")
        files["depth"] = (depth["path"], valid) if valid else depth["path"]
    if not all(
        isinstance(path, str) for paths in files.values() for path in ([paths] if isinstance(paths, str) else paths)
    ):
        raise TypeError(f"frame {fields['frame_number']} has paths that are none")
    return fields["sequence_name"], fields["frame_number"], Frame(float(fields.get("frame_timestamp", -1.0)), files)


def read_jgz(path: str, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Returns the list in a gzipped JSON file.

    Raises: `UserError` when it is none.
    """
    try:
        found = parse_json(gunzip(places.read(path)), hook)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"cannot read {readable(path)} as gzipped JSON of CO3D: {error!r}; fetch it again") from error
    if not isinstance(found, list):
        raise UserError(f"{readable(path)} holds no list; fetch it again")
    return found


def mask(data: bytes) -> Encoded:
    """A mask of probabilities: white where the object is more likely than not."""
    return drawn(data, decode=partial(draw_mask, least=HALF))


def depth(data: bytes, valid: bytes | None = None) -> Encoded:
    """A depth map, black where the mask `valid` is 0."""
    return drawn(data, decode=partial(draw_half_floats, valid=valid), exact=False)


def draw_half_floats(data: bytes, valid: bytes | None) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a depth map whose 16-bit values are the bits of IEEE half floats: near bright, far dark, unknown black.

    Depth is relative, so `scale_adjustment` makes no difference.

    Raises:
        ImageError: it is no such map, or nowhere known; the masks's size differs (reason "mask-size").
    """
    bits = decode_labels(data)
    if bits.dtype != np.uint16:
        raise ImageError("not-depth", "8 bits a pixel, expected 16 that hold a float")
    values = bits.view(np.float16).astype(np.float32)
    if valid is not None:
        known = decode_labels(valid) > 0
        if known.shape != values.shape:
            raise ImageError("mask-size", f"a depth mask of {known.shape}, the depth map is {values.shape}")
        values = np.where(known, values, np.float32(0))
    return depth_to_rgb(values, "distance")
