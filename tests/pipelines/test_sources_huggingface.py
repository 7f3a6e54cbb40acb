"""Hugging Face `datasets`: what its library saved, and folders that it streams."""

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_media import picture_bytes, write_pictures
from PIL import Image
from reading_datasets import read_all, source_of

from pipelines.sources.catalog import rebuild
from pipelines.sources.huggingface import HuggingFace
from tokenizer.images import decode_image
from visent.errors import UserError

FEATURES = datasets.Features(
    {"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]), "text": datasets.Value("string")}
)


def made(count: int, first: int = 0) -> datasets.Dataset:
    numbers = range(first, first + count)
    cells = [{"bytes": picture_bytes(n), "path": None} for n in numbers]
    rows = {"img": cells, "label": [n % 2 for n in numbers], "text": [f"picture {n}" for n in numbers]}
    return datasets.Dataset.from_dict(rows, features=FEATURES)


def test_what_was_saved_is_read_by_row_number(tmp_path: Path) -> None:
    splits = datasets.DatasetDict({"train": made(4), "validation": made(2, 10), "full": made(1, 20)})
    splits.save_to_disk(tmp_path)
    found = read_all(HuggingFace(root=str(tmp_path), meta=("caption=text",)))
    keys = ["full/00000000", *(f"train/{n:08d}" for n in range(4)), "validation/00000000", "validation/00000001"]
    assert list(found.examples) == keys
    assert found.rejects == {}
    assert [unit.split for unit in found.units] == ["train", "val"]
    for key, n in zip(keys, [20, 0, 1, 2, 3, 10, 11], strict=True):
        assert found.examples[key].meta == {
            "class": ["cat", "dog"][n % 2],
            "class_index": n % 2,
            "caption": f"picture {n}",
        }
        assert np.array_equal(found.pixels[key]["image"][0], decode_image(picture_bytes(n)))
        assert str(tmp_path) not in found.examples[key].source
    source = source_of(HuggingFace(root=str(tmp_path)))
    assert source.estimate(found.items) == 7
    one = read_all(HuggingFace(root=str(tmp_path), publisher_splits=("full",)))
    assert list(one.examples) == ["full/00000000"]


def test_a_single_saved_dataset_is_of_train(tmp_path: Path) -> None:
    made(2).save_to_disk(tmp_path)
    assert list(read_all(HuggingFace(root=str(tmp_path))).examples) == ["train/00000000", "train/00000001"]


def test_parquet_files_of_a_folder_are_streamed_file_by_file(tmp_path: Path) -> None:
    """The layout of a repository on the hub, read through the same code."""
    (tmp_path / "data").mkdir()
    for number in range(2):
        made(3, 3 * number).to_parquet(str(tmp_path / "data" / f"train-{number:05d}-of-00002.parquet"))
    made(1, 9).to_parquet(str(tmp_path / "data" / "test-00000-of-00001.parquet"))
    found = read_all(HuggingFace(root=str(tmp_path)))
    assert list(found.examples) == [f"train/{shard:05d}-of-00002/{n:08d}" for shard in range(2) for n in range(3)] + [
        "test/00000-of-00001/00000000"
    ]
    assert [unit.split for unit in found.units] == ["train", "test"]
    for n, example in enumerate(list(found.examples.values())[:6]):
        assert example.meta["class_index"] == n % 2
        assert np.array_equal(found.pixels[example.key]["image"][0], decode_image(picture_bytes(n)))


def test_bytes_that_are_not_declared_to_be_pictures_are_taken_as_such(tmp_path: Path) -> None:
    for name, cell in (("struct", {"bytes": picture_bytes(1), "path": "x.png"}), ("binary", picture_bytes(1))):
        (tmp_path / name).mkdir()
        table = pa.Table.from_pylist([{"photo": cell, "text": "x"}])
        pq.write_table(table, tmp_path / name / "0.parquet")
        (pixels,) = read_all(HuggingFace(root=str(tmp_path / name))).pixels.values()
        assert np.array_equal(pixels["image"][0], decode_image(picture_bytes(1)))


def test_pictures_in_folders_of_classes_are_streamed(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_pictures(tmp_path / "train" / name, 2)
    (tmp_path / "train" / "dog" / "001.png").write_bytes(b"no picture")
    found = read_all(HuggingFace(root=str(tmp_path)))
    assert [example.meta["class"] for example in found.examples.values()] == ["cat", "cat", "dog"]
    assert list(found.rejects.values()) == ["not-an-image"]


def test_a_folder_behind_a_link_is_read_as_the_folder_itself(tmp_path: Path) -> None:
    write_pictures(tmp_path / "real", 1)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    found = read_all(HuggingFace(root=str(tmp_path / "link")))
    assert len(found.examples) == 1
    assert not found.rejects


def test_the_real_photos_are_streamed_from_a_folder(samples: Path) -> None:
    found = read_all(HuggingFace(root=str(samples / "lol" / "eval15")))
    assert len(found.examples) == 10
    files = sorted((samples / "lol" / "eval15").glob("*/*.png"))
    theirs = {np.asarray(Image.open(path)).tobytes() for path in files}
    assert {pixels["image"][0].tobytes() for pixels in found.pixels.values()} == theirs


def test_other_files_are_another_listing(tmp_path: Path) -> None:
    made(2).save_to_disk(tmp_path)
    before = source_of(HuggingFace(root=str(tmp_path))).listing()[0]
    (tmp_path / "more").write_text("x")
    after = source_of(HuggingFace(root=str(tmp_path))).listing()[0]
    assert before != after


def test_several_columns_of_pictures_are_roles(tmp_path: Path) -> None:
    mask = io.BytesIO()
    Image.fromarray(np.eye(40, 48, dtype=np.uint8)).save(mask, "PNG")
    cells = {"photo": [{"bytes": picture_bytes(0), "path": None}], "mask": [{"bytes": mask.getvalue(), "path": None}]}
    features = datasets.Features({"photo": datasets.Image(), "mask": datasets.Image()})
    datasets.Dataset.from_dict(cells, features=features).save_to_disk(tmp_path)
    with pytest.raises(UserError, match=r"several columns of pictures \(photo, mask\)"):
        read_all(HuggingFace(root=str(tmp_path)))
    found = read_all(HuggingFace(root=str(tmp_path), columns=("image=photo", "semantic=mask"), labels=("semantic",)))
    colours = found.pixels["train/00000000"]["semantic"][0]
    assert np.array_equal((colours == (128, 0, 0)).all(axis=-1), np.eye(40, 48, dtype=bool))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ("image=imgs",)}, "did you mean 'img'"),
        ({"meta": ("texts",)}, "did you mean 'text'"),
        ({"publisher_splits": ("trian",)}, "did you mean 'train'"),
    ],
)
def test_names_that_are_not_there_are_explained(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    datasets.DatasetDict({"train": made(1)}).save_to_disk(tmp_path)
    with pytest.raises(UserError, match=message):
        read_all(HuggingFace(root=str(tmp_path), **options))


def test_a_folder_that_the_library_cannot_open_and_one_that_is_not_there_are_explained(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(UserError, match="datasets cannot open"):
        read_all(HuggingFace(root=str(tmp_path)))
    with pytest.raises(UserError, match="does not exist"):
        read_all(HuggingFace(root=str(tmp_path / "absent")))


def test_a_damaged_file_is_one_reject(tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / f"train-{number:05d}-of-00002.parquet"
        made(2, 2 * number).to_parquet(str(path))
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 40 + content[44:])  # the head of the first page
    found = read_all(HuggingFace(root=str(tmp_path)))
    assert list(found.rejects) == ["train/00001-of-00002"]
    assert len(found.examples) == 2


def test_a_recorded_configuration_builds_the_source_again(tmp_path: Path) -> None:
    made(1).save_to_disk(tmp_path)
    source = source_of(HuggingFace(root=str(tmp_path), meta=("text",)))
    config = {
        "source": "huggingface",
        "roots": dict(source.roots),
        "options": dict(source.options),
        "items_per_shard": 1,
    }
    assert rebuild(config).options == source.options
