"""Pascal VOC's segmentation and Pascal-5i, by the publishers' lists."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from made_media import write_labels, write_picture
from PIL import Image
from reading_datasets import not_aligned, read_all, source_of

from manifests.dataset import load_facts
from manifests.shards import read_rows
from pipelines.cli import tokenize
from pipelines.render.instances import order_by_size, read_ids
from pipelines.render.labels import read
from pipelines.render.palettes import voc
from pipelines.sources.pascal5i import Pascal5i
from pipelines.sources.voc import CLASSES, VOC
from visent.errors import UserError

LIGHT = (224, 224, 192)  # of the border, in VOC's own pictures


def indices(path: Path) -> np.ndarray:
    image = Image.open(path)
    assert image.mode == "P"
    return np.array(image)


@pytest.mark.parametrize("top", [".", "VOCdevkit"])
def test_real_maps_have_the_colours_of_their_own_palette(samples: Path, top: str) -> None:
    root = samples / "voc" / "VOCdevkit" / "VOC2012"
    found = read_all(VOC(root=str(samples / "voc" / top)))
    assert found.rejects == {}
    for split, count in (("train", 6), ("val", 4)):
        names = (root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
        assert [item.key for item in found.items if item.split == split] == [f"VOC2012/{name}" for name in names]
        assert len(names) == count
    for key, pair in found.pixels.items():
        path = root / "SegmentationClass" / f"{key.split('/')[1]}.png"
        np.testing.assert_array_equal(pair["semantic"][0], np.array(Image.open(path).convert("RGB")))
        np.testing.assert_array_equal(read(pair["semantic"][0], voc()), indices(path))


def test_real_objects_are_read_back(samples: Path) -> None:
    root = samples / "voc" / "VOCdevkit" / "VOC2012"
    found = read_all(VOC(root=str(samples / "voc"), annotations=("instances",)))
    there = sorted(path.stem for path in (root / "SegmentationObject").glob("*.png"))
    assert sorted(found.examples) == [f"VOC2012/{name}" for name in there]
    assert set(found.rejects.values()) == {"missing-instances"}
    assert len(found.items) == 10
    for key, pair in found.pixels.items():
        truth = indices(root / "SegmentationObject" / f"{key.split('/')[1]}.png").astype(np.int64)
        np.testing.assert_array_equal(read_ids(pair["instances"][0], key, order_by_size(truth)), truth)


def write_voc(root: Path, name: str, labels: np.ndarray, folder: str = "SegmentationClass", year: int = 2012) -> None:
    write_picture(root / f"VOC{year}" / "JPEGImages" / f"{name}.jpg")
    write_labels(root / f"VOC{year}" / folder / f"{name}.png", labels, palette=voc())


def write_list(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def with_border() -> np.ndarray:
    labels = np.zeros((40, 48), np.uint8)
    labels[10:20], labels[20:22], labels[22:] = 12, 255, 20
    return labels


@pytest.mark.parametrize("annotation", ["semantic", "instances"])
def test_the_border_is_light_or_black(tmp_path: Path, annotation: str) -> None:
    write_voc(tmp_path, "2007_000001", with_border())
    write_voc(tmp_path, "2007_000001", with_border(), "SegmentationObject")
    write_list(tmp_path / "VOC2012" / "ImageSets" / "Segmentation" / "train.txt", "2007_000001")
    for black in (False, True):
        found = read_all(VOC(root=str(tmp_path), annotations=(annotation,), black_border=black))
        painted = found.pixels["VOC2012/2007_000001"][annotation][0]
        assert (painted[20:22] == ((0, 0, 0) if black else LIGHT)).all()
        assert (painted[:10] == 0).all()
        assert painted[10:20].any()
        assert painted[22:].any()


def test_lists_and_folders_of_other_years_and_of_the_augmented_set(tmp_path: Path) -> None:
    lists = tmp_path / "VOC2012" / "ImageSets" / "Segmentation"
    write_voc(tmp_path, "2008_000001", with_border(), "SegmentationClassAug")
    write_list(lists / "train_aug.txt", "2008_000001")
    augmented = VOC(root=str(tmp_path), train_list="train_aug", class_maps="SegmentationClassAug")
    assert list(read_all(augmented).examples) == ["VOC2012/2008_000001"]

    with pytest.raises(UserError, match=r"there is no list VOC2012/ImageSets/Segmentation/trainaug\.txt"):
        source_of(VOC(root=str(tmp_path), train_list="trainaug")).listing()

    write_list(tmp_path / "VOC2007" / "ImageSets" / "Segmentation" / "test.txt", "000068", "000175")
    write_voc(tmp_path, "000068", with_border(), year=2007)
    write_picture(tmp_path / "VOC2007" / "JPEGImages" / "000175.jpg")
    found = read_all(VOC(root=str(tmp_path), year="2007"))
    assert {item.key: item.split for item in found.items} == {"VOC2007/000068": "test"}
    assert found.note == "left out: 1 test images without a published map"


def test_faults_of_vocs_files_are_rejected(tmp_path: Path) -> None:
    names = [f"2007_{number:06d}" for number in range(7)]
    for name in names:
        write_voc(tmp_path, name, with_border())
    folder = tmp_path / "VOC2012"
    write_list(folder / "ImageSets" / "Segmentation" / "train.txt", *names, names[0], "2007_009999", "")
    (folder / "JPEGImages" / f"{names[1]}.jpg").unlink()
    (folder / "SegmentationClass" / f"{names[2]}.png").unlink()
    write_voc(tmp_path, names[3], with_border() + 9)  # 21 and 29, which VOC does not have
    write_voc(tmp_path, names[4], with_border()[:, :20])
    cut = folder / "SegmentationClass" / f"{names[5]}.png"
    cut.write_bytes(cut.read_bytes()[:-40])
    Image.open(cut.with_stem(names[6])).convert("RGB").save(cut.with_stem(names[6]))
    dataset = VOC(root=str(tmp_path))
    found = read_all(dataset)
    reasons = ["duplicate-key", "missing-image", "missing-semantic", "unknown-label", None, "truncated", "not-labels"]
    expected = {f"VOC2012/{name}": reason for name, reason in zip(names, reasons, strict=True) if reason}
    assert found.rejects == {**expected, "VOC2012/2007_009999": "missing-image"}
    assert [not_aligned(dataset, example) for example in found.examples.values()] == ["", "sizes-differ"]
    assert len(found.items) == 9


def test_real_lists_of_pascal_5i_split_classes_and_photos(samples: Path, tmp_path: Path) -> None:
    lists = samples / "pascal5i" / "splits" / "pascal"
    counts = {"trn": [2286, 3425, 5883, 2086], "val": [346, 451, 725, 346]}  # lines of the publisher's files
    for fold in (0, 3):
        items, _ = source_of(Pascal5i(root=str(tmp_path), lists=str(lists), fold=fold)).listing()
        train, val = ([item for item in items if item.split == split] for split in ("train", "val"))
        assert (len(train), len(val)) == (sum(counts["trn"]) - counts["trn"][fold], counts["val"][fold])
        assert {item.data["class_index"] for item in val} == set(range(5 * fold + 1, 5 * fold + 6))
        assert {item.data["fold"] for item in train} == {0, 1, 2, 3} - {fold}
        assert {item.key[:11] for item in train}.isdisjoint({item.key[:11] for item in val})
        assert {item.reject for item in items} == {"missing-image"}  # the folder is empty


def test_each_real_row_is_the_mask_of_its_class_alone(samples: Path) -> None:
    lists = samples / "pascal5i" / "splits" / "pascal"
    found = read_all(Pascal5i(root=str(samples / "voc"), lists=str(lists), class_maps="SegmentationClass", fold=2))
    maps = samples / "voc" / "VOCdevkit" / "VOC2012" / "SegmentationClass"
    assert {"2007_000129__15", "2007_000332__13", "2011_000006__18"} < set(found.examples)
    for key, pair in found.pixels.items():
        name, number = key.split("__")
        mask = indices(maps / f"{name}.png") == int(number)
        np.testing.assert_array_equal(pair["mask"][0], np.repeat(mask[..., None], 3, axis=2) * 255)
        meta = found.examples[key].meta
        assert meta == {"class": CLASSES[int(number)], "class_index": int(number), "fold": (int(number) - 1) // 5}


def test_faults_of_pascal_5i_are_rejected(tmp_path: Path) -> None:
    lists = tmp_path / "splits" / "pascal"
    lines = [f"2008_{number:06d}__12" for number in range(4)]
    for line in lines:
        write_voc(tmp_path, line[:11], with_border(), "SegmentationClassAug")
    write_list(lists / "val" / "fold2.txt", *lines, "2008_000000__14", lines[0], "2008_000077__15")
    maps = tmp_path / "VOC2012" / "SegmentationClassAug"
    (maps / "2008_000001.png").unlink()
    write_voc(tmp_path, "2008_000002", with_border() + 9, "SegmentationClassAug")
    (maps / "2008_000003.png").write_bytes(b"")
    found = read_all(Pascal5i(root=str(tmp_path), fold=2))
    assert list(found.examples) == ["2008_000000__12"]
    assert found.rejects == {
        "2008_000000__12": "duplicate-key",
        "2008_000000__14": "no-such-class",
        "2008_000001__12": "missing-mask",
        "2008_000002__12": "unknown-label",
        "2008_000003__12": "empty",
        "2008_000077__15": "missing-image",
    }
    assert len(found.items) == 7
    with pytest.raises(UserError, match="no maps in VOC2012/SegmentationClass; name their folder with --class-maps"):
        source_of(Pascal5i(root=str(tmp_path), fold=2, class_maps="SegmentationClass")).listing()


@pytest.mark.parametrize("line", ["2007_000032", "2007_000032__06", "2007_000032__00", "2007_000032__x"])
def test_a_line_that_is_none_of_the_folds_is_an_error(tmp_path: Path, line: str) -> None:
    write_list(tmp_path / "splits" / "pascal" / "val" / "fold0.txt", line)
    with pytest.raises(UserError, match=f"val/fold0.txt has the line '{line}'"):
        source_of(Pascal5i(root=str(tmp_path))).listing()


def test_from_the_publishers_files_to_rows_and_their_views(tmp_path: Path, tiny: str) -> None:
    """The command makes a row for each image and class, and more views of them from what it recorded."""
    root, out = tmp_path / "VOCdevkit", tmp_path / "corpus" / "fold3"
    lines = ["2008_000000__12", "2008_000001__12", "2008_000002__14"]
    for line in lines:
        write_voc(root, line[:11], with_border(), "SegmentationClassAug")
    write_list(root / "splits" / "pascal" / "trn" / "fold2.txt", *lines)
    command = ["pascal5i", "--root", str(root), "--fold", "3", "--split", "train", "--out", str(out)]
    limits = ["--tokenizer", tiny, "--max-reject-fraction", "0.5"]
    assert CliRunner().invoke(tokenize, [*command, *limits], catch_exceptions=False).exit_code == 0
    facts = load_facts(str(out))
    assert {name: facts.config["options"][name] for name in ("fold", "lists", "splits")} == {
        "fold": 3, "lists": "splits/pascal", "splits": ["train"]}  # fmt: skip
    assert [shard.rejects for shard in facts.shards] == [{"no-such-class": 1}]
    (rows,) = (list(read_rows(f"{out}/{shard.file}", facts.schema)) for shard in facts.shards)
    assert [row.key for row in rows] == lines[:2]
    assert all(row.meta["class"] == "dog" and row.meta["class_index"] == 12 for row in rows)
    assert not np.array_equal(rows[0].codes["image"], rows[0].codes["mask"])

    manifest = tmp_path / "manifest.toml"
    manifest.write_text('version = 1\n[datasets]\nd = { path = "corpus/fold3", views = 3 }\n')
    assert CliRunner().invoke(tokenize, ["--views-from", str(manifest)], catch_exceptions=False).exit_code == 0
    assert sum(shard.rows for shard in load_facts(str(out)).shards) == 3 * 2


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--fold must be 0 to 3, got 4"):
        Pascal5i(root=str(tmp_path), fold=4)
    with pytest.raises(UserError, match="unknown name in --annotations 'depth'"):
        VOC(root=str(tmp_path), annotations=("depth",))
