"""Means and covariances of features, summed up in any parts and order, and the Fréchet distance between two."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from scipy.linalg.lapack import dpstrf

from visent.errors import UserError


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """A normal distribution of features: all that a Fréchet distance asks of pictures or clips."""

    mean: Float64[np.ndarray, " d"]
    covariance: Float64[np.ndarray, "d d"]  # unbiased: over samples - 1, as numpy.cov
    samples: int | None  # that it was made of; None where a file does not say

    @property
    def features(self) -> int:
        """Numbers of one sample's features."""
        return len(self.mean)


class Moments:
    """Running mean and scatter in float64; memory and time of a merge do not depend on how many were added.

    Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance": parts are joined by their means, so
    that nothing cancels, and every split and order gives the same up to rounding.
    """

    def __init__(self, features: int) -> None:
        self.count = 0
        self.mean = np.zeros(features)
        self.scatter = np.zeros((features, features))  # sum of outer products of deviations from the mean

    def add(self, features: Float[np.ndarray, "n d"]) -> None:
        """Counts the features of some samples.

        Raises:
            UserError: a number of them is not finite.
        """
        if not len(features):
            return
        if not np.isfinite(features).all():
            bad = int((~np.isfinite(features).all(axis=1)).sum())
            raise UserError(f"the features of {bad} of {len(features)} samples hold numbers that are not finite: the "
                            "network that gave them is damaged or of another kind than its name says")  # fmt: skip
        values = features.astype(np.float64)
        mean = values.mean(axis=0)
        self._join(len(values), mean, values - mean)

    def merged(self, other: "Moments") -> "Moments":
        """Returns the moments of both together; neither changes."""
        if not self.count or not other.count:
            full = self if self.count else other
            return Moments.from_arrays(full.to_arrays())
        result = Moments(len(self.mean))
        result.count, result.mean, result.scatter = self.count, self.mean, self.scatter
        result._join(other.count, other.mean, np.zeros((0, len(self.mean))))
        result.scatter += other.scatter
        return result

    def _join(self, count: int, mean: Float64[np.ndarray, " d"], deviations: Float64[np.ndarray, "n d"]) -> None:
        """Adds `count` samples of this mean; the distance of the two means is one more row of deviations."""
        total = self.count + count
        between = mean - self.mean
        rows = np.concatenate([deviations, [between * np.sqrt(self.count * count / total)]])
        self.scatter = self.scatter + rows.T @ rows
        self.mean = self.mean + between * (count / total)
        self.count = total

    @property
    def statistics(self) -> Statistics:
        """Mean and unbiased covariance.

        Raises:
            UserError: of fewer than two samples there is no covariance.
        """
        if self.count < 2:
            raise UserError(f"a distance of distributions from {self.count} samples: expected 2 at least; judge more")
        return Statistics(mean=self.mean, covariance=self.scatter / (self.count - 1), samples=self.count)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns all of it as arrays to write or send."""
        return {"count": np.array(self.count, np.int64), "mean": self.mean.copy(), "scatter": self.scatter.copy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Moments":
        """Reads `to_arrays`'s form."""
        result = cls(len(arrays["mean"]))
        result.count = int(arrays["count"])
        result.mean, result.scatter = (np.array(arrays[name], np.float64) for name in ("mean", "scatter"))
        return result


def frechet(a: Moments | Statistics, b: Moments | Statistics) -> float:
    """Returns the squared Fréchet distance of two normal distributions, 0 or more.

    |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1^1/2 S2 S1^1/2)^1/2 (Dowson and Landau 1982; Heusel et al. 2017, equation 6).
    With S = F F^T, the last trace is the sum of the singular values of F1^T F2. These are found without squaring
    anything, so that also singular covariances, of fewer samples than features say, lose no digits; the square root of
    a non-symmetric product, as scipy.linalg.sqrtm takes it, may be complex there or not exist.

    Raises:
        UserError: the two have other numbers of features, or fewer than two samples.
    """
    one, two = (part.statistics if isinstance(part, Moments) else part for part in (a, b))
    if one.features != two.features:
        raise UserError(f"a distance between {one.features} and {two.features} features: both sides must come from the "
                        "same network")  # fmt: skip
    product = factor(one).T @ factor(two)
    shared = float(np.linalg.svd(product, compute_uv=False).sum()) if product.size else 0.0
    apart = float(np.square(one.mean - two.mean).sum())
    return max(apart + float(np.trace(one.covariance)) + float(np.trace(two.covariance)) - 2 * shared, 0.0)


def factor(of: Statistics) -> Float64[np.ndarray, "d r"]:
    """Returns F with F F^T = covariance; its columns are as many as the covariance has directions.

    Cholesky's, with the largest pivot first (Higham 2002, section 10.3): of so few directions as samples take it costs
    next to nothing, of all a tenth of the eigenvectors. What rounding leaves where no direction is left is cut off, as
    its square root would be no longer small: after the rank that so many samples can have, and below the usual bound.
    """
    bound = of.features * np.finfo(np.float64).eps * max(float(of.covariance.diagonal().max()), 0.0)
    packed, pivots, rank, _ = dpstrf(of.covariance, tol=bound, lower=1)
    rank = rank if of.samples is None else min(rank, of.samples - 1)
    result = np.zeros((of.features, rank))
    result[pivots - 1] = np.tril(packed)[:, :rank]
    return result
