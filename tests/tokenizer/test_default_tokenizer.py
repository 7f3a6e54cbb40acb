"""The tokenizer that ships with visent, on photos it has never seen: those of scikit-image and scikit-learn."""

import numpy as np
import pytest

from tokenizer.card import PRETRAINED
from tokenizer.images import prepare
from tokenizer.load import load
from tokenizer.quality import judge, psnr
from tokenizer.tokenizer import Tokenizer

NAMES = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket")


@pytest.fixture(scope="module")
def default() -> Tokenizer:
    return load()


@pytest.fixture(scope="module")
def unseen() -> np.ndarray:
    skimage_data = pytest.importorskip("skimage.data", reason="the photos come with the extra [demo]")
    sklearn_data = pytest.importorskip("sklearn.datasets", reason="the photos come with the extra [demo]")
    pictures = [getattr(skimage_data, name)() for name in NAMES]
    pictures += [np.array(sklearn_data.load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    colour = [np.repeat(p[..., None], 3, -1) if p.ndim == 2 else p for p in pictures]
    return np.stack([prepare(picture, "crop", 256) for picture in colour])


def test_it_is_small_and_says_where_it_comes_from(default: Tokenizer) -> None:
    assert (PRETRAINED / "default" / "model.safetensors").stat().st_size <= 12_000_000
    assert (default.card.image_size, default.card.tokens_per_image, default.card.codebook_size) == (256, 256, 1024)
    assert {"trained on", "licence", "recipe", "pictures", "trained for"} <= set(default.card.about)


def test_round_trips_of_unseen_photos_are_near(default: Tokenizer, unseen: np.ndarray) -> None:
    quality = judge(default, unseen)
    assert quality.psnr > 21
    assert quality.perplexity > 300


def test_round_trips_keep_the_colours(default: Tokenizer, unseen: np.ndarray) -> None:
    """The mean of each 32 x 32 block is compared: blur does not change it, a lost colour does."""
    again = default.decode(default.encode(unseen))
    blocks = [x.reshape(len(x), 8, 32, 8, 32, 3).mean((2, 4)).astype(np.uint8) for x in (unseen, again)]
    assert psnr(*blocks).min() > 25


def test_codes_do_not_depend_on_neighbours_place_or_batch_size(default: Tokenizer, unseen: np.ndarray) -> None:
    codes = default.encode(unseen)
    np.testing.assert_array_equal(default.encode(unseen[::-1])[::-1], codes)
    np.testing.assert_array_equal(default.encode(unseen[3:4])[0], codes[3])
    np.testing.assert_array_equal(Tokenizer(default.model, default.card, batch_size=3).encode(unseen), codes)
