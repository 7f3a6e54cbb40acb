"""Encoding, decoding, and the folder that holds a tokenizer."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.load import load
from tokenizer.testing import TINY, tiny_tokenizer_dir
from tokenizer.tokenizer import Tokenizer
from visent.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokenizer_dir(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Tokenizer:
    return load(folder)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


@given(st.integers(0, 40), st.integers(0, 10**6))
def test_codes_of_an_image_do_not_depend_on_its_neighbours_or_place(tiny: Tokenizer, count: int, seed: int) -> None:
    images = pictures(count, seed)
    codes = tiny.encode(images)
    order = np.random.default_rng(seed).permutation(count)
    np.testing.assert_array_equal(tiny.encode(images[order]), codes[order])
    for i in range(0, count, 13):
        np.testing.assert_array_equal(tiny.encode(images[i : i + 1])[0], codes[i])


@given(st.integers(0, 40), st.integers(0, 10**6))
def test_an_image_of_codes_does_not_depend_on_its_neighbours(tiny: Tokenizer, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 64, (count, 16), np.uint16)
    images = tiny.decode(codes)
    assert images.shape == (count, 32, 32, 3)
    for i in range(0, count, 13):
        np.testing.assert_array_equal(tiny.decode(codes[i : i + 1])[0], images[i])


def test_different_pictures_get_different_codes(tiny: Tokenizer) -> None:
    codes = tiny.encode(pictures(20))
    assert codes.dtype == np.uint16
    assert len(np.unique(codes, axis=0)) == 20
    assert len(np.unique(codes)) > 32


def test_four_threads_get_the_codes_of_one(tiny: Tokenizer) -> None:
    images = pictures(200)
    parts = np.array_split(images, 8)
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(np.concatenate(list(pool.map(tiny.encode, parts))), tiny.encode(images))


def test_any_integer_type_of_codes_decodes_alike(tiny: Tokenizer) -> None:
    codes = tiny.encode(pictures(3))
    np.testing.assert_array_equal(tiny.decode(codes.astype(np.int64)), tiny.decode(codes))


def test_wrong_shapes_and_codes_are_refused(tiny: Tokenizer) -> None:
    with pytest.raises(ValueError, match="expected \\(n, 32, 32, 3\\)"):
        tiny.encode(np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="expected \\(n, 16\\)"):
        tiny.decode(np.zeros((1, 17), np.uint16))
    with pytest.raises(ValueError, match=r"expected 0\.\.63"):
        tiny.decode(np.full((1, 16), 64, np.uint16))


def test_the_codebook_is_the_stored_one(tiny: Tokenizer) -> None:
    assert tiny.codebook.shape == (TINY.codebook_size, TINY.codebook_dim)
    assert tiny.codebook.std() > 0


def test_saving_again_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = tiny_tokenizer_dir(tmp_path)
    assert [(again / p.name).read_bytes() for p in sorted(folder.iterdir())] == [
        p.read_bytes() for p in sorted(folder.iterdir())
    ]


def damaged(folder: Path, to: Path, change: str) -> Path:
    shutil.copytree(folder, to)
    if change == "weights":
        data = bytearray((to / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (to / "model.safetensors").write_bytes(data)
    elif change == "config":
        text = (to / "config.json").read_text()
        (to / "config.json").write_text(text.replace('"image_size": 32', '"image_size": 64'))
    elif change != "nothing":
        (to / change).unlink()
    return to


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("weights", "is not the one of its card"),
        ("config", "is not the one of its card"),
        ("model.safetensors", "is incomplete"),
        ("config.json", "is incomplete"),
        ("card.json", "no card.json beside it: name the whole folder"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(folder: Path, tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(damaged(folder, tmp_path / "copy", change))


def test_weights_of_another_network_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    copy = damaged(folder, tmp_path / "copy", "nothing")
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace('"num_res_blocks": 1', '"num_res_blocks": 2'))
    with pytest.raises(UserError, match=r"16 missing: encoder\.levels\.0\.blocks\.1\..*, and 10 more"):
        load(copy)


@pytest.mark.parametrize("part", ["codebook", "decoder.conv_out.bias"])
def test_another_number_in_either_half_is_noticed(folder: Path, tmp_path: Path, part: str) -> None:
    copy = damaged(folder, tmp_path / "copy", "nothing")
    tensors = safetensors.numpy.load_file(copy / "model.safetensors")
    tensors[part] = tensors[part] + np.float16(0.5)
    safetensors.numpy.save_file(tensors, copy / "model.safetensors")
    with pytest.raises(UserError, match="decoder_sha256" if "decoder" in part else "weights_sha256"):
        load(copy)
