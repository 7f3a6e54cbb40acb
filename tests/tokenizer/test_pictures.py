"""Which pictures train, which judge, and the crops."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_run import PALETTE, read

from tokenizer.training.pictures import Pictures
from visent.errors import UserError

COLOURS = {tuple(colour) for colour in PALETTE.tolist()}


def crops_as_set(pictures: Pictures, count: int = 200) -> set[bytes]:
    """Small crops of many pictures."""
    return {crop.tobytes() for crop in pictures.crops((0, 0), count, 16)}


def colours(images: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, np.unique(images.reshape(-1, 3), axis=0).tolist()))


def test_held_out_pictures_never_train(photos: Pictures) -> None:
    (pool,) = photos.pools
    trained = {pool.draw(np.random.default_rng(i)).tobytes() for i in range(500)}
    assert len(trained) == 20
    assert photos.describe() == "20 photos to train on, 4 held out, of 24 files"
    again = read(*pool.source.folders, holdout=20)
    assert len({again.pools[0].draw(np.random.default_rng(i)).tobytes() for i in range(100)} & trained) == 4
    np.testing.assert_array_equal(again.held_out(exact=False)[:4], photos.held_out(exact=False))


def test_the_split_depends_on_names_alone(photos: Pictures, photo_folder: Path, tmp_path: Path) -> None:
    again = read(shutil.copytree(photo_folder, tmp_path / "elsewhere"))
    np.testing.assert_array_equal(again.held_out(exact=False), photos.held_out(exact=False))
    assert again.digest == photos.digest


def test_pictures_beyond_the_memory_are_read_when_drawn_and_give_the_same_crops(
    photos: Pictures, photo_folder: Path
) -> None:
    few = read(photo_folder, max_pictures=5)
    np.testing.assert_array_equal(few.crops((0, 3), 50, 16), photos.crops((0, 3), 50, 16))


def test_unusable_files_are_counted_by_reason_and_never_drawn(photo_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(photo_folder, tmp_path / "bad")
    (copy / "empty.jpg").write_bytes(b"")
    (copy / "page.jpg").write_bytes(b"<html>")
    data = (copy / "part0" / "000.png").read_bytes()
    (copy / "cut.png").write_bytes(data[: len(data) // 2])
    bad = read(copy)
    assert bad.rejects == {"empty": 1, "not-an-image": 1, "truncated": 1}
    assert bad.describe() == "23 photos to train on, 4 held out, of 27 files, 3 unusable"
    np.testing.assert_array_equal(read(copy, max_pictures=1).crops((0, 3), 50, 16), bad.crops((0, 3), 50, 16))


def test_crops_are_a_function_of_the_seed_and_their_number(photos: Pictures) -> None:
    crops = photos.crops((0, 7), 5, 16)
    assert crops.shape == (5, 16, 16, 3)
    np.testing.assert_array_equal(photos.crops((0, 7), 3, 16), crops[:3])
    assert not np.array_equal(photos.crops((0, 8), 5, 16), crops)


def test_pictures_are_kept_small_but_never_below_the_network(photos: Pictures) -> None:
    assert {min(photos.pools[0].draw(np.random.default_rng(i)).shape[:2]) for i in range(50)} == {36}


def test_renderings_appear_by_their_share_and_keep_their_colours(photo_folder: Path, rendering_folder: Path) -> None:
    mixed = read(photo_folder, renderings=[(rendering_folder, 0.3)])
    exact = [colours(crop) <= COLOURS for crop in mixed.crops((0, 0), 1000, 16)]
    assert np.mean(exact) == pytest.approx(0.3, abs=0.04)
    assert colours(mixed.held_out(exact=True)) <= COLOURS
    assert len(mixed.held_out(exact=True)) == len(mixed.held_out(exact=False)) == 4
    assert not colours(mixed.held_out(exact=False)) <= COLOURS


def test_each_source_has_its_own_share(photo_folder: Path, tmp_path: Path) -> None:
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (40, 40), colour).save(tmp_path / name / f"{i}.png")
    mixed = read(photo_folder, renderings=[(tmp_path / "red", 0.5), (tmp_path / "blue", 0.2)], holdout=1)
    crops = mixed.crops((0, 0), 1000, 16)
    shares = [np.mean([colours(crop) == {colour} for crop in crops]) for colour in ((255, 0, 0), (0, 0, 255))]
    assert shares == pytest.approx([0.5, 0.2], abs=0.04)


@pytest.mark.parametrize("shares", [(1.0,), (0.6, 0.4), (0.0,), (-0.1,)])
def test_shares_that_leave_nothing_for_photos_are_refused(
    shares: tuple[float, ...], photo_folder: Path, rendering_folder: Path
) -> None:
    with pytest.raises(UserError, match=r"shares of renderings .* the photos have the rest"):
        read(photo_folder, renderings=[(rendering_folder, share) for share in shares])


def test_a_folder_without_pictures_is_one_clear_line(tmp_path: Path, photo_folder: Path) -> None:
    with pytest.raises(UserError, match="no image file below"):
        read(tmp_path)
    with pytest.raises(UserError, match="no file or folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"24 files below .*, 0 of them unusable .* and 24 held out: none is left"):
        read(photo_folder, holdout=24)
