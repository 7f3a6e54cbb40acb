"""A person's own picture and annotation as the prompt of a part."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokenizer import images
from tokenizer.load import load
from tokenizer.testing import tiny_tokenizer_dir
from tokenizer.tokenizer import Tokenizer
from trainer.protocols.own_pair import read_pairs
from visent.errors import UserError

COLOURS = np.array([(255, 0, 0), (0, 0, 255), (0, 0, 0)], np.uint8)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load(str(tiny_tokenizer_dir(tmp_path_factory.mktemp("tokenizer"))), preset="crop")


def saved(path: Path, pixels: np.ndarray) -> str:
    Image.fromarray(pixels).save(path)
    return str(path)


def test_both_become_squares_and_the_annotation_keeps_its_colours(tmp_path: Path, tokenizer: Tokenizer) -> None:
    random = np.random.default_rng(0)
    photo, labels = random.integers(0, 256, (60, 90, 3), dtype=np.uint8), COLOURS[random.integers(0, 3, (60, 90))]
    (pair,) = read_pairs([(saved(tmp_path / "a.png", photo), saved(tmp_path / "b.png", labels))], tokenizer)
    assert (pair.image_name, pair.annotation_name) == ("a.png", "b.png")
    assert {tuple(colour) for colour in pair.colours.tolist()} == {tuple(colour) for colour in COLOURS.tolist()}
    squares = [images.prepare(photo, "crop", 32), images.prepare(labels, "crop", 32, nearest=True)]
    assert np.array_equal(np.stack([pair.image, pair.annotation]), tokenizer.encode(np.stack(squares)))
    assert np.array_equal(pair.codes_of("image", "semantic"), [pair.image, pair.annotation])
    assert np.array_equal(pair.codes_of("semantic", "image"), [pair.annotation, pair.image])
    assert np.array_equal(pair.codes_of("low", "high"), [pair.image, pair.annotation])


def test_a_prompt_of_another_size_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    photo = saved(tmp_path / "a.png", np.zeros((40, 64, 3), np.uint8))
    labels = saved(tmp_path / "b.png", np.zeros((64, 40, 3), np.uint8))
    with pytest.raises(
        UserError, match=r"^a prompt of another size: \S+a.png is 64 x 40, its annotation \S+b.png 40 x 64"
    ):
        read_pairs([(photo, labels)], tokenizer)


def test_what_is_no_picture_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    photo = saved(tmp_path / "a.png", np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"b\.png is no usable image"):
        read_pairs([(photo, str(tmp_path / "b.png"))], tokenizer)
    with pytest.raises(UserError, match=r"c\.png cannot be read"):
        read_pairs([(photo, str(tmp_path / "c.png"))], tokenizer)
