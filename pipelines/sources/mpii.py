"""MPII Human Pose (Andriluka et al., 2D Human Pose Estimation: New Benchmark and State of the Art Analysis, 2014)."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from pipelines.render.keypoints import draw_people
from pipelines.render.skeletons import MPII_16
from pipelines.sources import places
from pipelines.sources.base import Drawn, Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind
from pipelines.sources.files import below, files_in, readable
from pipelines.sources.mat import variable
from pipelines.sources.reading import example_of_files, picture, read_json
from tokenizer.images import ImageError
from visent.errors import UserError

JSON_FILES = {
    "train": ("annotations/mpii_train.json", "annot/train.json"),
    "val": ("annotations/mpii_val.json", "annot/valid.json"),
}
MAT_FILES = tuple(
    f"{folder}mpii_human_pose_v1_u12_1.mat" for folder in ("", "mpii_human_pose_v1_u12_2/", "annotations/")
)
JOINTS = len(MPII_16.joints)

Joints = list[list[float]]  # (x, y, annotated) for each joint; the first pixel is 1, as in the files


@dataclass(frozen=True, kw_only=True)
class MPII(Dataset):
    """MPII Human Pose: photos of people, and all their skeletons on one picture.

    <root>/images/<9 digits>.jpg
    <root>/annotations/mpii_{train,val}.json       (as mmpose has them)
    <root>/annot/{train,valid}.json                (as HRNet has them)
    <root>/mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat   (the publisher's)

    The publisher's file is read where there are no JSON files; it has no val, and no joints of its test images.
    """

    root: str

    splits: ClassVar[tuple[str, ...]] = ("train", "val")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The photo and its persons."""
        return {"image": "still", "pose": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the photos of a split with the joints of all their persons."""
        photos = set(files_in(self.root, "images"))
        people = self._people(split, left_out)
        for name, persons in people.items():
            joints = [person for person in persons if any(annotated > 0 for _, _, annotated in person)]
            if not joints:
                left_out["images without annotated joints"] += 1
                continue
            files = {"image": f"images/{name}"} if f"images/{name}" in photos else {}
            key = readable(os.path.splitext(name)[0])  # noqa: PTH122
            yield Item(key=key, files=files, data={"people": joints}, reject="" if files else "missing-image")

    def _people(self, split: str, left_out: Counter[str]) -> dict[str, list[Joints]]:
        """Returns the joints of each person by photo, from the first of the known files that is there."""
        files = [path for path in JSON_FILES[split] if places.exists(below(self.root, path))]
        if files:
            return _of_json(below(self.root, files[0]))
        if any(places.exists(below(self.root, path)) for paths in JSON_FILES.values() for path in paths):
            return {}
        files = [path for path in MAT_FILES if places.exists(below(self.root, path))]
        return _of_mat(below(self.root, files[0]), left_out) if files and split == "train" else {}

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the photo; the skeletons are drawn in threads."""
        example = example_of_files(self.root, item, {"image": picture}, {"persons": len(item.data["people"])})
        if isinstance(example, Example):
            pose = Drawn(draw=partial(draw_pose, item.data["people"]), bytes_held=500 * len(item.data["people"]))
            example = replace(example, media={**example.media, "pose": pose})
        yield example


def draw_pose(people: Sequence[Joints], shape: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Draws the skeletons of all persons."""
    return draw_people(shape, [np.array(person, np.float64) - (1, 1, 0) for person in people], MPII_16)


def _of_json(path: str) -> dict[str, list[Joints]]:
    people: dict[str, list[Joints]] = {}
    try:
        for entry in list(read_json(path)):
            annotated = np.array(entry["joints_vis"], np.float64)[:, None]
            joints = np.concatenate([np.array(entry["joints"], np.float64), annotated], axis=1).reshape(JOINTS, 3)
            people.setdefault(str(entry["image"]), []).append(joints.tolist())
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        expected = "a list of objects with image, joints[16] and joints_vis[16]"
        raise UserError(f"{readable(path)} is not MPII's: {error!r}; expected {expected}") from error
    return people


def _of_mat(path: str, left_out: Counter[str]) -> dict[str, list[Joints]]:
    """Reads the publisher's MATLAB structs: RELEASE.annolist(i).annorect(r).annopoints.point(p), img_train(i)."""
    people: dict[str, list[Joints]] = {}
    try:
        release = variable(places.read(path), "RELEASE")[0, 0]
        for image, trained in zip(release["annolist"].ravel(), release["img_train"].ravel(), strict=True):
            if not trained:
                left_out["test images without published joints"] += 1
                continue
            points = _field(image["annorect"], "annopoints")
            people.setdefault(str(image["image"]["name"][0, 0][0]), []).extend(_joints(of) for of in points if of.size)
    except (ImageError, OSError, KeyError, TypeError, IndexError, ValueError) as error:
        raise UserError(f"{readable(path)} is not MPII's annotation file: {error}; fetch it again") from error
    return people


def _field(structs: Any, name: str) -> list[Any]:
    """Returns a field of each struct of an array; nothing of an empty array or one without the field."""
    return list(structs[name].ravel()) if name in (structs.dtype.names or ()) else []


def _joints(points: Any) -> Joints:
    """Places one person's points by their id; what is annotated counts, hidden or not (is_visible is often empty)."""
    joints = np.zeros((JOINTS, 3))
    for point in points["point"][0, 0].ravel():
        joints[int(point["id"].item())] = point["x"].item(), point["y"].item(), 1
    found: Joints = joints.tolist()
    return found
