"""TensorFlow Datasets: the layout that its library writes, in both of its formats."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from made_media import picture_bytes
from made_records import example_bytes, write_records
from reading_datasets import read_all, source_of

from pipelines.sources.tfds import TFDS
from tokenizer.images import decode_image
from visent.errors import UserError

pytest.importorskip("tensorflow_datasets", reason="needs the [tfds] extra")

KIND = "tensorflow_datasets.core.features."
SHAPE = {"dimensions": ["-1", "-1", "3"]}
FEATURES = {
    "image": {"pythonClassName": KIND + "image_feature.Image", "image": {"dtype": "uint8", "shape": SHAPE}},
    "label": {"pythonClassName": KIND + "class_label_feature.ClassLabel", "classLabel": {"numClasses": "2"}},
    "file_name": {"pythonClassName": KIND + "text_feature.Text", "text": {}},
}  # fmt: skip
ROWS = {"train": [3, 2], "validation": [2], "extra": [4]}  # rows of each file


def write_tables(folder: Path, form: str, features: dict[str, Any] = FEATURES) -> None:
    """Writes the tables as version 4.9 of the library does."""
    folder.mkdir(parents=True)
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    splits = [{"name": name, "filepathTemplate": template, "numBytes": "1", "shardLengths": [str(n) for n in rows]}
              for name, rows in ROWS.items()]  # fmt: skip
    info = {"name": "tiny", "version": "1.0.0", "moduleName": "x", "fileFormat": form, "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    kind = {"pythonClassName": KIND + "features_dict.FeaturesDict", "featuresDict": {"features": features}}
    (folder / "features.json").write_text(json.dumps(kind))
    (folder / "label.labels.txt").write_text("cat\ndog\n")


def write_dataset(folder: Path, form: str = "tfrecord") -> Path:
    write_tables(folder, form)
    for split, rows in ROWS.items():
        first = 0
        for number, count in enumerate(rows):
            made = [example_bytes({"image": picture_bytes(n), "label": n % 2, "file_name": f"{split} {n}"})
                    for n in range(first, first + count)]  # fmt: skip
            first += count
            path = folder / f"tiny-{split}.{form}-{number:05d}-of-{len(rows):05d}"
            if form == "tfrecord":
                write_records(path, made)
                continue
            writer = ArrayRecordWriter(str(path), "group_size:1")
            for record in made:
                writer.write(record)
            writer.close()
    return folder


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_rows_have_the_number_that_they_have_in_the_publishers_split(tmp_path: Path, form: str) -> None:
    write_dataset(tmp_path / "tiny" / "1.0.0", form)
    found = read_all(TFDS(root=str(tmp_path), meta=("name=file_name",)))
    assert list(found.examples) == [f"train/{n:08d}" for n in range(5)] + ["validation/00000000", "validation/00000001"]
    assert found.rejects == {}
    assert found.note == "left out: 4 rows of split extra"
    assert {unit.split: [item.data["rows"] for item in unit.items] for unit in found.units} == {
        "train": [3, 2],
        "val": [2],
    }
    for n in range(5):
        example = found.examples[f"train/{n:08d}"]
        assert example.meta == {"class": ["cat", "dog"][n % 2], "class_index": n % 2, "name": f"train {n}"}
        assert np.array_equal(found.pixels[example.key]["image"][0], decode_image(picture_bytes(n)))
    assert source_of(TFDS(root=str(tmp_path))).estimate(found.items) == 7


@pytest.mark.parametrize("form", ["tfrecord", "array_record"])
def test_what_the_table_has_and_a_file_lacks_is_rejected(tmp_path: Path, form: str) -> None:
    folder = write_dataset(tmp_path / "data", form)
    (folder / f"tiny-validation.{form}-00000-of-00001").unlink()
    cut = folder / f"tiny-train.{form}-00001-of-00002"
    cut.write_bytes(cut.read_bytes()[:-30])
    found = read_all(TFDS(root=str(folder)))
    assert {f"train/{n:08d}" for n in range(3)} <= set(found.examples)
    reasons = {key: reason for key, reason in found.rejects.items() if key.startswith("validation")}
    assert reasons == {"validation/00000000": "missing", "validation/00000001": "missing"}
    assert found.rejects["train/00000004"] in ("file-cut", "unreadable")
    assert len(found.examples) + len(found.rejects) == 7


def test_what_the_library_prepared_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="the library writes with the [tensorflow] extra")
    import tensorflow_datasets as tfds

    builder = tfds.testing.DummyMnist(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    found = read_all(TFDS(root=str(tmp_path)))
    for split in ("train", "test"):
        theirs = builder.as_data_source(split)
        ours = [example for key, example in found.examples.items() if key.startswith(split)]
        assert len(ours) == len(theirs) == 20
        for example, row in zip(ours, theirs, strict=True):
            assert example.meta["class_index"] == row["label"]
            assert np.array_equal(found.pixels[example.key]["image"][0][..., :1], row["image"])


def test_a_folder_of_none_or_of_several_datasets_is_explained(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no dataset_info.json"):
        read_all(TFDS(root=str(tmp_path / "empty")))
    for version in ("1.0.0", "2.0.0"):
        write_tables(tmp_path / "two" / "tiny" / version, "tfrecord")
    with pytest.raises(UserError, match=r"2 prepared datasets \(tiny/1.0.0, tiny/2.0.0\)"):
        read_all(TFDS(root=str(tmp_path / "two")))
    write_tables(tmp_path / "riegeli", "riegeli")
    with pytest.raises(UserError, match="stored as riegeli, expected tfrecord or array_record"):
        read_all(TFDS(root=str(tmp_path / "riegeli")))
    write_tables(tmp_path / "damaged", "tfrecord")
    (tmp_path / "damaged" / "features.json").write_text("{")
    with pytest.raises(UserError, match="is no prepared dataset"):
        read_all(TFDS(root=str(tmp_path / "damaged")))


def test_features_that_are_not_there_are_explained(tmp_path: Path) -> None:
    write_dataset(tmp_path / "tiny")
    for options in ({"columns": ("image=imag",)}, {"meta": ("imag",)}):
        with pytest.raises(UserError, match=r"of tiny 'imag'.*did you mean 'image'"):
            read_all(TFDS(root=str(tmp_path), **options))
