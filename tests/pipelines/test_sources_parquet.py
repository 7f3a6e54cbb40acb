"""Parquet: bytes in cells, splits by name, damaged files."""

import datetime
import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_media import picture_bytes
from PIL import Image
from reading_datasets import read_all, source_of

from pipelines.sources.base import Example, Reject, cut_into_units
from pipelines.sources.parquet import Parquet, _runs
from pipelines.sources.table import plain, split_of
from tokenizer.images import decode_image
from visent.errors import UserError


def write(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def pictures(count: int, **columns: Any) -> list[dict[str, Any]]:
    return [{"image": picture_bytes(n), "id": f"photo-{n}", **columns} for n in range(count)]


def test_every_row_is_an_example_whatever_the_row_groups(tmp_path: Path) -> None:
    write(tmp_path / "a" / "x.parquet", pictures(7), row_group_size=3)
    found = read_all(Parquet(root=str(tmp_path), meta=("name=id",)))
    assert list(found.examples) == [f"a/x/{n:08d}" for n in range(7)]
    for n, (key, example) in enumerate(found.examples.items()):
        assert example.meta == {"name": f"photo-{n}"}
        assert np.array_equal(found.pixels[key]["image"][0], decode_image(picture_bytes(n)))
    assert source_of(Parquet(root=str(tmp_path))).estimate(found.items) == 7


def test_row_groups_are_put_together_up_to_two_thousand_rows() -> None:
    assert list(_runs([100] * 50)) == [(0, 21), (21, 42), (42, 50)]
    assert list(_runs([5000, 1, 2047, 3])) == [(0, 1), (1, 3), (3, 4)]
    assert list(_runs([])) == []


def test_files_of_hugging_face_datasets_are_read(tmp_path: Path) -> None:
    """The library itself writes them: a struct of bytes and path."""
    images = [Image.open(io.BytesIO(picture_bytes(n))) for n in range(3)]
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    made = datasets.Dataset.from_dict({"img": images, "label": [0, 1, 1]}, features=features)
    (tmp_path / "data").mkdir()
    made.to_parquet(str(tmp_path / "data" / "train-00000-of-00001.parquet"))
    made.to_parquet(str(tmp_path / "data" / "validation-00000-of-00001.parquet"))
    found = read_all(Parquet(root=str(tmp_path), meta=("class_index=label",)))
    assert {unit.split for unit in found.units} == {"train", "val"}
    assert [example.meta["class_index"] for example in found.examples.values()] == [0, 1, 1] * 2
    first = found.pixels["data/train-00000-of-00001/00000000"]["image"][0]
    assert np.array_equal(first, np.asarray(images[0]))


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/validation-00000-of-00002.parquet", "val"),
        ("val/0000.parquet", "val"),
        ("mnist-test.tfrecord-00000-of-00001", "test"),
        ("train/val_3.parquet", "val"),
        ("latest/trained.parquet", "train"),
        ("valley/retest.parquet", "train"),
        ("0000.parquet", "train"),
    ],
)
def test_the_split_is_the_one_that_the_path_names(path: str, split: str) -> None:
    assert split_of(path) == split


def test_several_roles_keys_and_cells_of_many_types(tmp_path: Path) -> None:
    label = io.BytesIO()
    Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8)).resize((48, 40), 0).save(label, "PNG")
    rows = pictures(2, mask=label.getvalue(), when=datetime.date(2020, 1, 2), score=float("nan"), words=["a", "b"])
    write(tmp_path / "x.parquet", rows)
    dataset = Parquet(root=str(tmp_path), columns=("image=image", "semantic=mask"), labels=("semantic",),
                      key_column="id", meta=("when", "score", "words"))  # fmt: skip
    found = read_all(dataset)
    assert list(found.examples) == ["photo-0", "photo-1"]
    assert found.examples["photo-0"].meta == {"when": "2020-01-02", "words": ["a", "b"]}
    assert {tuple(c) for c in found.pixels["photo-0"]["semantic"][0].reshape(-1, 3)} == {
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
    }
    assert plain({"a": b"x", "b": [np.float32(0.5)], "c": (1, None)}) == {"a": "x", "b": [0.5], "c": [1, None]}


def test_empty_cells_unreadable_pictures_and_doubled_keys_are_rejected(tmp_path: Path) -> None:
    rows = [*pictures(2), {"image": None, "id": "none"}, {"image": b"no picture", "id": "text"}]
    write(tmp_path / "x.parquet", rows)
    found = read_all(Parquet(root=str(tmp_path)))
    assert found.rejects == {"x/00000002": "missing-image", "x/00000003": "not-an-image"}
    assert len(found.examples) + len(found.rejects) == len(rows)


def test_rows_that_cannot_be_read_any_more_are_rejects(tmp_path: Path) -> None:
    """The pages of the second of three row groups are damaged, not the footer."""
    path = write(tmp_path / "x.parquet", pictures(6), row_group_size=2)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 64] = b"\xff" * 64
    path.write_bytes(bytes(content))
    source = source_of(Parquet(root=str(tmp_path)))
    units = cut_into_units(source.listing()[0], 1, 0.0)
    found = [one for unit in units for one in source.examples(unit)]
    assert [one.key for one in found] == [f"x/{n:08d}" for n in range(6)]
    assert [one.reason for one in found if isinstance(one, Reject)] == ["unreadable"] * 2
    assert [isinstance(one, Example) for one in found] == [True, True, False, False, True, True]


def test_what_is_no_parquet_is_one_reject(tmp_path: Path) -> None:
    write(tmp_path / "good.parquet", pictures(1))
    whole = (tmp_path / "good.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    (tmp_path / "empty.parquet").write_bytes(b"")
    found = read_all(Parquet(root=str(tmp_path)))
    assert found.rejects == {"cut": "not-parquet", "empty": "not-parquet"}
    assert list(found.examples) == ["good/00000000"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"several columns of pictures \(left, right\).*--columns image=COLUMN"),
        ({"columns": ("image=lefd",)}, "did you mean 'left'"),
        ({"columns": ("image=left",), "meta": ("nam",)}, "column of x.parquet 'nam'"),
        ({"columns": ("image=left",), "labels": ("mask",)}, "unknown role 'mask'"),
        ({"columns": ("image=left", "image=right")}, "'image=right' is no new NAME=COLUMN"),
    ],
)
def test_columns_that_are_not_there_are_explained(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write(tmp_path / "x.parquet", [{"left": b"1", "right": b"2", "name": "x"}])
    with pytest.raises(UserError, match=message):
        read_all(Parquet(root=str(tmp_path), **options))


def test_a_table_without_pictures_is_explained(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", [{"url": "http", "text": "x"}])
    with pytest.raises(UserError, match="no column of pictures among url, text"):
        read_all(Parquet(root=str(tmp_path)))
