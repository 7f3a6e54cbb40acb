"""ImageNet-1K (Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2015)."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar

from pipelines.sources import places
from pipelines.sources.base import Example, Item, Reject
from pipelines.sources.dataset import Dataset, RoleKind
from pipelines.sources.files import below, files_in, read_list, readable
from pipelines.sources.imagenet_classes import INDEX, WNIDS
from pipelines.sources.reading import example_of_files, picture
from visent.errors import UserError

DEVKITS = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data")
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


@dataclass(frozen=True, kw_only=True)
class ImageNet(Dataset):
    """ImageNet-1K: photos of one thousand classes.

    <root>/train/<wnid>/<wnid>_<n>.JPEG
    <root>/val/ILSVRC2012_val_<8 digits>.JPEG, or in folders <wnid>/
    <root>/test/ILSVRC2012_test_<8 digits>.JPEG
    labels of val: <root>/ILSVRC2012_devkit_t12/data/, or <root>/val.txt with lines "<file> <class index>"

    meta has the wnid as "class", and its rank among the thousand as "class_index".
    """

    root: str

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """One still picture."""
        return {"image": "still"}

    def items(self, split: str, left_out: Counter[str]) -> Iterator[Item]:
        """Lists the pictures by class."""
        paths = files_in(self.root, split)
        known: dict[str, dict[str, Any]] = {}
        labels = self._labels() if split == "val" and any(_is_flat(path) for path in paths) else {}
        for path in paths:
            name = PurePath(path).stem
            wnid = labels.get(name) if _is_flat(path) else PurePath(path).parent.name
            key = path.removesuffix(PurePath(path).suffix) if split == "train" else f"{split}/{name}"
            unlisted = _is_flat(path) and bool(labels) and wnid is None
            data = known.setdefault(wnid or "", _class(wnid))  # one mapping for all pictures of a class
            yield Item(key=readable(key), files={"image": path}, data=data, reject="missing-label" if unlisted else "")
        if labels:
            there = {PurePath(path).stem for path in paths}
            left_out["listed pictures of val that are not there"] += sum(name not in there for name in labels)

    def _labels(self) -> dict[str, str]:
        """Returns the wnid of each picture of val by its name; empty where no labels came along."""
        for folder in DEVKITS:
            if places.exists(below(self.root, folder, GROUND_TRUTH)):
                return _of_devkit(self.root, folder)
        return _of_list(self.root, "val.txt")

    def examples(self, item: Item) -> Iterator[Example | Reject]:
        """Reads the picture."""
        yield example_of_files(self.root, item, {"image": picture}, item.data)


def _is_flat(path: str) -> bool:
    return len(PurePath(path).parts) == 2


def _class(wnid: str | None) -> dict[str, Any]:
    if wnid is None:
        return {}
    return {"class": readable(wnid), **({"class_index": INDEX[wnid]} if wnid in INDEX else {})}


def _of_devkit(root: str, folder: str) -> dict[str, str]:
    """Reads the ground truth: line n is the ILSVRC2012_ID (not the class index) of picture n."""
    lines = read_list(root, f"{folder}/{GROUND_TRUTH}")
    wnids = _wnid_by_id(below(root, folder, "meta.mat"))
    labels = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip().isdigit() or int(line) not in wnids:
            raise UserError(f"{folder}/{GROUND_TRUTH}, line {number}: {line!r} is no class of meta.mat")
        labels[f"ILSVRC2012_val_{number:08d}"] = wnids[int(line)]
    return labels


def _wnid_by_id(path: str) -> dict[int, str]:
    import scipy.io

    try:
        synsets = scipy.io.loadmat(io.BytesIO(places.read(path)), squeeze_me=True)["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    except FileNotFoundError:
        raise UserError(f"{readable(path)} is missing; the ground truth beside it cannot be read without") from None
    except Exception as error:  # the reader raises many types on damaged files
        raise UserError(f"{readable(path)} is not the devkit's meta.mat: {error}") from error


def _of_list(root: str, file: str) -> dict[str, str]:
    """Reads lines "<file> <class index>", as caffe's val.txt has them; none without the file."""
    labels = {}
    for number, line in enumerate(read_list(root, file), start=1):
        name, _, index = line.strip().rpartition(" ")
        if not name or not index.isdigit() or int(index) >= len(WNIDS):
            raise UserError(f"{file}, line {number}: {line!r}, expected a file's name and a class index below 1000")
        labels[PurePath(name).stem] = WNIDS[int(index)]
    return labels
