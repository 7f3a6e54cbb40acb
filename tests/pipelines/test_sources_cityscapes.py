"""Cityscapes: classes, objects and panoptic maps from labelIds and 16-bit instanceIds."""

from pathlib import Path

import numpy as np
import pytest
from made_media import write_labels, write_picture
from PIL import Image
from reading_datasets import Found, not_aligned, read_all

from pipelines.render.labels import read
from pipelines.render.palettes import cityscapes, cityscapes_train
from pipelines.sources.cityscapes import Cityscapes
from visent.errors import UserError

FRANKFURT = "val/frankfurt/frankfurt_000000_000294"


@pytest.fixture(scope="module")
def real(samples: Path) -> Found:
    return read_all(Cityscapes(root=str(samples / "cityscapes"), annotations=("semantic", "instances", "panoptic")))


def ids(samples: Path, key: str, kind: str) -> np.ndarray:
    return np.array(Image.open(samples / "cityscapes" / "gtFine" / f"{key}_gtFine_{kind}.png")).astype(np.int64)


def numbers(picture: np.ndarray) -> np.ndarray:
    return np.asarray(picture.astype(np.int64) @ np.array([65536, 256, 1]))


def test_real_photos_are_matched_by_city_and_number(real: Found) -> None:
    train = [f"train/aachen/aachen_00000{n}_000019" for n in range(3)]
    assert sorted(real.examples) == [*train, FRANKFURT]
    assert real.rejects == {}
    assert [unit.split for unit in real.units] == ["train", "val"]
    assert real.examples[FRANKFURT].meta == {"city": "frankfurt"}


def test_real_classes_have_the_official_colours(real: Found, samples: Path) -> None:
    official = {
        7: (128, 64, 128),
        11: (70, 70, 70),
        23: (70, 130, 180),
        24: (220, 20, 60),
        26: (0, 0, 142),
        1: (0, 0, 0),
    }
    for key, pixels in real.pixels.items():
        labels = ids(samples, key, "labelIds")
        painted = pixels["semantic"][0]
        for number, colour in official.items():
            assert (painted[labels == number] == colour).all()
        back = np.where(labels == 18, 17, np.where(labels < 5, 0, labels))  # ids that share their colour
        np.testing.assert_array_equal(read(painted[::4, ::4], cityscapes()), back[::4, ::4])


def test_trained_classes_are_those_of_the_publishers_train_ids(samples: Path) -> None:
    found = read_all(Cityscapes(root=str(samples / "cityscapes"), classes="train"), splits=("val",))
    back = read(found.pixels[FRANKFURT]["semantic"][0], cityscapes_train(), void=255)
    trained = np.full(34, 255)
    trained[[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]] = np.arange(19)
    np.testing.assert_array_equal(back, trained[ids(samples, FRANKFURT, "labelIds")])
    assert np.mean(back != ids(samples, FRANKFURT, "labelTrainIds")) < 0.003  # the sample's maps differ in 77 pixels


def test_each_real_object_is_one_colour_and_groups_are_none(real: Found, samples: Path) -> None:
    for key, pixels in real.pixels.items():
        truth = ids(samples, key, "instanceIds")
        painted = numbers(pixels["instances"][0])
        assert (painted[truth < 1000] == 0).all()
        objects = np.unique(truth[truth >= 1000])
        pairs = np.unique(truth[truth >= 1000] << 24 | painted[truth >= 1000])  # of object and colour
        assert len(pairs) == len(objects) == len(np.unique(pairs & 0xFFFFFF))


def test_real_panoptic_maps_keep_class_and_object(real: Found, samples: Path) -> None:
    for key, pixels in real.pixels.items():
        truth = ids(samples, key, "instanceIds")
        painted = pixels["panoptic"][0]
        labels = ids(samples, key, "labelIds")
        assert (painted[labels < 5] == 0).all()
        segments = np.unique(truth[labels >= 5] << 24 | numbers(painted)[labels >= 5])  # of segment and colour
        assert len(segments) == len(np.unique(segments & 0xFFFFFF)) == len(np.unique(truth[labels >= 5]))
        back = np.where(labels == 18, 17, np.where(labels < 5, 0, labels))
        np.testing.assert_array_equal(read(painted[::4, ::4], cityscapes()), back[::4, ::4])


def write_scene(root: Path, number: int, labels: np.ndarray, instances: np.ndarray) -> str:
    name = f"ulm_{number:06d}_000019"
    write_picture(root / "leftImg8bit" / "train" / "ulm" / f"{name}_leftImg8bit.png")
    write_labels(root / "gtFine" / "train" / "ulm" / f"{name}_gtFine_labelIds.png", labels.astype(np.uint8))
    write_labels(root / "gtFine" / "train" / "ulm" / f"{name}_gtFine_instanceIds.png", instances.astype(np.uint16))
    write_labels(root / "gtFine" / "train" / "ulm" / f"{name}_gtFine_color.png", np.zeros((40, 48, 3), np.uint8))
    return f"train/ulm/{name}"


def test_caravans_are_objects_but_not_trained_on(tmp_path: Path) -> None:
    instances = np.zeros((40, 48), np.int64)
    instances[:10], instances[10:20], instances[20:30] = 29000, 26001, 26  # caravan, car, a group of cars
    key = write_scene(tmp_path, 0, np.where(instances >= 1000, instances // 1000, instances), instances)
    for classes, count in (("all", 2), ("train", 1)):
        found = read_all(Cityscapes(root=str(tmp_path), annotations=("instances", "panoptic"), classes=classes))  # type: ignore[arg-type]
        painted = numbers(found.pixels[key]["instances"][0])
        assert len(np.unique(painted)) == count + 1
        assert (painted[20:] == 0).all()
        assert len(np.unique(numbers(found.pixels[key]["panoptic"][0]))) == count + 2


def test_faults_are_rejected(tmp_path: Path) -> None:
    labels, instances = np.full((40, 48), 7), np.full((40, 48), 7)
    keys = [write_scene(tmp_path, number, labels, instances) for number in range(7)]
    maps = tmp_path / "gtFine" / "train" / "ulm"
    (tmp_path / "leftImg8bit" / "train" / "ulm" / "ulm_000001_000019_leftImg8bit.png").unlink()
    (maps / "ulm_000002_000019_gtFine_instanceIds.png").unlink()
    write_scene(tmp_path, 3, labels + 30, instances)
    write_scene(tmp_path, 4, labels, instances + 40_000)
    write_scene(tmp_path, 5, labels[:, :20], instances)
    cut = maps / "ulm_000006_000019_gtFine_instanceIds.png"
    cut.write_bytes(cut.read_bytes()[:60])
    dataset = Cityscapes(root=str(tmp_path), annotations=("semantic", "instances"))
    found = read_all(dataset)
    reasons = {1: "missing-image", 2: "missing-instances", 3: "unknown-label", 4: "unknown-label", 6: "truncated"}
    assert found.rejects == {keys[number]: reason for number, reason in reasons.items()}
    assert [not_aligned(dataset, found.examples[keys[number]]) for number in (0, 5)] == ["", "sizes-differ"]
    assert len(found.items) == 7


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown name in --annotations 'semantics': did you mean 'semantic'"):
        Cityscapes(root=str(tmp_path), annotations=("semantics",))
    with pytest.raises(UserError, match="each once; got panoptic,panoptic"):
        Cityscapes(root=str(tmp_path), annotations=("panoptic", "panoptic"))
