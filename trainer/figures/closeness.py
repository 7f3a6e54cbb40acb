"""How close pictures are to the truth, pixel by pixel: PSNR and SSIM."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from tokenizer.quality import psnr, ssim


class Closeness:
    """Running means over pictures, or over the frames of clips."""

    def __init__(self) -> None:
        self.images = 0
        self.exact = 0  # equal to the truth in every pixel: their PSNR is infinite and not in its mean
        self._decibels = self._similarity = 0.0

    def add(self, truth: UInt8[np.ndarray, "n h w 3"], made: UInt8[np.ndarray, "n h w 3"]) -> None:
        """Counts pairs of pictures."""
        decibels = psnr(truth, made)
        finite = np.isfinite(decibels)
        self.images += len(truth)
        self.exact += int((~finite).sum())
        self._decibels += float(decibels[finite].sum())
        self._similarity += float(ssim(truth, made).sum())

    def merged(self, other: "Closeness") -> "Closeness":
        """Returns the sums of both together; neither changes."""
        result = Closeness()
        result.images, result.exact = self.images + other.images, self.exact + other.exact
        result._decibels = self._decibels + other._decibels
        result._similarity = self._similarity + other._similarity
        return result

    @property
    def psnr(self) -> float:
        """Mean in dB over pictures that differ from the truth; infinity where none does, NaN without pictures."""
        inexact = self.images - self.exact
        return self._decibels / inexact if inexact else float("inf") if self.images else float("nan")

    @property
    def ssim(self) -> float:
        """Mean over pictures, at most 1; NaN without pictures, or for pictures smaller than its window of 11."""
        return self._similarity / self.images if self.images else float("nan")

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns all of it as arrays to write or send."""
        return {"images": np.array([self.images, self.exact], np.int64),
                "sums": np.array([self._decibels, self._similarity])}  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Closeness":
        """Reads `to_arrays`'s form."""
        result = cls()
        result.images, result.exact = (int(number) for number in arrays["images"])
        result._decibels, result._similarity = (float(value) for value in arrays["sums"])
        return result
