"""One figure with all that must stand beside it: its spread, its samples, its network, and what speaks against it."""

from dataclasses import dataclass

import numpy as np

from trainer.figures.inception_score import InceptionScore
from trainer.figures.moments import Moments, Statistics, factor, frechet
from trainer.networks.network import Network
from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of one set of results."""

    name: str  # "FID"; "FID-like" with a network that is not the papers'
    value: float
    spread: float | None = None  # standard deviation over an Inception Score's parts
    samples: int
    network: str = ""  # its label; figures without a network have none
    warnings: tuple[str, ...] = ()


def distance(name: str, results: Moments, reference: Moments | Statistics, network: Network) -> Figure:
    """Returns the Fréchet distance of results from a reference, "FID" or "FVD".

    Raises:
        UserError: there are fewer than two samples, or the reference is of another network's features.
    """
    other = reference.statistics if isinstance(reference, Moments) else reference
    if other.features != network.features:
        raise UserError(f"a reference of {other.features} features for {name}: {network.name} gives {network.features}")
    mine = results.statistics
    return Figure(name=_named(name, network), value=frechet(mine, other), samples=results.count, network=network.label,
                  warnings=tuple(filter(None, [few_samples(name, mine, other)])))  # fmt: skip


def score(name: str, sums: InceptionScore, network: Network) -> Figure:
    """Returns an Inception Score with its deviation over the parts; one part has none."""
    value, deviation = sums.figure()
    return Figure(
        name=_named(name, network), value=value, spread=deviation if len(sums.counts) > 1 else None,
        samples=int(sums.counts.sum()), network=network.label,
        warnings=tuple(filter(None, [_small_parts(name, sums)])),
    )  # fmt: skip


def few_samples(name: str, results: Statistics, reference: Statistics) -> str:
    """Returns what speaks against a distance of fewer samples than features; "" where there are more."""
    counts = [one.samples for one in (results, reference) if one.samples is not None]
    features = results.features
    if not counts or min(counts) > features:
        return ""
    larger = reference if reference.samples is None or reference.samples >= (results.samples or 0) else results
    constant, enough = bias_constant(larger), 10 * features
    bias = _short(sum(constant / count for count in counts))
    return (
        f"{name} of {' and '.join(f'{count:,}' for count in counts)} samples with {features:,} features: a covariance "
        f"of so few has at most {min(counts) - 1:,} of {features:,} directions, and the distance is biased upwards as "
        f"C/samples (Chong and Forsyth 2020), here by about {bias} even for "
        f"perfect results; compare it only with figures of equally many samples. {features + 1:,} are the least for a "
        f"full covariance; with {enough:,} the bias would be about {_short(constant / enough)}"
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def bias_constant(of: Statistics) -> float:
    """Returns C: n samples of a normal distribution are at a distance of C / n from it on average, to first order.

    The mean of n samples is off by tr S / n. For the covariance, with E H_ij^2 = l_i l_j (1 + d_ij) / n in its
    eigenvectors, the second-order term of the Bures distance, H_ij^2 / 2 (l_i + l_j), adds up to
    sum_ij l_i l_j (1 + d_ij) / 2 n (l_i + l_j).
    """
    values = np.square(np.linalg.svd(factor(of), compute_uv=False))
    pairs = np.outer(values, values) / (values[:, None] + values)
    return float(values.sum() + (pairs.sum() + np.trace(pairs)) / 2)


def _small_parts(name: str, sums: InceptionScore) -> str:
    samples, classes = int(sums.counts.min()), sums.sums.shape[1]
    if samples >= classes:
        return ""
    return (
        f"{name} over parts of {samples:,} samples with {classes:,} classes: no part's score can exceed its number of "
        f"samples, and it is biased downwards; compare it only with scores of equally large parts"
    )


def _named(name: str, network: Network) -> str:
    return f"{name}-like" if network.same_as_papers == "no" else name
