"""Which pictures train, which judge, and the crops."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from small_run import read

from tokenizer.training.pictures import Photos
from visent.errors import UserError


def as_set(pictures: list[np.ndarray]) -> set[bytes]:
    return {picture.tobytes() for picture in pictures}


def test_every_picture_either_trains_or_judges(photos: Photos) -> None:
    assert (photos.found, len(photos.train), len(photos.held_out)) == (24, 20, 4)
    assert not as_set(photos.train) & as_set(photos.held_out)


def test_the_split_depends_on_names_alone(photos: Photos, photo_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(photo_folder, tmp_path / "elsewhere")
    again = read(copy)
    assert as_set(again.held_out) == as_set(photos.held_out)
    assert again.digest == photos.digest


def test_fewer_pictures_are_the_first_of_all(photos: Photos, photo_folder: Path) -> None:
    fewer = read(photo_folder, max_pictures=5)
    assert len(fewer.train) == 5
    assert as_set(fewer.train) < as_set(photos.train)
    assert as_set(fewer.held_out) == as_set(photos.held_out)


def test_unusable_files_are_counted_by_reason(photo_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(photo_folder, tmp_path / "bad")
    (copy / "empty.jpg").write_bytes(b"")
    (copy / "page.jpg").write_bytes(b"<html>")
    data = (copy / "part0" / "000.png").read_bytes()
    (copy / "cut.png").write_bytes(data[: len(data) // 2])
    bad = read(copy)
    assert dict(bad.rejects) == {"empty": 1, "not-an-image": 1, "truncated": 1}
    assert len(bad.train) + len(bad.held_out) == 24


def test_crops_are_a_function_of_the_seed(photos: Photos) -> None:
    crops = photos.crops((0, 7), 5, 16)
    assert crops.shape == (5, 16, 16, 3)
    np.testing.assert_array_equal(photos.crops((0, 7), 5, 16), crops)
    assert not np.array_equal(photos.crops((0, 8), 5, 16), crops)


def test_pictures_are_kept_small_but_never_below_the_network(photos: Photos) -> None:
    assert {min(picture.shape[:2]) for picture in photos.train} == {36}


def test_a_folder_without_pictures_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0 image files below"):
        read(tmp_path)
    with pytest.raises(UserError, match="no folder"):
        read(tmp_path / "nowhere")
