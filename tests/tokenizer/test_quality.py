"""PSNR, SSIM, use of the codebook, and the sheet."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tokenizer.listing import ImageFile
from tokenizer.load import load
from tokenizer.quality import RoundTrips, entropy, judge, psnr, round_trip_sheet, ssim
from tokenizer.sheet import Sheet
from tokenizer.testing import tiny_tokenizer_dir
from visent.errors import UserError


def pictures(count: int, height: int = 40, width: int = 48, seed: int = 0) -> np.ndarray:
    """Smooth pictures, with flat and with very bright parts."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 4, 5, 3), np.uint8)
    small[0, :2] = 255
    return np.stack([Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC) for one in small])


def test_psnr_of_a_known_error() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    white = np.stack([black[0] + 255, black[0]])
    np.testing.assert_array_equal(psnr(black, white), [0, np.inf])
    assert psnr(black, black + 16)[0] == pytest.approx(24.05, abs=0.01)


@pytest.mark.parametrize("noise", [1, 20, 120])
def test_ssim_and_psnr_are_those_of_scikit_image(noise: int) -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is in the demo extra")
    a = pictures(4)
    b = np.clip(a + np.random.default_rng(1).normal(0, noise, a.shape), 0, 255).astype(np.uint8)
    b[1] = a[1]
    b[2] = 255 - a[2]  # negative covariance
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        metrics.structural_similarity(x, y, channel_axis=2, data_range=255, **window)
        for x, y in zip(a.astype(np.float64), b.astype(np.float64), strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b), expected, atol=3e-7)
    assert ssim(a, b)[1] == pytest.approx(1)
    peaks = [metrics.peak_signal_noise_ratio(a[i], b[i], data_range=255) for i in (0, 2, 3)]
    np.testing.assert_allclose(psnr(a, b)[[0, 2, 3]], peaks, rtol=1e-5)


def test_ssim_of_pictures_smaller_than_its_window_is_no_number() -> None:
    assert np.isnan(ssim(pictures(2, 10, 30), pictures(2, 10, 30))).all()


@given(st.integers(1, 64), st.integers(1, 5))
def test_even_use_has_the_perplexity_of_its_size(used: int, times: int) -> None:
    trips = RoundTrips(64)
    image = np.zeros((1, 12, 12, 3), np.uint8)
    trips.add(image, np.repeat(np.arange(used, dtype=np.uint16), times)[None], image)
    quality = trips.quality()
    assert (quality.usage, quality.dead, quality.tokens) == (used / 64, 64 - used, used * times)
    assert quality.perplexity == pytest.approx(used)
    assert quality.entropy == pytest.approx(np.log2(used))


def test_uneven_use_has_less() -> None:
    assert entropy(np.array([3, 1, 0])) == pytest.approx(-(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)))


def test_parts_add_up_to_the_whole_and_exact_pictures_stand_apart() -> None:
    a, b = pictures(6, 40, 40), pictures(6, 40, 40, seed=1)
    b[2] = a[2]
    codes = np.random.default_rng(0).integers(0, 32, (6, 4)).astype(np.uint16)
    whole, parts = RoundTrips(32), RoundTrips(32)
    whole.add(a, codes, b)
    for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
        parts.add(a[rows], codes[rows], b[rows])
    assert vars(parts.quality()) == pytest.approx(vars(whole.quality()))
    assert whole.quality().exact == 1
    assert whole.quality().psnr == pytest.approx(np.delete(psnr(a, b), 2).mean())


def test_judging_is_of_the_round_trip(tmp_path: Path) -> None:
    tokenizer = load(tiny_tokenizer_dir(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), np.uint8)
    codes = tokenizer.encode(images)
    again = tokenizer.decode(codes)
    quality = judge(tokenizer, images)
    assert quality.psnr == pytest.approx(psnr(images, again).mean())
    assert quality.ssim == pytest.approx(ssim(images, again).mean())
    assert quality.usage == len(np.unique(codes)) / 64
    sheet = np.asarray(round_trip_sheet(tokenizer, images, columns=3))
    np.testing.assert_array_equal(sheet[:32, 36:68], images[1])
    np.testing.assert_array_equal(sheet[32:64, 36:68], again[1])


def test_a_sheet_holds_the_same_sample_whatever_the_order_and_size_of_the_rest(tmp_path: Path) -> None:
    files = [ImageFile(f"{i}.png", tmp_path / f"{i}.png") for i in range(30)]
    drawn = {i: np.full((16, 16, 3), i, np.uint8) for i in range(30)}

    def sample(order: list[int]) -> set[int]:
        sheet = Sheet(4)
        for i in order:
            sheet.add(files[i], [drawn[i], drawn[i]], "a caption that is far too long for its picture")
        sheet.save(tmp_path / "sheet.png")
        pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
        return {int(pixels[0, 20 * column, 0]) for column in range(4)}

    assert sample(list(range(30))) == sample(list(range(29, -1, -1)))
    with pytest.raises(UserError, match="cannot write"):
        draw_one(tmp_path / "sheet.png" / "below-a-file.png")


def draw_one(path: Path) -> None:
    sheet = Sheet(4)
    sheet.add(ImageFile("a.png", Path("a.png")), [np.zeros((16, 16, 3), np.uint8)], "")
    sheet.save(path)
