"""Legends of maps of classes: what is painted reads back as the publishers' own ids, but where two share a colour."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_media import write_labels, write_picture
from PIL import Image
from reading_datasets import read_all

from manifests.legend import Legend
from pipelines.render.legends import legend
from pipelines.sources.ade20k import ADE20K
from pipelines.sources.cityscapes import Cityscapes
from pipelines.sources.coco import COCO
from pipelines.sources.dataset import Dataset, DatasetSource
from pipelines.sources.vipseg import VIPSeg
from pipelines.sources.voc import VOC


def ids_in(painted: np.ndarray, found: Legend) -> np.ndarray:
    """Reads a map by its exact colours."""
    packed = painted.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    known = {int(np.array(colour) @ [1 << 16, 1 << 8, 1]): number
             for number, colour in zip(found.ids, found.colours, strict=True)}  # fmt: skip
    colours, inverse = np.unique(packed, return_inverse=True)
    return np.array([known[int(colour)] for colour in colours])[inverse].reshape(packed.shape)


def check(dataset: Dataset, files: Mapping[str, Path], read_as: Any = lambda ids: ids) -> Legend:
    """Compares painted maps with the files of ids; `read_as` says as what an id is read."""
    found = DatasetSource(name="d", dataset=dataset, items_per_unit=9).legends["semantic"]
    pixels = read_all(dataset, ("val",)).pixels
    assert pixels.keys() & files.keys()
    for key in pixels.keys() & files.keys():
        ids = np.array(Image.open(files[key])).astype(np.int64)
        np.testing.assert_array_equal(ids_in(pixels[key]["semantic"][0], found), read_as(ids), err_msg=key)
    return found


def below(folder: Path, pattern: str, ending: str = ".png") -> dict[str, Path]:
    return {path.relative_to(folder).as_posix().removesuffix(ending): path for path in folder.glob(pattern)}


@pytest.mark.parametrize(("palette", "classes"), [("official", 149), ("painter", 150)])
def test_ade20k(samples: Path, palette: Any, classes: int) -> None:
    maps = below(samples / "ade20k" / "ADEChallengeData2016" / "annotations", "*/*.png")
    same = (lambda ids: np.where(ids == 49, 7, ids)) if palette == "official" else (lambda ids: ids)
    found = check(ADE20K(root=str(samples / "ade20k"), palette=palette), maps, same)
    assert (len(found.ids), found.ignored) == (classes + 1, (0,))


@pytest.mark.parametrize("classes", ["all", "train"])
def test_cityscapes_counts_nineteen(samples: Path, classes: Any) -> None:
    maps = below(samples / "cityscapes" / "gtFine", "*/*/*_labelIds.png", "_gtFine_labelIds.png")

    def read_as(ids: np.ndarray) -> np.ndarray:
        if classes == "train":
            return np.where(np.isin(ids, counted), ids, 0)
        return np.where(ids == 18, 17, np.where(ids < 5, 0, ids))

    counted = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    found = check(Cityscapes(root=str(samples / "cityscapes"), classes=classes), maps, read_as)
    assert [number for number in found.ids if number not in found.ignored] == counted
    assert dict(zip(found.ids, found.names, strict=True))[26] == "car"


@pytest.mark.parametrize("black", [False, True])
def test_voc_ignores_its_border(samples: Path, black: bool) -> None:
    maps = {f"VOC2012/{key}": path for key, path in
            below(samples / "voc" / "VOCdevkit" / "VOC2012" / "SegmentationClass", "*.png").items()}  # fmt: skip
    read_as = (lambda ids: np.where(ids == 255, 0, ids)) if black else (lambda ids: ids)
    found = check(VOC(root=str(samples / "voc"), black_border=black), maps, read_as)
    assert found.ids == (*range(21), *(() if black else (255,)))
    assert found.ignored == (() if black else (255,))
    assert found.names[15] == "person"


def test_coco_stuff(samples: Path) -> None:
    maps = below(samples / "coco" / "stuffthingmaps", "*/*.png")
    found = check(COCO(root=str(samples / "coco"), annotations=("semantic",)), maps, lambda ids: (ids + 1) % 256)
    assert (found.ids, found.ignored) == (tuple(range(183)), (0,))
    assert not DatasetSource(name="coco", dataset=COCO(root=str(samples / "coco")), items_per_unit=9).legends


def test_vipseg(tmp_path: Path) -> None:
    ids = np.arange(125, dtype=np.uint16).reshape(5, 25)
    values = np.where((ids % 2 == 1) & (ids > 1), ids * 100 + 3, ids).astype(np.uint16)  # objects of every other class
    write_labels(tmp_path / "panomasks" / "a" / "00000001.png", np.kron(values, np.ones((4, 4), np.uint16)))
    write_picture(tmp_path / "images" / "a" / "00000001.jpg", 0, (100, 20))
    dataset = VIPSeg(root=str(tmp_path), annotations=("semantic",))
    found = DatasetSource(name="d", dataset=dataset, items_per_unit=9).legends["semantic"]
    assert (len(found.ids), found.ignored) == (124, (0,))
    (clip,) = read_all(dataset).pixels.values()
    read = ids_in(clip["semantic"][0], found)[::4, ::4]
    np.testing.assert_array_equal(read, np.where(ids == 49, 7, ids))


def test_of_classes_of_one_colour_the_lowest_stays() -> None:
    palette = np.array([(0, 0, 0), (9, 9, 9), (0, 0, 0), (1, 2, 3), (9, 9, 9)], np.uint8)
    found = legend(palette, ignored=(2, 1), names=("a", "b", "c", "d", "e"))
    assert (found.ids, found.colours) == ((0, 1, 3), ((0, 0, 0), (9, 9, 9), (1, 2, 3)))
    assert (found.names, found.ignored) == (("a", "b", "d"), (1,))
