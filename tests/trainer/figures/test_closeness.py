"""PSNR and SSIM of sets of pictures, against scikit-image's."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from trainer.figures.closeness import Closeness

SIZE = 32


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Smooth pictures with flat white parts, where differences of squares would lose digits."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 5, 5, 3), np.uint8)
    small[:, :3] = 255
    return np.stack([Image.fromarray(one).resize((SIZE, SIZE), Image.Resampling.BICUBIC) for one in small])


def noisy(images: np.ndarray, noise: float, seed: int = 1) -> np.ndarray:
    noised = images + np.random.default_rng(seed).normal(0, noise, images.shape)
    return np.asarray(np.clip(noised, 0, 255).astype(np.uint8))


def closeness(truth: np.ndarray, made: np.ndarray) -> Closeness:
    result = Closeness()
    result.add(truth, made)
    return result


@pytest.mark.parametrize("noise", [2, 12, 80])
def test_means_are_scikit_images_to_six_digits(noise: float) -> None:
    truth = pictures(5)
    made = noisy(truth, noise)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
    pairs = list(zip(truth, made, strict=True))
    result = closeness(truth, made)
    peaks = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs]
    alike = [structural_similarity(a.astype(float), b.astype(float), data_range=255, **window) for a, b in pairs]
    assert result.psnr == pytest.approx(np.mean(peaks), rel=1e-6)
    assert result.ssim == pytest.approx(np.mean(alike), rel=1e-6)


@settings(max_examples=12)  # each size of a part is compiled once
@given(st.permutations(range(6)), st.lists(st.sampled_from([0, 2, 3, 6]), max_size=2))
def test_any_split_and_order_gives_the_same_means(order: list[int], cuts: list[int]) -> None:
    truth = pictures(6)
    made = noisy(truth, 10)
    made[2] = truth[2]
    whole, total = closeness(truth, made), Closeness()
    for some in np.split(np.array(order), sorted(cuts)):
        total = closeness(truth[some], made[some]).merged(Closeness.from_arrays(total.to_arrays()))
    assert (total.images, total.exact) == (6, 1)
    assert (total.psnr, total.ssim) == pytest.approx((whole.psnr, whole.ssim), rel=1e-10)


def test_equal_pictures_are_infinitely_close_and_no_pictures_are_nothing() -> None:
    same = closeness(pictures(2), pictures(2))
    assert (same.psnr, same.ssim, same.exact) == (np.inf, pytest.approx(1), 2)
    assert np.isnan([Closeness().psnr, Closeness().ssim]).all()


def test_means_are_torchmetrics() -> None:
    torch = pytest.importorskip("torch", reason="pip install 'visent[oracles]'")
    pytest.importorskip("torchmetrics", reason="pip install 'visent[oracles]'")
    module = importlib.import_module("torchmetrics.image")
    truth = pictures(4)
    made = noisy(truth, 15)
    a, b = (torch.from_numpy(images.astype(np.float64)).permute(0, 3, 1, 2) for images in (made, truth))
    peaks = module.PeakSignalNoiseRatio(data_range=255.0, reduction="elementwise_mean", dim=(1, 2, 3)).double()
    assert closeness(truth, made).psnr == pytest.approx(float(peaks(a, b)), rel=1e-6)
    similarity = importlib.import_module("torchmetrics.functional.image").structural_similarity_index_measure
    # Its own mean is over mirrored borders too; the paper's and scikit-image's is over whole windows.
    _, windows = similarity(a, b, data_range=255.0, return_full_image=True)
    assert closeness(truth, made).ssim == pytest.approx(float(windows[..., 5:-5, 5:-5].mean()), rel=1e-6)
