"""Inception Score: how sure a classifier is of each sample, and how many classes all of them have."""

from collections.abc import Mapping
from functools import cache

import numpy as np
from jaxtyping import Float, Int64

from visent.errors import UserError

PARTS = 10  # of Salimans et al. 2016, and of torch-fidelity
ADM_SAMPLES = 5000  # of each part in ADM's evaluator: the same ten parts for 50,000 samples
SHUFFLE_SEED = 2020  # torch-fidelity's


class InceptionScore:
    """Running sums of class probabilities for each of several parts of the samples.

    Salimans et al. 2016, "Improved techniques for training GANs": exp of the mean divergence KL(p(y|x) || p(y)), for
    each part alone; the figure is their mean. As p(y) enters only at the end, sums over samples are all that is kept:
    of p(y|x), and of p(y|x) log p(y|x).

    Parts are consecutive after a shuffle, the same for every set of as many samples, as torch-fidelity has it. Datasets
    are listed class by class, and a part of few classes can only have a low score.
    """

    def __init__(self, classes: int, bounds: Int64[np.ndarray, " b"]) -> None:
        """Takes the places in the shuffle at which parts begin, from 0, and at last the total."""
        self.bounds = bounds
        self.counts = np.zeros(len(bounds) - 1, np.int64)
        self.sums = np.zeros((len(bounds) - 1, classes))
        self.negentropy = np.zeros(len(bounds) - 1)

    @classmethod
    def in_parts(cls, classes: int, total: int, parts: int = PARTS) -> "InceptionScore":
        """Cuts `total` samples into equal parts, as torch-fidelity does: part i begins at i total // parts."""
        if not 1 <= parts <= total:
            raise UserError(f"an Inception Score of {total} samples in {parts} parts: expected a sample in each part")
        return cls(classes, np.arange(parts + 1) * total // parts)

    @classmethod
    def in_parts_of(cls, classes: int, total: int, samples: int = ADM_SAMPLES) -> "InceptionScore":
        """Cuts `total` samples into parts of so many, the last shorter, as ADM's evaluator does.

        That takes them as they come; it is given samples of classes that were drawn at random.
        """
        if total < 1 or samples < 1:
            raise UserError(f"an Inception Score of {total} samples in parts of {samples}: expected 1 at least of each")
        return cls(classes, np.append(np.arange(0, total, samples), total))

    def add(self, probabilities: Float[np.ndarray, "n c"], numbers: Int64[np.ndarray, " n"]) -> None:
        """Counts samples by their numbers, each in 0..total - 1 and given once, in any order.

        Raises:
            UserError: these are no probabilities.
        """
        values = probabilities.astype(np.float64)
        if not (np.abs(values.sum(axis=1) - 1) < 1e-3).all() or (values < 0).any():
            raise UserError("the network's probabilities are none: each sample's must be 0 or more and sum to 1")
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < self.bounds[-1]):
            raise ValueError(f"samples {numbers.min()} to {numbers.max()} of {self.bounds[-1]}")
        parts = np.searchsorted(self.bounds, _places(int(self.bounds[-1]))[numbers], side="right") - 1
        own = (values * np.log(np.where(values > 0, values, 1))).sum(axis=1)
        for part in np.unique(parts):
            here = parts == part
            self.counts[part] += int(here.sum())
            self.sums[part] += values[here].sum(axis=0)
            self.negentropy[part] += float(own[here].sum())

    def merged(self, other: "InceptionScore") -> "InceptionScore":
        """Returns the sums of both together; neither changes."""
        if not np.array_equal(self.bounds, other.bounds):
            raise ValueError("Inception Scores of other parts cannot be merged")
        result = InceptionScore(self.sums.shape[1], self.bounds)
        result.counts = self.counts + other.counts
        result.sums = self.sums + other.sums
        result.negentropy = self.negentropy + other.negentropy
        return result

    def figure(self) -> tuple[float, float]:
        """Returns the mean and the standard deviation over the parts, each in 1..classes.

        Raises:
            ValueError: samples are missing, or were given twice.
        """
        expected = np.diff(self.bounds)
        if not np.array_equal(self.counts, expected):
            raise ValueError(f"an Inception Score of {self.counts.tolist()} samples, expected {expected.tolist()}")
        marginal = self.sums / expected[:, None]
        entropy = -(marginal * np.log(np.where(marginal > 0, marginal, 1))).sum(axis=1)
        scores = np.exp(np.maximum(self.negentropy / expected + entropy, 0))
        return float(scores.mean()), float(scores.std())

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns all of it as arrays to write or send."""
        return {name: getattr(self, name).copy() for name in ("bounds", "counts", "sums", "negentropy")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "InceptionScore":
        """Reads `to_arrays`'s form."""
        result = cls(arrays["sums"].shape[1], np.array(arrays["bounds"], np.int64))
        result.counts = np.array(arrays["counts"], np.int64)
        result.sums, result.negentropy = (np.array(arrays[name], np.float64) for name in ("sums", "negentropy"))
        return result


@cache
def _places(total: int) -> Int64[np.ndarray, " n"]:
    """Returns the place of each of so many samples after the shuffle."""
    return np.argsort(np.random.RandomState(SHUFFLE_SEED).permutation(total))
