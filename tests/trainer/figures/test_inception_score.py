"""Inception Scores: any order of samples, limits, and other projects' on the same probabilities."""

import importlib
import itertools

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from trainer.figures.inception_score import InceptionScore
from visent.errors import UserError


def logits(count: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (count, classes))


def probabilities(count: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.asarray(scipy.special.softmax(logits(count, classes, seed), axis=1))


def scored(values: np.ndarray, empty: InceptionScore) -> tuple[float, float]:
    empty.add(values, np.arange(len(values)))
    return empty.figure()


def as_defined(values: np.ndarray, bounds: list[int]) -> list[float]:
    """The exponent of E KL(p(y|x) || p(y)) of each part, with scipy's relative entropy."""
    parts = [values[start:end] for start, end in itertools.pairwise(bounds)]
    return [float(np.exp(scipy.special.rel_entr(part, part.mean(0)).sum(axis=1).mean())) for part in parts]


@given(st.permutations(range(37)), st.lists(st.integers(0, 37), max_size=5), st.integers(1, 37))
def test_any_split_and_order_gives_the_same_score(order: list[int], cuts: list[int], parts: int) -> None:
    values, numbers = probabilities(37, 6), np.array(order)
    mean, spread = scored(values, InceptionScore.in_parts(6, 37, parts))
    total = InceptionScore.in_parts(6, 37, parts)
    for some in np.split(numbers, sorted(cuts)):
        one = InceptionScore.in_parts(6, 37, parts)
        one.add(values[some], some)
        total = one.merged(InceptionScore.from_arrays(total.to_arrays()))
    assert total.figure() == pytest.approx((mean, spread), rel=1e-10, abs=1e-12)


@given(st.integers(2, 60), st.integers(2, 9), st.integers(0, 99))
def test_a_score_lies_between_one_and_the_number_of_classes_and_of_samples(n: int, classes: int, seed: int) -> None:
    mean, spread = scored(probabilities(n, classes, seed), InceptionScore.in_parts(classes, n, 1))
    assert 1 <= mean <= min(classes, n) + 1e-9
    assert spread == 0
    turned = probabilities(n, classes, seed)[:, ::-1]
    assert scored(turned, InceptionScore.in_parts(classes, n, 1))[0] == pytest.approx(mean, rel=1e-12)


def test_sure_and_unsure_classifiers_score_what_they_must() -> None:
    sure = np.eye(8)[np.arange(80) % 8]
    assert scored(sure, InceptionScore.in_parts(8, 80, 1)) == (pytest.approx(8), pytest.approx(0))
    assert scored(np.full((80, 8), 1 / 8), InceptionScore.in_parts(8, 80))[0] == pytest.approx(1)
    assert scored(np.eye(8)[np.zeros(80, int)], InceptionScore.in_parts(8, 80))[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("total", "size", "bounds"), [(100, 40, [0, 40, 80, 100]), (80, 40, [0, 40, 80]), (9, 40, [0, 9])]
)
def test_adms_parts_follow_each_other_and_the_last_may_be_shorter(total: int, size: int, bounds: list[int]) -> None:
    values = probabilities(total, 5)
    expected = as_defined(values[np.random.RandomState(2020).permutation(total)], bounds)
    found = scored(values, InceptionScore.in_parts_of(5, total, size))
    assert found == pytest.approx((np.mean(expected), np.std(expected)), rel=1e-9, abs=1e-12)


def test_samples_that_come_class_by_class_score_as_any_others() -> None:
    """As those of UCF101 do: ten parts of what comes first, second ... would hold ten classes each."""
    sorted_by_class = np.eye(101)[np.arange(3783) * 101 // 3783]
    for empty in (InceptionScore.in_parts(101, 3783), InceptionScore.in_parts_of(101, 3783, 400)):
        assert scored(sorted_by_class, empty)[0] > 85


def test_what_is_not_a_whole_set_of_probabilities_is_refused() -> None:
    one = InceptionScore.in_parts(5, 20, 2)
    with pytest.raises(UserError, match="must be 0 or more and sum to 1"):
        one.add(logits(20, 5), np.arange(20))
    one.add(probabilities(20, 5)[:12], np.arange(12))
    with pytest.raises(ValueError, match=r"of \[\d, \d\] samples, expected \[10, 10\]"):
        one.figure()
    with pytest.raises(ValueError, match="samples 20 to 20 of 20"):
        one.add(probabilities(1, 5), np.array([20]))
    with pytest.raises(ValueError, match="other parts"):
        one.merged(InceptionScore.in_parts(5, 20, 4))
    with pytest.raises(UserError, match="of 3 samples in 10 parts"):
        InceptionScore.in_parts(5, 3)


def test_the_score_is_torch_fidelitys() -> None:
    torch = pytest.importorskip("torch", reason="pip install 'visent[oracles]'")
    pytest.importorskip("torch_fidelity", reason="pip install 'visent[oracles]'")
    module = importlib.import_module("torch_fidelity.metric_isc")
    expected = module.isc_features_to_metric(torch.from_numpy(logits(503, 40)), splits=10, shuffle=True, rng_seed=2020)
    mean, spread = scored(probabilities(503, 40), InceptionScore.in_parts(40, 503))
    assert mean == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    assert spread == pytest.approx(expected["inception_score_std"], rel=1e-6)


def test_the_score_is_torchmetrics() -> None:
    """It shuffles, so that only one part is comparable."""
    torch = pytest.importorskip("torch", reason="pip install 'visent[oracles]'")
    pytest.importorskip("torchmetrics", reason="pip install 'visent[oracles]'")
    metric = importlib.import_module("torchmetrics.image.inception").InceptionScore(
        feature=torch.nn.Identity(), splits=1
    )
    metric.update(torch.from_numpy(logits(300, 40)))
    assert scored(probabilities(300, 40), InceptionScore.in_parts(40, 300, 1))[0] == pytest.approx(
        float(metric.compute()[0]), rel=1e-6
    )
