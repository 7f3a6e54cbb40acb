"""SA-1B: masks painted largest first, from tars and from extracted folders; pycocotools as the oracle."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_media import picture_bytes
from pycocotools import mask as cocoapi
from reading_datasets import read_all

from pipelines.render import masks
from pipelines.render.instances import instance_colours, read_instances
from pipelines.sources import sa1b
from pipelines.sources.sa1b import SA1B


def painted_by_pycocotools(annotations: list[Any]) -> np.ndarray:
    """Numbers the masks by area, the largest below."""
    found = [cocoapi.decode(annotation["segmentation"]) > 0 for annotation in annotations]
    ids = np.zeros(found[0].shape, int)
    for rank, mask in enumerate(sorted(found, key=lambda mask: -mask.sum()), start=1):
        ids[mask] = rank
    return ids


def test_photos_and_json_of_extracted_folders_are_paired(samples: Path) -> None:
    found = read_all(SA1B(root=str(samples / "sa1b")))
    assert [item.key for item in found.items] == ["derived_from_coco/sa_000000", "json_excerpts", "sa_000000"]
    assert sorted(found.rejects.items()) == [
        ("json_excerpts/sa_10079", "missing-image"), ("json_excerpts/sa_10215304", "missing-image"),
        *((f"sa_000000/sa_{n}", "missing-instances") for n in (1002, 10039, 561, 8776)),
    ]  # fmt: skip
    assert len(found.examples) == 4
    for key, example in found.examples.items():
        annotations = json.loads((samples / "sa1b" / f"{key}.json").read_bytes())["annotations"]
        picture = found.pixels[key]["instances"][0]
        assert example.meta == {"objects": len(annotations)}
        read = read_instances(picture, instance_colours(key, len(annotations)))
        np.testing.assert_array_equal(read, painted_by_pycocotools(annotations))


@pytest.mark.parametrize("number", [10079, 10215304])
def test_real_masks_have_the_area_and_box_of_their_record(samples: Path, number: int) -> None:
    """The box's width is the last column less the first, as published."""
    record = json.loads((samples / "sa1b" / "json_excerpts" / f"sa_{number}.json").read_bytes())
    size = (record["image"]["height"], record["image"]["width"])
    for annotation in record["annotations"]:
        runs = masks.runs_of_rle(annotation["segmentation"], size)
        assert masks.area(runs) == annotation["area"]
        rows, columns = np.nonzero(masks.mask_of_runs(runs, size))
        box = [columns.min(), rows.min(), np.ptp(columns), np.ptp(rows)]
        assert annotation["bbox"] == box


def record(*areas: tuple[int, int, int, int], size: tuple[int, int] = (40, 48)) -> dict[str, Any]:
    """The JSON of a photo with rectangles (left, top, right, bottom) as masks."""
    annotations = []
    for left, top, right, bottom in areas:
        mask = np.zeros(size, np.uint8, order="F")
        mask[top:bottom, left:right] = 1
        rle = cocoapi.encode(mask)
        annotations.append({"segmentation": {"size": list(size), "counts": rle["counts"].decode()}, "area": 1})
    return {"image": {"image_id": 1, "width": size[1], "height": size[0]}, "annotations": annotations}


GOOD = json.dumps(record((2, 2, 9, 9), (0, 0, 30, 30))).encode()
PHOTO = picture_bytes(1, format="JPEG")


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    """Writes members in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_tars_are_read_as_published(tmp_path: Path) -> None:
    write_tar(tmp_path / "sa_000000.tar", [(f"./sa_{n}.{end}", data) for n in (7, 3)
                                           for end, data in (("jpg", PHOTO), ("json", GOOD))])  # fmt: skip
    write_tar(tmp_path / "sa_000001.tar", [("sa_9.json", GOOD), ("sa_9.jpg", PHOTO), ("LICENSE.txt", b"text")])
    found = read_all(SA1B(root=str(tmp_path)))
    assert list(found.examples) == ["sa_000000/sa_7", "sa_000000/sa_3", "sa_000001/sa_9"]
    assert found.rejects == {}
    first, second, background = (instance_colours("sa_000000/sa_7", 2)[0], instance_colours("sa_000000/sa_7", 2)[1], 0)
    picture = found.pixels["sa_000000/sa_7"]["instances"][0]
    assert (picture[5, 5] == second).all()  # the small one, given first, lies above
    assert (picture[20, 20] == first).all()
    assert (picture[35, 35] == background).all()
    assert (found.pixels["sa_000000/sa_3"]["instances"][0] != picture).any()


@pytest.mark.parametrize(
    ("members", "rejects"),
    [
        ([("sa_2.json", GOOD)], {"sa_2": "missing-image"}),
        ([("sa_2.jpg", PHOTO)], {"sa_2": "missing-instances"}),
        ([("sa_2.jpg", PHOTO), ("sa_2.json", b"{")], {"sa_2": "bad-annotation"}),
        ([("sa_2.jpg", PHOTO), ("sa_2.json", b'{"annotations": [{"segmentation": 3}]}')], {"sa_2": "bad-annotation"}),
        ([("sa_2.jpg", PHOTO), ("sa_2.json", b'{"annotations": []}')], {"sa_2": "no-masks"}),
        ([("sa_2.jpg", PHOTO), ("sa_2.json", json.dumps(record((0, 0, 1, 1), size=(48, 40))).encode())],
         {"sa_2": "mask-size"}),
        ([("sa_2.jpg", PHOTO), ("sa_2.json", GOOD.replace(b'"counts": "', b'"counts": "1'))], {"sa_2": "bad-mask"}),
        ([("sa_2.jpg", PHOTO[:-100]), ("sa_2.json", GOOD)], {"sa_2": "truncated"}),
        ([("sa_1.jpg", PHOTO), ("sa_1.json", GOOD)], {"sa_1": "key-again"}),
        ([("sa_2.jpg", PHOTO), ("sa_2.json", GOOD), ("sa_2.jpg", PHOTO)], {"sa_2": "doubled-member"}),
    ],
)  # fmt: skip
def test_each_fault_rejects_its_photo_alone(
    tmp_path: Path, members: list[tuple[str, bytes]], rejects: dict[str, str]
) -> None:
    good = [("sa_1.jpg", PHOTO), ("sa_1.json", GOOD), ("sa_3.jpg", PHOTO), ("sa_3.json", GOOD)]
    write_tar(tmp_path / "sa_000000.tar", good + members)
    found = read_all(SA1B(root=str(tmp_path)))
    assert list(found.examples) == ["sa_000000/sa_1", "sa_000000/sa_3"]
    assert found.rejects == {f"sa_000000/{key}": reason for key, reason in rejects.items()}


def test_a_cut_tar_keeps_what_stands_before_the_cut(tmp_path: Path) -> None:
    write_tar(tmp_path / "sa_000000.tar", [("sa_1.jpg", PHOTO), ("sa_1.json", GOOD), ("sa_2.jpg", 9 * PHOTO)])
    whole = (tmp_path / "sa_000000.tar").read_bytes()
    (tmp_path / "sa_000000.tar").write_bytes(whole[: -(9 * len(PHOTO))])
    found = read_all(SA1B(root=str(tmp_path)))
    assert list(found.examples) == ["sa_000000/sa_1"]
    assert found.rejects["sa_000000"] == "tar-cut"


def write_folder(folder: Path, names: list[str]) -> None:
    """Writes an extracted folder of good pairs."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.jpg").write_bytes(PHOTO)
        (folder / f"{name}.json").write_bytes(GOOD)


def test_a_tar_and_its_extracted_folder_are_read_once(tmp_path: Path) -> None:
    write_tar(tmp_path / "sa_000000.tar", [("sa_1.jpg", PHOTO), ("sa_1.json", GOOD)])
    write_folder(tmp_path / "sa_000000", ["sa_1", "sa_2"])
    found = read_all(SA1B(root=str(tmp_path)))
    assert found.rejects == {"sa_000000": "duplicate-key"}
    assert list(found.examples) == ["sa_000000/sa_1", "sa_000000/sa_2"]


def test_a_large_folder_is_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sa1b, "IMAGES_PER_PART", 2)
    write_folder(tmp_path / "all", ["sa_1", "sa_2", "sa_3"])
    found = read_all(SA1B(root=str(tmp_path)))
    assert [(item.key, item.data["names"]) for item in found.items] == [
        ("all-part000", ["sa_1", "sa_2"]), ("all-part001", ["sa_3"])
    ]  # fmt: skip
    assert list(found.examples) == ["all/sa_1", "all/sa_2", "all/sa_3"]
    assert SA1B(root=str(tmp_path)).pictures(found.items) == 3


def test_photos_at_the_root_have_their_own_keys(tmp_path: Path) -> None:
    write_folder(tmp_path / "root", ["sa_1"])
    found = read_all(SA1B(root=str(tmp_path / "root")))
    assert (list(found.examples), [item.key for item in found.items]) == (["sa_1"], ["photos"])
