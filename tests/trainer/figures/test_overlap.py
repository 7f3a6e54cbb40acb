"""Label maps: colours to classes, and their overlap with the truth against scikit-learn's."""

import importlib
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from manifests.legend import Legend
from trainer.figures.classes import read_exactly, read_nearest
from trainer.figures.overlap import Overlap
from visent.errors import UserError

IDS = (0, 3, 7, 20, 21, 200)
COLOURS = ((0, 0, 0), (128, 64, 128), (70, 70, 70), (220, 220, 0), (107, 142, 35), (255, 255, 255))
LEGEND = Legend(ids=IDS, colours=COLOURS, ignored=(0,))


def maps(count: int, seed: int, ids: tuple[int, ...] = IDS) -> np.ndarray:
    """Label maps of blocks, some classes rare."""
    rng = np.random.default_rng(seed)
    shares = np.arange(1, len(ids) + 1) ** 2.0
    blocks = rng.choice(ids, (count, 4, 6), p=shares / shares.sum()).astype(np.uint8)
    return np.asarray(blocks.repeat(3, axis=1).repeat(2, axis=2))


def drawn(labels: np.ndarray) -> np.ndarray:
    return np.asarray(LEGEND.palette[np.searchsorted(IDS, labels)])


def overlap(truth: np.ndarray, found: np.ndarray) -> Overlap:
    result = Overlap(LEGEND.ids, LEGEND.ignored)
    result.add(truth, found)
    return result


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(0, 99))
def test_overlap_is_scikit_learns(seed: int, other: int) -> None:
    truth, found = (
        maps(3, seed),
        np.where(np.random.default_rng(other).random((3, 12, 12)) < 0.6, maps(3, seed), maps(3, other)),
    )
    result = overlap(truth, found)
    counted = truth.reshape(-1) != 0
    pixels = truth.reshape(-1)[counted], found.reshape(-1)[counted]
    with warnings.catch_warnings(action="ignore"):
        expected = jaccard_score(*pixels, labels=list(IDS[1:]), average=None, zero_division=0)
    there = np.isin(IDS[1:], np.concatenate(pixels))
    np.testing.assert_allclose(result.iou[there], expected[there], rtol=1e-12)
    assert np.isnan(result.iou[~there]).all()
    assert result.miou == pytest.approx(expected[there].mean(), rel=1e-12)
    assert result.classes == there.sum()
    assert result.accuracy == pytest.approx(accuracy_score(*pixels), rel=1e-12)
    counts = result.to_arrays()["counts"][np.ix_(IDS, IDS)]
    np.testing.assert_array_equal(counts, confusion_matrix(*pixels, labels=list(IDS)))


@given(st.lists(st.integers(0, 9), max_size=4), st.permutations(range(9)))
def test_any_split_and_order_counts_the_same(cuts: list[int], order: list[int]) -> None:
    truth, found = maps(9, 0), maps(9, 1)
    whole, total = overlap(truth, found), Overlap(LEGEND.ids, LEGEND.ignored)
    for some in np.split(np.array(order), sorted(cuts)):
        total = overlap(truth[some], found[some]).merged(Overlap.from_arrays(total.to_arrays()))
    assert (total.miou, total.accuracy, total.images) == (whole.miou, whole.accuracy, 9)


def test_the_truth_overlaps_wholly_and_another_numbering_changes_nothing() -> None:
    truth, found = maps(4, 0), maps(4, 1)
    assert (overlap(truth, truth).miou, overlap(truth, truth).accuracy) == (1, 1)
    turn = np.arange(256, dtype=np.uint8)
    turn[list(IDS[1:])] = IDS[:0:-1]
    assert overlap(turn[truth], turn[found]).miou == pytest.approx(overlap(truth, found).miou, rel=1e-12)


def test_ignored_pixels_count_nowhere_but_an_ignored_answer_is_a_miss() -> None:
    truth, found = np.full((1, 2, 2), 3, np.uint8), np.full((1, 2, 2), 3, np.uint8)
    truth[0, 0, 0], found[0, 1, 1] = 0, 0
    result = overlap(truth, found)
    assert (result.miou, result.classes) == (pytest.approx(2 / 3), 1)
    assert result.accuracy == pytest.approx(2 / 3)
    assert np.isnan(overlap(np.zeros((1, 2, 2), np.uint8), found).miou)


def test_drawn_truth_is_read_back_exactly() -> None:
    truth = maps(3, 5)
    np.testing.assert_array_equal(read_exactly(drawn(truth), LEGEND, ["a", "b", "c"]), truth)


@given(st.integers(0, 99))
def test_pictures_near_the_colours_are_read_as_the_nearest(seed: int) -> None:
    pictures = np.random.default_rng(seed).integers(0, 256, (2, 5, 7, 3), np.uint8)
    distances = np.square(pictures[..., None, :].astype(int) - LEGEND.palette).sum(-1)
    found = read_nearest(pictures, LEGEND)
    np.testing.assert_array_equal(found, np.array(IDS)[distances.argmin(-1)])
    np.testing.assert_array_equal(read_nearest(drawn(found), LEGEND), found)


def test_a_truth_outside_the_colour_map_names_sample_colour_and_pixels() -> None:
    pictures = drawn(maps(3, 5))
    pictures[1, :2, :5], pictures[1, 7, 7] = (1, 2, 3), (9, 9, 9)
    with pytest.raises(UserError, match=r"^b: 10 pixels have the colour \(1, 2, 3\), and 1 other colours, outside the"):
        read_exactly(pictures, LEGEND, ["a", "b", "c"])
    pictures = np.full((1, 2, 2, 3), 255, np.uint8)
    pictures[0, 0, 0] = 254
    with pytest.raises(
        UserError, match=r"^x: 1 pixels have the colour \(254, 254, 254\), outside the colour map of 6 "
    ):
        read_exactly(pictures, LEGEND, ["x"])


def test_classes_that_no_picture_tells_apart_are_refused() -> None:
    road = Legend(ids=(1, 2), colours=((140, 140, 140),) * 2)
    with pytest.raises(UserError, match=r"classes 1 and 2 both have the colour \(140, 140, 140\)"):
        read_nearest(drawn(maps(1, 0)), road)
    many = Legend(ids=(1, 300), colours=((1, 1, 1), (2, 2, 2)))
    with pytest.raises(UserError, match="class ids from 1 to 300: expected 0 to 255"):
        read_nearest(drawn(maps(1, 0)), many)


def test_overlap_is_torchmetrics() -> None:
    torch = pytest.importorskip("torch", reason="pip install 'visent[oracles]'")
    pytest.importorskip("torchmetrics", reason="pip install 'visent[oracles]'")
    module = importlib.import_module("torchmetrics.classification")
    truth, found = maps(5, 0), maps(5, 1)
    metric = module.MulticlassJaccardIndex(num_classes=201, ignore_index=0, average="none")
    expected = metric(torch.from_numpy(found.astype(np.int64)), torch.from_numpy(truth.astype(np.int64))).numpy()
    np.testing.assert_allclose(overlap(truth, found).iou, expected[list(IDS[1:])], rtol=1e-6)
