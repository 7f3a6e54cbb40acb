"""ImageNet: folders of classes, and the labels of val in each form that they come in."""

import io
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from made_media import picture_bytes
from PIL import Image
from reading_datasets import read_all

from pipelines.sources.imagenet import ImageNet
from pipelines.sources.imagenet_classes import INDEX, WNIDS
from visent.errors import UserError

# (ILSVRC2012_ID, wnid, class index): kit fox, English setter, Siberian husky, tench
KNOWN = [(1, "n02119789", 278), (2, "n02100735", 212), (3, "n02110185", 250), (449, "n01440764", 0)]


def test_a_class_index_is_the_rank_of_its_wnid_among_the_thousand() -> None:
    assert len(set(WNIDS)) == 1000
    assert list(WNIDS) == sorted(WNIDS)
    assert [INDEX[wnid] for _, wnid, _ in KNOWN] == [index for _, _, index in KNOWN]
    assert INDEX["n15075141"] == 999  # toilet tissue


def test_the_real_files_have_the_class_of_their_folder_or_list(samples: Path) -> None:
    root = samples / "imagenet" / "ILSVRC2012"
    found = read_all(ImageNet(root=str(root)))
    files = sorted(root.glob("train/*/*.JPEG"))
    assert len(files) == 506
    assert found.rejects == {}
    assert len(found.examples) == 506 + 25
    for path in files:
        example = found.examples[f"train/{path.parent.name}/{path.stem}"]
        assert example.meta == {"class": path.parent.name, "class_index": INDEX[path.parent.name]}
    for line in (root / "val.txt").read_text().splitlines():
        name, index = line.split()
        meta = found.examples["val/" + name.removesuffix(".JPEG")].meta
        assert meta == {"class_index": int(index), "class": WNIDS[int(index)]}
    assert {unit.split for unit in found.units} == {"train", "val"}
    greys = [path for path in files if Image.open(path).mode == "L"]
    assert greys
    for path in greys:
        pixels = found.pixels[f"train/{path.parent.name}/{path.stem}"]["image"][0]
        assert np.array_equal(pixels, np.stack([np.asarray(Image.open(path))] * 3, axis=-1))


def write_val(root: Path, count: int) -> None:
    (root / "val").mkdir(parents=True)
    for number in range(1, count + 1):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        (root / "val" / name).write_bytes(picture_bytes(number, format="JPEG"))


def write_devkit(folder: Path, ids: list[int]) -> None:
    """Writes the two files of ILSVRC2012_devkit_t12/data that say the classes of val, in the publisher's form."""
    folder.mkdir(parents=True)
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(number, wnid, "words", 0) for number, wnid, _ in KNOWN], dtype=kind).reshape(-1, 1)
    scipy.io.savemat(folder / "meta.mat", {"synsets": synsets})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in ids))


@pytest.mark.parametrize("folder", ["ILSVRC2012_devkit_t12/data", "data"])
def test_the_devkit_numbers_classes_in_its_own_order(tmp_path: Path, folder: str) -> None:
    write_val(tmp_path, 3)
    write_devkit(tmp_path / folder, [3, 449, 1, 2])
    found = read_all(ImageNet(root=str(tmp_path)))
    assert [example.meta for example in found.examples.values()] == [
        {"class": "n02110185", "class_index": 250},
        {"class": "n01440764", "class_index": 0},
        {"class": "n02119789", "class_index": 278},
    ]
    assert found.note == "left out: 1 listed pictures of val that are not there"


def test_val_may_stand_in_folders_and_keeps_its_keys(tmp_path: Path) -> None:
    write_val(tmp_path, 2)
    for number, wnid in ((1, "n02119789"), (2, "n01440764")):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        (tmp_path / "val" / wnid).mkdir()
        (tmp_path / "val" / name).rename(tmp_path / "val" / wnid / name)
    found = read_all(ImageNet(root=str(tmp_path)))
    assert [(key, example.meta["class_index"]) for key, example in found.examples.items()] == [
        ("val/ILSVRC2012_val_00000001", 278),
        ("val/ILSVRC2012_val_00000002", 0),
    ]


def test_without_labels_val_and_test_have_no_class(tmp_path: Path) -> None:
    write_val(tmp_path, 1)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "ILSVRC2012_test_00000001.JPEG").write_bytes(picture_bytes(1))
    found = read_all(ImageNet(root=str(tmp_path)))
    assert {key: example.meta for key, example in found.examples.items()} == {
        "val/ILSVRC2012_val_00000001": {},
        "test/ILSVRC2012_test_00000001": {},
    }
    assert [unit.split for unit in found.units] == ["val", "test"]


def test_a_picture_that_the_list_lacks_and_an_unreadable_one_are_rejected(tmp_path: Path) -> None:
    write_val(tmp_path, 3)
    (tmp_path / "val" / "ILSVRC2012_val_00000002.JPEG").write_bytes(b"\xff\xd8\xff cut")
    (tmp_path / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG 5\nILSVRC2012_val_00000002.JPEG 6\n")
    found = read_all(ImageNet(root=str(tmp_path)))
    assert list(found.examples) == ["val/ILSVRC2012_val_00000001"]
    assert found.rejects["val/ILSVRC2012_val_00000003"] == "missing-label"
    assert set(found.rejects) == {f"val/ILSVRC2012_val_0000000{n}" for n in (2, 3)}


def test_cmyk_and_a_png_by_the_name_of_jpeg_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "n01440764"
    folder.mkdir(parents=True)
    buffer = io.BytesIO()
    Image.new("CMYK", (40, 30), (0, 255, 255, 0)).save(buffer, "JPEG", quality=95)
    (folder / "n01440764_1.JPEG").write_bytes(buffer.getvalue())
    (folder / "n01440764_2.JPEG").write_bytes(picture_bytes(0, format="PNG"))
    found = read_all(ImageNet(root=str(tmp_path)))
    red = found.pixels["train/n01440764/n01440764_1"]["image"][0]
    assert np.abs(red.reshape(-1, 3).mean(axis=0) - [255, 0, 0]).max() < 8
    expected = np.asarray(Image.open(io.BytesIO(picture_bytes(0))))
    assert np.array_equal(found.pixels["train/n01440764/n01440764_2"]["image"][0], expected)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("val.txt", b"ILSVRC2012_val_00000001.JPEG 1000\n", "val.txt, line 1: .* below 1000"),
        ("val.txt", b"ILSVRC2012_val_00000001.JPEG\n", "val.txt, line 1"),
        ("data/ILSVRC2012_validation_ground_truth.txt", b"7\n", "line 1: '7' is no class of meta.mat"),
        ("data/meta.mat", b"cut", "is not the devkit's meta.mat"),
    ],
)
def test_damaged_labels_are_explained(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    write_val(tmp_path, 1)
    if file.startswith("data"):
        write_devkit(tmp_path / "data", [1])
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_all(ImageNet(root=str(tmp_path)))


def test_a_ground_truth_without_meta_mat_is_explained(tmp_path: Path) -> None:
    write_val(tmp_path, 1)
    write_devkit(tmp_path / "data", [1])
    (tmp_path / "data" / "meta.mat").unlink()
    with pytest.raises(UserError, match=r"meta.mat is missing"):
        read_all(ImageNet(root=str(tmp_path)))
