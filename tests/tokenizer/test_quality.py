"""PSNR, use of the codebook, and the sheet."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.load import load
from tokenizer.quality import judge, psnr, round_trip_sheet, usage
from tokenizer.testing import tiny_tokenizer_dir


def test_psnr_of_a_known_error() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    white = np.stack([black[0] + 255, black[0]])
    np.testing.assert_array_equal(psnr(black, white), [0, np.inf])
    assert psnr(black, black + 16)[0] == pytest.approx(24.05, abs=0.01)


@given(st.integers(1, 64), st.integers(1, 5))
def test_even_use_has_the_perplexity_of_its_size(used: int, times: int) -> None:
    codes = np.repeat(np.arange(used, dtype=np.uint16), times)[None]
    part, perplexity = usage(codes, 64)
    assert part == used / 64
    assert perplexity == pytest.approx(used)


def test_uneven_use_has_less() -> None:
    _, perplexity = usage(np.array([[0, 0, 0, 1]], np.uint16), 64)
    assert perplexity == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))


def test_judging_is_of_the_round_trip(tmp_path: Path) -> None:
    tokenizer = load(tiny_tokenizer_dir(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    again = tokenizer.decode(tokenizer.encode(images))
    quality = judge(tokenizer, images)
    assert quality.psnr == pytest.approx(psnr(images, again).mean())
    sheet = np.asarray(round_trip_sheet(tokenizer, images, columns=3))
    np.testing.assert_array_equal(sheet[:32, 36:68], images[1])
    np.testing.assert_array_equal(sheet[32:64, 36:68], again[1])
