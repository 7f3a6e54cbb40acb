"""CO3D: sequences around an object, with soft masks and depth maps of half floats."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_frames import SIZE, squares, write_frames, write_ids
from reading_datasets import read_all

from pipelines.render.depth import depth_to_rgb
from pipelines.sources.co3d import CO3D
from visent.errors import UserError

CAMERA = {"R": [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], "T": [0.0, 0, 1], "focal_length": [1.0, 1], "principal_point": [0.0, 0]}  # fmt: skip  # noqa: E501


def depth_map(number: int) -> np.ndarray:
    """Distances that grow to the right; infinite, negative and unknown in places."""
    values = np.tile(np.linspace(1, 2 + number, SIZE[0]), (SIZE[1], 1)).astype(np.float16)
    values[0, :4] = np.inf, np.nan, -1, 0
    return values


def frame_annotation(sequence: str, number: int, timestamp: float, masked: bool = True) -> dict[str, Any]:
    """One record as the publisher writes it; files are numbered from 1 more than frames."""
    folder, name = f"cup/{sequence}", f"frame{number + 1:06d}"
    record: dict[str, Any] = {
        "sequence_name": sequence, "frame_number": number, "frame_timestamp": timestamp,
        "image": {"path": f"{folder}/images/{name}.jpg", "size": list(SIZE[::-1])},
        "depth": {"path": f"{folder}/depths/{name}.jpg.geometric.png", "scale_adjustment": 0.938,
                  "mask_path": f"{folder}/depth_masks/{name}.png"},
        "mask": {"path": f"{folder}/masks/{name}.png", "mass": 64.0},
        "viewpoint": CAMERA, "meta": {"frame_type": "train_known"},
    }  # fmt: skip
    return record if masked else {**record, "mask": None, "depth": None}


def write_jgz(path: Path, value: Any) -> None:
    path.write_bytes(gzip.compress(json.dumps(value).encode()))


@pytest.fixture
def co3d(tmp_path: Path) -> Path:
    """Sequence "1_2_3" of six frames with everything, "4_5_6" of two without masks and depth, "7_8_9" not there."""
    annotations = [frame_annotation("1_2_3", n, n / 10) for n in range(6)]
    annotations += [frame_annotation("4_5_6", n, -1.0, masked=False) for n in range(2)]
    cup = tmp_path / "cup"
    for one in annotations:
        number, folder = one["frame_number"], cup / one["sequence_name"]
        write_frames(folder / "images", [number + 1], "frame{:06d}.jpg")
        if one["mask"]:
            mask = squares([255, 128, 127, 1]) if number else squares([255])
            write_ids(folder / "masks" / f"frame{number + 1:06d}.png", mask, palette=False)
            write_ids(folder / "depths" / f"frame{number + 1:06d}.jpg.geometric.png", depth_map(number).view(np.uint16))
            known = np.ones(SIZE[::-1], np.uint8)
            known[-6:] = 0
            write_ids(folder / "depth_masks" / f"frame{number + 1:06d}.png", known, palette=False)
    write_jgz(cup / "frame_annotations.jgz", annotations[::-1])
    write_jgz(cup / "sequence_annotations.jgz", [{"sequence_name": name, "category": "cup"}
                                                 for name in ("1_2_3", "4_5_6", "7_8_9")])  # fmt: skip
    lists = {split: [["1_2_3", n, f"cup/1_2_3/images/frame{n + 1:06d}.jpg"] for n in numbers]
             for split, numbers in (("train", (0, 2, 4)), ("val", (5, 1)), ("test", ()))}  # fmt: skip
    (cup / "set_lists").mkdir()
    (cup / "set_lists" / "set_lists_manyview_dev_0.json").write_text(json.dumps(lists))
    return tmp_path


def test_the_real_frames_are_read_by_their_annotations(samples: Path) -> None:
    root = samples / "co3d"
    found = read_all(CO3D(root=str(root), annotations=(), frames=4))
    (clip,) = found.examples.values()
    assert clip.key == "apple/189_20393_38136#00000"
    assert clip.meta == {"class": "apple", "frames": [6, 24, 84, 161], "times": [0.0, 5.0, 10.0, 15.0]}
    assert {still.shape for still in found.pixels[clip.key]["frames"]} == {(911, 512, 3)}
    assert read_all(CO3D(root=str(root))).rejects == {"apple/189_20393_38136#00000": "missing-mask"}
    listed = json.loads((root / "apple/set_lists/set_lists_fewview_dev.json").read_text())
    found = read_all(CO3D(root=str(root), annotations=(), subset="fewview_dev", max_frames=5))
    assert {len(listed[split]) for split in ("val", "test")} == {0}
    assert found.examples["train/apple/189_20393_38136#00000"].meta["frames"] == [6, 11, 16, 18, 23]


def test_frames_come_with_mask_and_depth(co3d: Path) -> None:
    found = read_all(CO3D(root=str(co3d), annotations=("mask", "depth")))
    assert found.rejects == {"cup/4_5_6#00000": "missing-mask", "cup/7_8_9": "missing-frames"}
    clip = found.examples["cup/1_2_3#00000"]
    assert clip.meta == {"class": "cup", "frames": [0, 1, 2, 3, 4, 5], "times": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]}
    pixels = found.pixels[clip.key]
    white = pixels["mask"][1].min(axis=2)
    assert np.array_equal(white == 255, squares([1, 1]) > 0)  # 128 of 255 and more
    for number in range(6):
        metres = depth_map(number).astype(np.float32) * np.float32(0.938)
        metres[-6:] = 0
        drawn = pixels["depth"][number]
        assert np.abs(drawn.astype(int) - depth_to_rgb(metres, "distance")).max() <= 1
        assert not drawn[-6:].any()
        assert not drawn[0, :4].any()
        assert drawn[1, 1, 0] > drawn[1, -2, 0] > 0  # near is bright


def test_sequences_without_masks_give_their_frames(co3d: Path) -> None:
    found = read_all(CO3D(root=str(co3d), annotations=()))
    assert found.examples["cup/4_5_6#00000"].meta == {"class": "cup", "frames": [0, 1]}  # -1 is no time


def test_set_lists_say_frames_and_splits(co3d: Path) -> None:
    found = read_all(CO3D(root=str(co3d), subset="manyview_dev_0"))
    assert {key: example.meta["frames"] for key, example in found.examples.items()} == {
        "train/cup/1_2_3#00000": [0, 2, 4], "val/cup/1_2_3#00000": [1, 5]
    }  # fmt: skip
    assert {unit.split for unit in found.units} == {"train", "val"}


def test_files_that_the_annotations_promise_are_rejects_when_missing(co3d: Path) -> None:
    (co3d / "cup/1_2_3/masks/frame000002.png").unlink()
    (co3d / "cup/1_2_3/depth_masks/frame000004.png").unlink()
    (co3d / "cup/1_2_3/images/frame000006.jpg").unlink()
    found = read_all(CO3D(root=str(co3d), annotations=("mask", "depth"), frames_per_clip=2))
    assert {key: reason for key, reason in found.rejects.items() if "1_2_3" in key} == {
        "cup/1_2_3#00000": "missing-mask", "cup/1_2_3#00001": "missing-depth", "cup/1_2_3#00002": "missing-frames"
    }  # fmt: skip


def test_maps_that_do_not_hold_what_they_should_are_rejects(co3d: Path) -> None:
    write_ids(co3d / "cup/1_2_3/depths/frame000002.jpg.geometric.png", squares([9]), palette=False)
    write_ids(co3d / "cup/1_2_3/depth_masks/frame000004.png", squares([1], (10, 20)), palette=False)
    write_ids(co3d / "cup/1_2_3/depth_masks/frame000006.png", squares([]), palette=False)
    found = read_all(CO3D(root=str(co3d), annotations=("depth",), frames_per_clip=2))
    assert {key: reason for key, reason in found.rejects.items() if "1_2_3" in key} == {
        "cup/1_2_3#00000": "not-depth", "cup/1_2_3#00001": "mask-size", "cup/1_2_3#00002": "no-depth"
    }  # fmt: skip


def test_a_listed_frame_without_annotation_is_a_reject(co3d: Path) -> None:
    path = co3d / "cup" / "set_lists" / "set_lists_manyview_dev_0.json"
    path.write_text(json.dumps({"test": [["1_2_3", 77, "x"]]}))
    found = read_all(CO3D(root=str(co3d), subset="manyview_dev_0"), ("test",))
    assert found.rejects == {"test/cup/1_2_3#00000": "missing-frames"}


def test_folders_that_are_no_category_are_said(co3d: Path) -> None:
    (co3d / "notes").mkdir()
    assert "1 folders without frame_annotations.jgz" in read_all(CO3D(root=str(co3d))).note
    with pytest.raises(UserError, match="did you mean 'cup'"):
        read_all(CO3D(root=str(co3d), categories=("cups",)))


@pytest.mark.parametrize(
    "data", [b"", b"[]", gzip.compress(b"[{]"), gzip.compress(b"{}"), gzip.compress(b"[]")[:12]],
    ids=["empty", "plain", "no-json", "no-list", "cut"],
)  # fmt: skip
def test_annotations_that_cannot_be_read_are_named(co3d: Path, data: bytes) -> None:
    (co3d / "cup" / "frame_annotations.jgz").write_bytes(data)
    with pytest.raises(UserError, match=r"frame_annotations\.jgz"):
        read_all(CO3D(root=str(co3d)))
