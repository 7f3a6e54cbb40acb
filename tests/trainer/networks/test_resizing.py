"""Each grid gives what the program gives that it is named after, in numpy and in JAX."""

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from trainer.networks.resizing import resized

SIZES = [((256, 256), (224, 224)), ((31, 50), (62, 75)), ((7, 9), (7, 9)), ((5, 4), (1, 1)), ((1, 3), (4, 2))]


def pictures(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (2, *size, 3)).astype(np.float32)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_edges_is_opencv(before: tuple[int, int], after: tuple[int, int]) -> None:
    ours = resized(pictures(before), after, "edges")
    theirs = [cv2.resize(one, after[::-1], interpolation=cv2.INTER_LINEAR) for one in pictures(before)]
    np.testing.assert_allclose(ours, theirs, atol=2e-2)  # OpenCV rounds the shares of its pixels


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_top_left_is_tensorflow_1(before: tuple[int, int], after: tuple[int, int]) -> None:
    tensorflow = pytest.importorskip("tensorflow", reason="compares with tensorflow: pip install 'visent[tensorflow]'")
    theirs = tensorflow.compat.v1.image.resize_bilinear(pictures(before), after)
    np.testing.assert_allclose(resized(pictures(before), after, "top-left"), theirs, atol=1e-4)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_corners_is_tensorflow_with_aligned_corners(before: tuple[int, int], after: tuple[int, int]) -> None:
    tensorflow = pytest.importorskip("tensorflow", reason="compares with tensorflow: pip install 'visent[tensorflow]'")
    theirs = tensorflow.compat.v1.image.resize_bilinear(pictures(before), after, align_corners=True)
    np.testing.assert_allclose(resized(pictures(before), after, "corners"), theirs, atol=1e-3)


def test_known_values_of_a_ramp() -> None:
    ramp = np.arange(8, dtype=np.float32)[None, :, None] * np.ones((2, 1, 3), np.float32)
    shown = {grid: resized(ramp, (2, 4), grid)[0, :, 0].tolist() for grid in ("top-left", "corners", "edges")}
    assert shown["top-left"] == [0, 2, 4, 6]
    assert shown["corners"] == pytest.approx([0, 7 / 3, 14 / 3, 7])
    assert shown["edges"] == [0.5, 2.5, 4.5, 6.5]


@pytest.mark.parametrize("grid", ["top-left", "corners", "edges"])
def test_jax_gives_what_numpy_gives(grid: str) -> None:
    given = pictures((16, 12))
    np.testing.assert_allclose(resized(jnp.asarray(given), (9, 17), grid), resized(given, (9, 17), grid), rtol=1e-5)
