"""How good a tokenizer is: PSNR and SSIM of round trips, and how evenly the codebook is used."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Float64, Int64, UInt8, UInt16
from PIL import Image

from tokenizer.sheet import draw_stacks
from tokenizer.tokenizer import Tokenizer

WINDOW, SIGMA = 11, 1.5  # of SSIM's Gaussian window, in pixels
K1, K2 = 0.01, 0.03


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Figures of one set of images."""

    images: int
    exact: int  # images that came back without any error: their PSNR is infinite
    psnr: float  # dB, mean over the other images; infinity when all came back exactly
    ssim: float  # mean over images, at most 1
    tokens: int
    usage: float  # part of the codebook that occurs, 0..1
    dead: int  # codes that never occur
    entropy: float  # bits per code
    perplexity: float  # codes in use if all were equally frequent, 1..codebook_size


def psnr(a: UInt8[np.ndarray, "n h w 3"], b: UInt8[np.ndarray, "n h w 3"]) -> Float64[np.ndarray, "n"]:
    """Returns the peak signal-to-noise ratio of each pair in dB; equal images give infinity."""
    errors = np.square(a.astype(np.float32) - b).mean(axis=(1, 2, 3), dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255**2 / errors))


def ssim(a: UInt8[np.ndarray, "n h w 3"], b: UInt8[np.ndarray, "n h w 3"]) -> Float64[np.ndarray, "n"]:
    """Returns the structural similarity of each pair, the mean over colour channels and whole windows.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", with the paper's
    Gaussian window and constants. NaN for images smaller than the window.
    """
    if min(a.shape[1:3]) < WINDOW:
        return np.full(len(a), np.nan)
    return np.asarray(np.asarray(_ssim(a, b)).mean(axis=(1, 2, 3), dtype=np.float64))


@jax.jit
def _ssim(a: UInt8[Array, "n h w 3"], b: UInt8[Array, "n h w 3"]) -> Float32[Array, "n i j 3"]:
    x, y = (images.astype(jnp.float32) for images in (a, b))
    nothing = jnp.zeros_like(x)
    mean_x, mean_y, variances, covariance = _windowed(1, *_windowed(2, x, y, nothing, nothing))
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return similarity / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))


def _windowed(axis: int, x: Array, y: Array, variances: Array, covariance: Array) -> tuple[Array, Array, Array, Array]:
    """Returns Gaussian means, sum of variances, and covariance of every whole window along one side.

    Those of the other side are taken in: the variance of all is the mean of the variances and the variance of the
    means. Taken from deviations, not as differences of squares, it keeps its digits in float32 also in bright parts.
    """

    def mean(values: Callable[[int], Array]) -> Array:
        return functools.reduce(jnp.add, (weight * values(place) for place, weight in enumerate(_WEIGHTS)))

    def at(values: Array, place: int) -> Array:
        return jax.lax.slice_in_dim(values, place, values.shape[axis] - WINDOW + 1 + place, axis=axis)

    means = tuple(mean(functools.partial(at, values)) for values in (x, y))
    mean_x, mean_y = _apart(means)  # or XLA computes them again for each of the 11 places
    squares = mean(lambda place: at(variances, place) + (at(x, place) - mean_x) ** 2 + (at(y, place) - mean_y) ** 2)
    products = mean(lambda place: at(covariance, place) + (at(x, place) - mean_x) * (at(y, place) - mean_y))
    mean_x, mean_y, squares, products = _apart((mean_x, mean_y, squares, products))
    return mean_x, mean_y, squares, products


def _apart(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Returns the arrays, each computed once."""
    return tuple(jax.lax.optimization_barrier(arrays))  # type: ignore[no-untyped-call]


def _gaussian() -> list[float]:
    weights = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    return [float(weight) for weight in weights / weights.sum()]


_WEIGHTS = _gaussian()


def entropy(counts: Int64[np.ndarray, "k"]) -> float:
    """Returns the entropy of a code that occurs so many times, in bits."""
    shares = counts[counts > 0] / max(int(counts.sum()), 1)
    return float(abs((shares * np.log2(shares)).sum()))


class RoundTrips:
    """Running figures of round trips, for sets that do not fit into memory."""

    def __init__(self, codebook_size: int) -> None:
        self.images = self.exact = 0
        self.counts = np.zeros(codebook_size, np.int64)  # how often each code occurred
        self._decibels = self._similarity = 0.0

    def add(
        self,
        images: UInt8[np.ndarray, "n s s 3"],
        codes: UInt16[np.ndarray, "n t"],
        again: UInt8[np.ndarray, "n s s 3"],
    ) -> Float64[np.ndarray, "n"]:
        """Counts images, their codes and their reconstructions; returns the PSNR of each in dB."""
        decibels = psnr(images, again)
        finite = np.isfinite(decibels)
        self.images += len(images)
        self.exact += int((~finite).sum())
        self._decibels += float(decibels[finite].sum())
        self._similarity += float(ssim(images, again).sum())
        self.counts += np.bincount(codes.reshape(-1), minlength=len(self.counts))
        return decibels

    def quality(self) -> Quality:
        """Returns the figures of all that was added."""
        inexact, used, bits = self.images - self.exact, int((self.counts > 0).sum()), entropy(self.counts)
        return Quality(
            images=self.images,
            exact=self.exact,
            psnr=self._decibels / inexact if inexact else float("inf"),
            ssim=self._similarity / max(self.images, 1),
            tokens=int(self.counts.sum()),
            usage=used / len(self.counts),
            dead=len(self.counts) - used,
            entropy=bits,
            perplexity=2**bits,
        )


def judge(tokenizer: Tokenizer, images: UInt8[np.ndarray, "n s s 3"]) -> Quality:
    """Measures round trips of the images; usage can only be near 1 when there are many more codes than entries."""
    trips = RoundTrips(tokenizer.card.codebook_size)
    for start in range(0, len(images), tokenizer.batch_size):
        part = images[start : start + tokenizer.batch_size]
        codes = tokenizer.encode(part)
        trips.add(part, codes, tokenizer.decode(codes))
    return trips.quality()


def round_trip_sheet(tokenizer: Tokenizer, images: UInt8[np.ndarray, "n s s 3"], columns: int = 8) -> Image.Image:
    """Draws each image above its reconstruction, with its PSNR in dB."""
    again = tokenizer.decode(tokenizer.encode(images))
    captions = [f"{value:.1f} dB" for value in psnr(images, again)]
    return draw_stacks(list(zip(images, again, strict=True)), captions, columns)
