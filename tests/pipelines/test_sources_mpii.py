"""MPII: all persons of a photo on one picture, from the JSON files in use and from the publisher's .mat."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_media import write_pictures
from reading_datasets import read_all
from scipy.io import savemat

from pipelines.render.keypoints import read_joints
from pipelines.render.skeletons import MPII_16
from pipelines.sources.mpii import MPII
from visent.errors import UserError

# places of the 16 joints in a picture of 200 x 150, in the order of the dataset, counted from 1
JOINTS = np.array([
    [60, 140], [62, 115], [65, 90], [95, 90], [98, 115], [100, 140], [80, 85], [80, 60], [80, 40], [80, 15],
    [30, 95], [40, 70], [55, 50], [105, 50], [120, 70], [130, 95],
], float)  # fmt: skip


def test_the_joints_of_a_real_photo_can_be_read_from_its_picture(samples: Path) -> None:
    found = read_all(MPII(root=str(samples / "mpii")))
    entries = json.loads((samples / "mpii" / "annotations" / "mpii_train.json").read_bytes())
    assert (len(found.examples), found.rejects) == (5, {})
    assert {unit.split for unit in found.units} == {"train"}
    compared = 0
    for entry in entries:
        picture = found.pixels[entry["image"].removesuffix(".jpg")]["pose"][0]
        joints, read = np.array(entry["joints"]) - 1, read_joints(picture, MPII_16)
        apart = np.hypot(*(joints[:, None] - joints).transpose(2, 0, 1)) + 1e9 * np.eye(16)
        clear = (apart.min(axis=1) > min(picture.shape[:2]) / 30) & (np.array(entry["joints_vis"]) > 0)
        np.testing.assert_allclose(read[clear, :2], joints[clear], atol=1.5)
        np.testing.assert_array_equal(read[~np.array(entry["joints_vis"], bool), 2], 0)
        compared += int(clear.sum())
    assert compared > 60


def person(image: str, shift: float = 0.0) -> dict[str, Any]:
    """One entry of the JSON files."""
    return {"image": image, "joints": (JOINTS + shift).tolist(), "joints_vis": [1] * 16, "center": [0, 0], "scale": 1.0}


def write_photos(root: Path) -> None:
    """Writes images/000.png to 002.png of 48 x 40 pixels."""
    write_pictures(root / "images", 3)


def test_splits_come_from_the_files_and_persons_of_a_photo_together(tmp_path: Path) -> None:
    write_photos(tmp_path)
    (tmp_path / "annot").mkdir()
    unseen = {**person("002.png"), "joints_vis": [0] * 16}
    train = [person("000.png"), person("001.png"), person("000.png", 30.0), unseen, person("gone.png")]
    (tmp_path / "annot" / "train.json").write_text(json.dumps(train))
    (tmp_path / "annot" / "valid.json").write_text(json.dumps([person("002.png")]))
    found = read_all(MPII(root=str(tmp_path)))
    assert {unit.split: [item.key for item in unit.items] for unit in found.units} == {
        "train": ["000", "001", "gone"], "val": ["002"]
    }  # fmt: skip
    assert [found.examples[key].meta["persons"] for key in ("000", "001", "002")] == [2, 1, 1]
    assert found.rejects == {"gone": "missing-image"}
    assert found.note == "left out: 1 images without annotated joints"
    assert len(found.items) == len(found.examples) + len(found.rejects)


def test_a_photo_in_two_splits_is_a_doubled_key(tmp_path: Path) -> None:
    write_photos(tmp_path)
    (tmp_path / "annotations").mkdir()
    for name in ("train", "val"):
        (tmp_path / "annotations" / f"mpii_{name}.json").write_text(json.dumps([person("000.png")]))
    assert read_all(MPII(root=str(tmp_path))).rejects == {"000": "duplicate-key"}


def structs(rows: list[dict[str, Any]]) -> np.ndarray:
    """A MATLAB struct array of 1 x n, as `savemat` writes it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    result = np.zeros((1, len(rows)), [(name, object) for name in names])
    for number, row in enumerate(rows):
        for name in names:
            result[0, number][name] = row.get(name, np.zeros((0, 0)))
    return result


def write_mat(path: Path, people: list[list[np.ndarray]], of_train: list[int]) -> None:
    """Writes mpii_human_pose_v1_u12_1.mat as its publisher nests it; a person without joints has no annopoints."""
    images = []
    for number, persons in enumerate(people):
        rects = [
            {"scale": 3.2, "objpos": structs([{"x": 594.0, "y": 257.0}]), "x1": 1.0,
             **({"annopoints": structs([{"point": structs([
                 {"x": x, "y": y, "id": joint, "is_visible": np.zeros((0, 0)) if joint in (8, 9) else float(joint % 2)}
                 for joint, (x, y) in enumerate(joints)])}])} if len(joints) else {})}
            for joints in persons
        ]  # fmt: skip
        images.append({
            "image": structs([{"name": f"{number:03d}.png"}]),
            "annorect": structs(rects) if rects else np.zeros((0, 0)),
            "frame_sec": np.zeros((0, 0)), "vididx": np.zeros((0, 0)),
        })  # fmt: skip
    release = {"annolist": structs(images), "img_train": np.array([of_train], np.uint8), "version": "12"}
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"RELEASE": release})


def test_the_publishers_mat_gives_what_the_json_gives(tmp_path: Path) -> None:
    nobody = np.zeros((0, 2))
    for folder in ("mat", "json"):
        write_photos(tmp_path / folder)
    people = [[JOINTS / 4, nobody, JOINTS / 5], [], [JOINTS / 4], [JOINTS / 4], [nobody]]
    write_mat(tmp_path / "mat" / "mpii_human_pose_v1_u12_2" / "mpii_human_pose_v1_u12_1.mat", people, [1, 1, 1, 1, 0])
    entries = [{**person("000.png"), "joints": (JOINTS / part).tolist()} for part in (4, 5)]
    entries += [{**person(name), "joints": (JOINTS / 4).tolist()} for name in ("002.png", "003.png")]
    (tmp_path / "json" / "annotations").mkdir()
    (tmp_path / "json" / "annotations" / "mpii_train.json").write_text(json.dumps(entries))
    mat, of_json = (read_all(MPII(root=str(tmp_path / folder))) for folder in ("mat", "json"))
    assert mat.rejects == of_json.rejects == {"003": "missing-image"}
    assert list(mat.examples) == list(of_json.examples) == ["000", "002"]
    for key in mat.examples:
        assert mat.pixels[key]["pose"][0].any()
        np.testing.assert_array_equal(mat.pixels[key]["pose"][0], of_json.pixels[key]["pose"][0])
    assert mat.note.startswith("left out: ")
    assert "1 images without annotated joints" in mat.note
    assert "1 test images without published joints" in mat.note


def test_files_that_are_not_mpiis_say_so(tmp_path: Path) -> None:
    write_photos(tmp_path)
    (tmp_path / "mpii_human_pose_v1_u12_1.mat").write_bytes(b"not a .mat file")
    with pytest.raises(UserError, match=r"mpii_human_pose_v1_u12_1\.mat is not MPII's annotation file"):
        read_all(MPII(root=str(tmp_path)))
    savemat(tmp_path / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": {"annolist": 1}})
    with pytest.raises(UserError, match="is not MPII's annotation file"):
        read_all(MPII(root=str(tmp_path)))
    (tmp_path / "annotations").mkdir()
    for text in ("{", "[1]", "1.5", json.dumps([{**person("000.png"), "joints": [[1, 2]]}])):
        (tmp_path / "annotations" / "mpii_train.json").write_text(text)
        with pytest.raises(UserError, match=r"mpii_train\.json is n"):
            read_all(MPII(root=str(tmp_path)))
