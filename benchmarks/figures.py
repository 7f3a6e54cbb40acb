"""How long figures take from features that are there, and whether others find the same: numpy, scipy, torch's projects.

    python benchmarks/figures.py [--samples 50000] [--features 2048] [--classes 1000]

Features are those of a network in kind: not negative, correlated, of a decaying spectrum. visent adds them up in
batches as they come from a network; numpy's mean and covariance want all of them at once. The limit of any exact
covariance is one matrix product of the features with themselves, which is timed too. Distances are taken of the same
statistics: scipy's square root of the product (pytorch-fid, ADM), torch's eigenvalues of it (torchmetrics) where torch
is installed; and again of fewer samples than features, where covariances are singular. There the truth is known from
the samples themselves: the trace of the root is the nuclear norm of their products.
"""

import argparse
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import machine
import numpy as np
import scipy.linalg
from rich.console import Console
from rich.table import Table
from sklearn.metrics import confusion_matrix

from trainer.figures.inception_score import SHUFFLE_SEED, InceptionScore
from trainer.figures.moments import Moments, Statistics, frechet
from trainer.figures.overlap import Overlap

BATCH = 256
FEW = 500  # samples, fewer than features


def main() -> None:
    """Measures, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=1000)
    given = parser.parse_args()
    results = {
        "samples": given.samples, "features": given.features, "classes": given.classes, "batch": BATCH,
        "moments": moments(given.samples, given.features), "distance": distances(given.samples, given.features),
        "distance of few samples": distances(FEW, given.features, known=True),
        "inception score": scores(given.samples, given.classes), "overlap": overlaps(),
    }  # fmt: skip
    show(results)
    machine.save("figures", results)


def made(samples: int, features: int, seed: int, scale: float = 1.0) -> np.ndarray:
    """Returns features of so many samples, float32."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(features).normal(size=(features, features)) / np.arange(1, features + 1) ** 0.7
    parts = (rng.normal(size=(min(4096, samples - start), features)) for start in range(0, samples, 4096))
    return np.concatenate([np.maximum(scale * (part @ mixing) + 0.2, 0).astype(np.float32) for part in parts])


def timed(name: str, call: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Returns a line of results and what the call returned."""
    began = time.perf_counter()
    result = call()
    line = {"way": name, "seconds": time.perf_counter() - began}
    print(f"{name}: {line['seconds']:.2f} s", flush=True)
    return line, result


def streamed(values: np.ndarray) -> Moments:
    """Adds features up batch by batch."""
    total = Moments(values.shape[1])
    for start in range(0, len(values), BATCH):
        total.add(values[start : start + BATCH])
    return total


def moments(samples: int, features: int) -> list[dict[str, Any]]:
    """Times mean and covariance; each line has the largest difference from numpy's, relative to the largest entry."""
    values = made(samples, features, 0)
    double = values.astype(np.float64)
    lines = [timed("one product, the limit", lambda: double.T @ double)[0]]
    line, covariance = timed("numpy, all at once", lambda: np.cov(double, rowvar=False))
    lines.append(line)
    del double
    line, total = timed(f"visent, batches of {BATCH}", lambda: streamed(values))
    apart = float(np.abs(total.statistics.covariance - covariance).max() / np.abs(covariance).max())
    return [*lines, line | {"off": apart}]


def distances(samples: int, features: int, known: bool = False) -> list[dict[str, Any]]:
    """Times the Fréchet distance of two sets; `known` takes the truth from the samples instead of scipy's answer."""
    sets = made(samples, features, 1), made(samples, features, 2, 1.1)
    one, two = (streamed(values).statistics for values in sets)
    ways: dict[str, Callable[[], float]] = {
        "visent": lambda: frechet(one, two),
        "scipy's sqrtm": lambda: by_sqrtm(one, two),
    }
    if importlib.util.find_spec("torch") and importlib.util.find_spec("torchmetrics"):
        ways["torchmetrics"] = lambda: by_torchmetrics(one, two)
    found = [timed(name, call) for name, call in ways.items()]
    truth = by_samples(*sets) if known else found[1][1]
    return [line | {"value": value, "off": abs(value / truth - 1)} for line, value in found]


def by_sqrtm(one: Statistics, two: Statistics) -> float:
    """The distance as pytorch-fid and ADM's evaluator take it."""
    with warnings.catch_warnings(action="ignore"):
        root = scipy.linalg.sqrtm(one.covariance @ two.covariance)
        if not np.isfinite(root).all():
            small = 1e-6 * np.eye(one.features)
            root = scipy.linalg.sqrtm((one.covariance + small) @ (two.covariance + small))
    apart = np.square(one.mean - two.mean).sum()
    return float(apart + np.trace(one.covariance) + np.trace(two.covariance) - 2 * np.trace(root.real))


def by_torchmetrics(one: Statistics, two: Statistics) -> float:
    """The distance as torchmetrics takes it."""
    import torch
    from torchmetrics.image.fid import _compute_fid

    return float(_compute_fid(*map(torch.from_numpy, (one.mean, one.covariance, two.mean, two.covariance))))


def by_samples(a: np.ndarray, b: np.ndarray) -> float:
    """The distance without any covariance."""
    one, two = ((part - part.mean(0)) / np.sqrt(len(part) - 1) for part in (a.astype(float), b.astype(float)))
    apart = np.square(a.mean(0, dtype=float) - b.mean(0, dtype=float)).sum()
    return float(apart + np.square(one).sum() + np.square(two).sum() - 2 * np.linalg.norm(one @ two.T, "nuc"))


def scores(samples: int, classes: int) -> list[dict[str, Any]]:
    """Times the Inception Score of ten parts against the definition, which keeps all probabilities."""
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.full(classes, 0.05), samples).astype(np.float32)
    values = np.maximum(values, 1e-12)

    def ours() -> float:
        sums = InceptionScore.in_parts(classes, samples)
        for start in range(0, samples, BATCH):
            sums.add(values[start : start + BATCH], np.arange(start, min(start + BATCH, samples)))
        return sums.figure()[0]

    def defined() -> float:
        shuffled = values[np.random.RandomState(SHUFFLE_SEED).permutation(samples)]
        parts = [part.astype(float) for part in np.array_split(shuffled, 10)]
        return float(np.mean([np.exp((part * np.log(part / part.mean(0))).sum(1).mean()) for part in parts]))

    truth, own = timed("numpy, all at once", defined), timed(f"visent, batches of {BATCH}", ours)
    return [line | {"value": value, "off": abs(value / truth[1] - 1)} for line, value in (truth, own)]


def overlaps(images: int = 100, classes: int = 150, size: int = 256) -> list[dict[str, Any]]:
    """Times mIoU of label maps against scikit-learn's confusion matrix."""
    rng = np.random.default_rng(0)
    truth, found = (rng.integers(0, classes, (images, size, size), np.uint8) for _ in range(2))

    def ours() -> float:
        total = Overlap(range(classes))
        total.add(truth, found)
        return total.miou

    def sklearns() -> float:
        counts = confusion_matrix(truth.reshape(-1), found.reshape(-1), labels=range(classes))
        both = np.diagonal(counts)
        return float((both / (counts.sum(0) + counts.sum(1) - both)).mean())

    peer, own = timed(f"scikit-learn, {images} maps", sklearns), timed(f"visent, {images} maps", ours)
    return [line | {"value": value, "off": abs(value / peer[1] - 1)} for line, value in (peer, own)]


def show(results: dict[str, Any]) -> None:
    """Prints one table for all."""
    table = Table("figure", "way", "seconds", "value", "off by")
    for name, lines in results.items():
        for line in lines if isinstance(lines, list) else []:
            value = f"{line['value']:.6f}" if "value" in line else ""
            table.add_row(
                name, line["way"], f"{line['seconds']:.2f}", value, f"{line['off']:.1e}" if "off" in line else ""
            )
    Console().print(table)


if __name__ == "__main__":
    main()
