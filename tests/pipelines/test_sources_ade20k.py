"""ADE20K: the scene parsing challenge and the full annotation."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_media import write_labels, write_picture
from PIL import Image
from reading_datasets import not_aligned, read_all, source_of

from pipelines.render.labels import read
from pipelines.render.palettes import ade20k, painter_ade20k
from pipelines.sources.ade20k import ADE20K
from pipelines.sources.ade20k_full import ADE20KFull, palette
from pipelines.sources.dataset import Dataset
from visent.errors import UserError


def test_real_maps_are_painted_in_the_official_colours(samples: Path) -> None:
    found = read_all(ADE20K(root=str(samples / "ade20k" / "ADEChallengeData2016")))
    maps = samples / "ade20k" / "ADEChallengeData2016" / "annotations"
    assert sorted(found.examples) == sorted(f"validation/{path.stem}" for path in maps.glob("validation/*.png"))
    assert (len(found.examples), found.rejects, {item.split for item in found.items}) == (33, {}, {"val"})
    colours = {0: (0, 0, 0), 1: (120, 120, 120), 2: (180, 120, 120), 3: (6, 230, 230), 5: (4, 200, 3)}
    for key, pair in found.pixels.items():
        labels = np.array(Image.open(maps / f"{key}.png"))
        painted = pair["semantic"][0]
        np.testing.assert_array_equal(read(painted, ade20k()), np.where(labels == 49, 7, labels))  # one colour for both
        for number, colour in colours.items():
            assert (painted[labels == number] == colour).all()
        assert pair["image"][0].shape == painted.shape


def test_painters_colours_tell_all_classes_apart(samples: Path) -> None:
    found = read_all(ADE20K(root=str(samples / "ade20k"), palette="painter"))
    maps = samples / "ade20k" / "ADEChallengeData2016" / "annotations"
    for key, pair in found.pixels.items():
        labels = np.array(Image.open(maps / f"{key}.png"))
        np.testing.assert_array_equal(read(pair["semantic"][0], painter_ade20k()), labels)


def test_scenes_are_the_classes_of_the_photos(samples: Path, tmp_path: Path) -> None:
    real = read_all(ADE20K(root=str(samples / "ade20k")))
    lines = (samples / "ade20k" / "ADEChallengeData2016" / "sceneCategories.txt").read_text().splitlines()
    for key, example in real.examples.items():
        assert f"{key.split('/')[1]} {example.meta['class']}" in lines
    write_challenge(tmp_path, "training", "ADE_train_00000001", np.ones((40, 48), np.uint8))
    assert read_all(ADE20K(root=str(tmp_path))).examples["training/ADE_train_00000001"].meta == {}


def write_challenge(root: Path, folder: str, name: str, labels: np.ndarray) -> None:
    write_picture(root / "images" / folder / f"{name}.jpg")
    write_labels(root / "annotations" / folder / f"{name}.png", labels)


def test_faults_of_the_challenges_files_are_rejected(tmp_path: Path) -> None:
    good = np.arange(40 * 48, dtype=np.uint8).reshape(40, 48) % 151
    for number in range(6):
        write_challenge(tmp_path, "training", f"ADE_train_{number:08d}", good)
    images, maps = tmp_path / "images" / "training", tmp_path / "annotations" / "training"
    (images / "ADE_train_00000001.jpg").unlink()
    (maps / "ADE_train_00000002.png").unlink()
    write_labels(maps / "ADE_train_00000003.png", good + 1)
    whole = (maps / "ADE_train_00000004.png").read_bytes()
    (maps / "ADE_train_00000004.png").write_bytes(whole[: len(whole) // 2])
    write_labels(maps / "ADE_train_00000005.png", good[:20])
    write_challenge(tmp_path, "training", "ADE_train_00000006", good)
    write_picture(images / "ADE_train_00000006.png")
    write_picture(maps / "ADE_train_00000007.png")
    write_picture(images / "ADE_train_00000007.jpg")
    dataset = ADE20K(root=str(tmp_path))
    found = read_all(dataset)
    names = {1: "missing-image", 2: "missing-semantic", 3: "unknown-label", 4: "truncated", 6: "duplicate-key",
             7: "not-labels"}  # fmt: skip
    assert found.rejects == {f"training/ADE_train_{number:08d}": reason for number, reason in names.items()}
    assert [int(key[-8:]) for key in found.examples] == [0, 5, 6]
    assert not_aligned(dataset, found.examples["training/ADE_train_00000005"]) == "sizes-differ"
    assert len(found.items) == 9


def test_every_object_of_the_full_annotation_is_one_colour_where_it_is_visible(samples: Path) -> None:
    """The publisher's own masks, one file an object with 255 where it is visible, against the painted map."""
    found = read_all(ADE20KFull(root=str(samples / "ade20k"), annotations=("semantic", "instances")))
    key = "training/urban/street/ADE_train_00016964"
    assert (list(found.examples), found.rejects) == ([key], {})
    assert found.examples[key].meta == {"class": "urban/street"}
    files = samples / "ade20k" / "ADE20K_2021_17_01" / "images" / "ADE" / f"{key}.json"
    objects = json.loads(files.read_text(encoding="latin-1"))["annotation"]["object"]
    painted = found.pixels[key]["instances"][0].astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    classes = found.pixels[key]["semantic"][0]
    seen = {0}
    for one in objects:
        if one["parts"]["part_level"]:
            continue
        visible = np.array(Image.open(files.parent / one["instance_mask"])) == 255
        (colour,) = set(painted[visible].tolist())
        assert (painted == colour).sum() - visible.sum() < 200  # of two objects, where something small covers them
        assert colour not in seen
        seen.add(colour)
        assert (classes[visible] == palette()[one["name_ndx"]]).all()
    assert set(painted.ravel().tolist()) == seen


def write_full(root: Path, name: str, classes: np.ndarray, objects: np.ndarray) -> Path:
    folder = root / "images" / "ADE" / "validation" / "home_or_hotel" / "attic"
    write_picture(folder / f"{name}.jpg")
    pixels = np.stack([classes // 256 * 10, classes % 256, objects], axis=-1).astype(np.uint8)
    write_labels(folder / f"{name}_seg.png", pixels)
    write_labels(folder / name / f"instance_000_{name}.png", np.zeros((40, 48), np.uint8))
    return folder


def test_full_maps_are_read_back_and_their_faults_rejected(tmp_path: Path) -> None:
    classes = np.linspace(0, 3688, 40 * 48).astype(np.int64).reshape(40, 48)
    write_full(tmp_path, "ADE_val_00000001", classes, classes * 0)
    write_full(tmp_path, "ADE_val_00000002", classes + 8, classes * 0)
    folder = write_full(tmp_path, "ADE_val_00000003", classes, classes * 0)
    (folder / "ADE_val_00000003.jpg").unlink()
    found = read_all(ADE20KFull(root=str(tmp_path)))
    key = "validation/home_or_hotel/attic/ADE_val_0000000"
    assert found.rejects == {f"{key}2": "unknown-label", f"{key}3": "missing-image"}
    np.testing.assert_array_equal(read(found.pixels[f"{key}1"]["semantic"][0], palette()), classes)
    assert found.examples[f"{key}1"].meta == {"class": "home_or_hotel/attic"}


def test_options_are_checked_and_an_empty_folder_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--annotations takes one or more of semantic, instances"):
        ADE20KFull(root=str(tmp_path), annotations=())
    empty: list[Dataset] = [ADE20K(root=str(tmp_path)), ADE20KFull(root=str(tmp_path))]
    for dataset in empty:
        with pytest.raises(UserError, match="found nothing of dataset"):
            source_of(dataset).listing()
