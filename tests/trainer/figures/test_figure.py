"""What stands beside a figure: its network, its spread, and warnings that say what speaks against it."""

import numpy as np
import pytest

from trainer.figures.figure import bias_constant, distance, few_samples, score
from trainer.figures.inception_score import InceptionScore
from trainer.figures.moments import Moments, Statistics, frechet
from trainer.networks.network import Network, Outputs
from visent.errors import UserError


def network(same: str = "yes", features: int = 30) -> Network:
    def run(pixels: np.ndarray) -> Outputs:
        raise AssertionError("figures are made of sums, without the network")

    return Network(name="Inception", where="w", sha256="0123456789", same_as_papers=same, takes="images",
                   features=features, classes=5, run=run)  # fmt: skip


def moments(count: int, seed: int, scales: np.ndarray) -> Moments:
    result = Moments(len(scales))
    result.add(np.random.default_rng(seed).normal(size=(count, len(scales))) * np.sqrt(scales))
    return result


FLAT = np.ones(30)


def test_a_network_that_is_not_the_papers_is_in_the_name() -> None:
    a, b = moments(90, 0, FLAT), moments(80, 1, FLAT)
    figure = distance("FID", a, b, network())
    assert (figure.name, figure.samples, figure.warnings) == ("FID", 90, ())
    assert figure.value == frechet(a, b)
    assert figure.network == "Inception (01234567)"
    assert distance("FID", a, b, network("port")).name == "FID"
    assert distance("FVD", a, b, network("no")).name == "FVD-like"


def test_fewer_samples_than_features_warn_of_the_bias_and_of_how_many_would_do() -> None:
    figure = distance("FID", moments(12, 0, FLAT), moments(1000, 1, FLAT), network())
    (warning,) = figure.warnings
    assert "FID of 12 and 1,000 samples with 30 features" in warning
    assert "at most 11 of 30 directions" in warning
    assert "biased upwards" in warning
    assert "31 are the least for a full covariance; with 300 the bias would be about" in warning
    assert not few_samples("FID", moments(31, 0, FLAT).statistics, moments(40, 0, FLAT).statistics)
    assert few_samples("FID", moments(30, 0, FLAT).statistics, moments(40, 0, FLAT).statistics)


def test_a_reference_that_does_not_say_its_samples_warns_for_the_results_alone() -> None:
    reference = Statistics(mean=np.zeros(30), covariance=np.eye(30), samples=None)
    assert "FID of 12 samples" in few_samples("FID", moments(12, 0, FLAT).statistics, reference)
    assert not few_samples("FID", moments(99, 0, FLAT).statistics, reference)


@pytest.mark.parametrize("scales", [np.ones(40), 1 / np.arange(1, 41)], ids=["flat", "decaying"])
def test_the_bias_that_warnings_speak_of_is_the_one_that_is_seen(scales: np.ndarray) -> None:
    truth = Statistics(mean=np.zeros(40), covariance=np.diag(scales), samples=None)
    for samples, apart in ((40, 0.3), (400, 0.1)):
        seen = np.mean([frechet(moments(samples, seed, scales), truth) for seed in range(20)])
        assert bias_constant(truth) / samples == pytest.approx(seen, rel=apart)


def test_a_reference_of_another_network_is_refused() -> None:
    with pytest.raises(UserError, match="a reference of 40 features for FID: Inception gives 30"):
        distance("FID", moments(90, 0, FLAT), moments(90, 0, np.ones(40)), network())


def test_scores_carry_their_spread_and_warn_of_small_parts() -> None:
    values = np.random.default_rng(0).dirichlet(np.ones(5), 100)
    for parts, warned in ((10, False), (50, True)):
        sums = InceptionScore.in_parts(5, 100, parts)
        sums.add(values, np.arange(100))
        figure = score("IS", sums, network("no"))
        assert (figure.value, figure.spread) == sums.figure()
        assert (figure.name, figure.samples) == ("IS-like", 100)
        assert bool(figure.warnings) == warned
    assert "parts of 2 samples with 5 classes" in figure.warnings[0]
    whole = InceptionScore.in_parts(5, 100, 1)
    whole.add(values, np.arange(100))
    assert score("IS", whole, network("no")).spread is None
