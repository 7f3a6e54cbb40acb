"""Foreground masks: both protocols, written out a second time, and any order of images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from trainer.figures.foreground import Foreground, read_masks

NAMES = ("bird", "bus", "cat")


def masks(count: int, seed: int, share: float = 0.4) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).random((count, 9, 9)) < share)


def judged(truth: np.ndarray, found: np.ndarray, names: list[str]) -> Foreground:
    result = Foreground()
    result.add(truth, found, names)
    return result


def names_of(count: int, seed: int = 0) -> list[str]:
    return np.random.default_rng(seed).choice(NAMES, count).tolist()


@settings(max_examples=10)
@given(st.integers(0, 99), st.integers(1, 9))
def test_the_mean_over_images_is_scikit_learns(seed: int, count: int) -> None:
    truth, found = masks(count, seed), masks(count, seed + 1)
    expected = [jaccard_score(a.reshape(-1), b.reshape(-1)) for a, b in zip(truth, found, strict=True)]
    result = judged(truth, found, names_of(count))
    assert result.mean_iou == pytest.approx(np.mean(expected), rel=1e-12)
    assert 0 <= result.fb_iou <= 1
    assert 0 <= result.class_miou <= 1


@settings(max_examples=10)
@given(st.integers(0, 99), st.integers(1, 9))
def test_accumulated_figures_are_scikit_learns_over_all_pixels_of_a_class(seed: int, count: int) -> None:
    truth, found, names = masks(count, seed), masks(count, seed + 1, 0.5), names_of(count, seed)
    result = judged(truth, found, names)
    of_class = []
    for name in sorted(set(names)):
        where = np.array([one == name for one in names])
        of_class.append(jaccard_score(truth[where].reshape(-1), found[where].reshape(-1)))
        assert result.class_iou[name] == pytest.approx(of_class[-1], rel=1e-12)
    assert result.class_miou == pytest.approx(np.mean(of_class), rel=1e-12)
    both = jaccard_score(truth.reshape(-1), found.reshape(-1), labels=[False, True], average="macro")
    assert result.fb_iou == pytest.approx(both, rel=1e-12)


@given(st.permutations(range(11)), st.lists(st.integers(0, 11), max_size=4))
def test_any_split_and_order_gives_the_same(order: list[int], cuts: list[int]) -> None:
    truth, found, names = masks(11, 0), masks(11, 1), np.array(names_of(11))
    whole, total = judged(truth, found, names.tolist()), Foreground()
    for some in np.split(np.array(order), sorted(cuts)):
        part = judged(truth[some], found[some], names[some].tolist())
        total = part.merged(Foreground.from_arrays(total.to_arrays()))
    assert total.images == 11
    assert total.class_iou == whole.class_iou
    assert (total.mean_iou, total.fb_iou) == pytest.approx((whole.mean_iou, whole.fb_iou), rel=1e-10)


def test_known_masks() -> None:
    truth = np.zeros((3, 2, 2), bool)
    found = np.zeros((3, 2, 2), bool)
    truth[0, 0], found[0, :, 0] = True, True  # one of three pixels
    truth[1, 0, 0], found[1, 0, 0] = True, True  # exact; the third image is empty in both
    result = judged(truth, found, ["cat", "cat", "dog"])
    assert (result.images, result.empty) == (3, 1)
    assert result.mean_iou == pytest.approx((1 / 3 + 1) / 2)
    assert result.class_iou == {"cat": 2 / 4, "dog": 0}
    assert result.fb_iou == pytest.approx((2 / 4 + 8 / 10) / 2)


def test_where_no_background_is_there_is_no_iou_of_it() -> None:
    result = judged(np.ones((1, 2, 2), bool), np.ones((1, 2, 2), bool), ["cat"])
    assert (result.mean_iou, result.class_miou) == (1, 1)
    assert np.isnan(result.fb_iou)


def test_without_images_there_are_no_figures() -> None:
    assert np.isnan([Foreground().mean_iou, Foreground().class_miou, Foreground().fb_iou]).all()


def test_a_picture_is_foreground_where_white_is_nearer_than_black() -> None:
    greys = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    np.testing.assert_array_equal(read_masks(greys).reshape(-1), np.arange(256) >= 128)
    colours = np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3), np.uint8)
    white, black = (np.square(colours.astype(int) - end).sum(-1) for end in (255, 0))
    np.testing.assert_array_equal(read_masks(colours), white < black)
