"""One figure with all that must stand beside it: its spread, its samples, its network, and what speaks against it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.figures.inception_score import InceptionScore
from trainer.figures.moments import Moments, Statistics, frechet
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

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {**vars(self), "warnings": list(self.warnings)}


def distance(name: str, results: Moments, reference: Moments | Statistics, network: Network) -> Figure:
    """Returns the Fréchet distance of results from a reference, "FID" or "FVD".

    Raises:
        UserError: there are fewer than two samples, or the reference is of another network's features.
    """
    other = reference.statistics if isinstance(reference, Moments) else reference
    if other.features != network.features:
        raise UserError(f"a reference of {other.features} features for {name}: {network.name} gives {network.features}")
    mine = results.statistics
    warnings = (few_samples(name, mine, other),)
    return Figure(name=_named(name, network), value=frechet(mine, other), samples=results.count, network=network.label,
                  warnings=tuple(filter(None, warnings)))  # fmt: skip


def score(name: str, sums: InceptionScore, network: Network) -> Figure:
    """Returns an Inception Score with its deviation over the parts."""
    value, spread = sums.figure()
    smallest, classes = int(sums.counts.min()), sums.sums.shape[1]
    few = (f"{name}: parts of {smallest:,} samples for {classes:,} classes; a score cannot exceed the number of samples "
           f"of its part, and is biased downwards as long as there are not many for each class") if smallest < classes else ""  # fmt: skip
    return Figure(name=_named(name, network), value=value, spread=spread, samples=int(sums.counts.sum()),
                  network=network.label, warnings=(few,) if few else ())  # fmt: skip


def few_samples(name: str, results: Statistics, reference: Statistics) -> str:
    """Returns what speaks against a distance of fewer samples than features; "" where there are more."""
    counts = [one.samples for one in (results, reference) if one.samples is not None]
    features = results.features
    if not counts or min(counts) > features:
        return ""
    larger = reference if reference.samples is None or reference.samples >= (results.samples or 0) else results
    bias = sum(expected_bias(larger, count) for count in counts)
    enough = 10 * features
    return (
        f"{name} of {' and '.join(f'{count:,}' for count in counts)} samples with {features:,} features: a covariance "
        f"of so few has at most {min(counts) - 1:,} of {features:,} directions, and the distance is biased upwards as "
        f"C/samples (Chong and Forsyth 2020), here by about {bias:.3g} even for perfect results; compare it only with "
        f"figures of equally many samples. {features + 1:,} are the least for a full covariance; with {enough:,} the "
        f"bias would be about {expected_bias(larger, enough):.2g}"
    )


def expected_bias(of: Statistics, samples: int) -> float:
    """Returns the distance that so many samples of a normal distribution have from it on average, to first order.

    The mean of n samples is off by tr S / n. For the covariance, with E H_ij^2 = l_i l_j (1 + d_ij) / n in its
    eigenvectors, the second-order term of the Bures distance, H_ij^2 / 2 (l_i + l_j), adds up to
    sum_ij l_i l_j (1 + d_ij) / 2 n (l_i + l_j).
    """
    values = np.maximum(np.linalg.eigvalsh(of.covariance), 0)
    values = values[values > 0]
    pairs = np.outer(values, values) / (values[:, None] + values)
    return float(values.sum() + (pairs.sum() + np.trace(pairs)) / 2) / samples


def _named(name: str, network: Network) -> str:
    return f"{name}-like" if network.same_as_papers == "no" else name
