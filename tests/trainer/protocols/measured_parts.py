"""Parts of every kind over pictures of a tiny tokenizer, and small networks that judge them, for tests of measuring."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from manifests.legend import Legend
from tokenizer.tokenizer import Tokenizer
from trainer.networks.network import Network, Outputs, Pixels
from trainer.protocols.cases import Cases
from trainer.protocols.part import FigureName, Kind, Part
from trainer.protocols.samples import CHUNK, Samples

LEGEND = Legend(ids=(0, 1, 2, 255), colours=((0, 0, 0), (200, 40, 40), (40, 200, 90), (255, 255, 255)),
                names=("void", "cat", "grass", "border"), ignored=(255,))  # fmt: skip


def pooling(
    takes: Literal["images", "clips"], seed: int = 0, counted: Callable[[int], object] = lambda count: None
) -> Network:
    """A network of random weights over the means of 4 x 4 cells; `counted` is told what it is asked for."""
    weights = np.random.default_rng(seed).standard_normal((48, 10)) / 7

    def run(pixels: Pixels) -> Outputs:
        counted(len(pixels))
        size = pixels.shape[-2] // 4
        cells = pixels.reshape(len(pixels), -1, 4, size, 4, size, 3).astype(np.float64).mean(axis=(1, 3, 5)) / 255
        features = cells.reshape(len(pixels), 48)
        scores = np.exp(8 * features @ weights)
        return Outputs(features.astype(np.float32), (scores / scores.sum(1, keepdims=True)).astype(np.float32))

    return Network(name=f"pooling {seed}", where="here", sha256=hashlib.sha256(weights.tobytes()).hexdigest(),
                   same_as_papers="no", takes=takes, features=48, classes=10, run=run)  # fmt: skip


def part_of(kind: Kind, *figures: FigureName) -> Part:
    """A part of this kind."""
    given = "edge" if kind in ("images", "labels", "foreground") else ""
    return Part(name=f"a part of {kind}", data="made", kind=kind, given=given, made="image", figures=figures)


def pictures(count: int, frames: int, kind: Kind, seed: int = 0) -> np.ndarray:
    """Smooth pictures uint8[n f 32 32 3], or maps of four colours, or masks."""
    random = np.random.default_rng(seed)
    cells = random.integers(0, {"labels": 4, "foreground": 2}.get(kind, 256), (count, frames, 4, 4, 3))
    large = cells.repeat(8, axis=2).repeat(8, axis=3)
    if kind == "labels":
        return LEGEND.palette[large[..., 0]]
    return (np.repeat(large[..., :1] * 255, 3, axis=-1) if kind == "foreground" else large).astype(np.uint8)


def cases_of(
    kind: Kind, tokenizer: Tokenizer, count: int = 30, read: Callable[[int], object] = lambda count: None
) -> Cases:
    """Cases whose truth the tokenizer encoded; `read` is told how many real pictures are asked for."""
    frames = 3 if kind == "clips" else 1
    truth = pictures(count, frames, kind)
    codes = tokenizer.encode(truth.reshape(-1, *truth.shape[2:])).reshape(count, -1)
    kept = {"clips": 16, "halves": 8}.get(kind, 0)

    def pixels(numbers: np.ndarray) -> np.ndarray:
        read(len(numbers))
        return truth[numbers]

    pairs = np.random.default_rng(1).integers(0, 64, (count, 48)).astype(np.uint16)
    return Cases(
        keys=[f"{kind} {number}" for number in range(count)], prompt=codes[:, :kept] if kept else pairs, kept=kept,
        new_tokens=codes.shape[1] - kept, frames=frames, truth_codes=codes, truth=pixels,
        classes=[f"class {number % 2}" for number in range(count)] if kind == "foreground" else (),
        legend=LEGEND if kind == "labels" else None,
    )  # fmt: skip


def samples_of(cases: Cases, folder: Path, wrong: float = 0.5, seed: int = 0) -> Samples:
    """Writes what a model might have made: the truth, with a part of the codes drawn by chance."""
    random, truth = np.random.default_rng(seed), cases.truth_codes[:, cases.kept :]
    codes = np.where(random.random(truth.shape) < wrong, random.integers(0, 64, truth.shape), truth).astype(np.uint16)
    place = folder / f"samples-{seed}-{wrong}"
    place.mkdir(parents=True, exist_ok=True)
    found = Samples(folder=str(place), count=len(cases), new_tokens=cases.new_tokens, codebook_size=64)
    for chunk in found.chunks:
        found.write_chunk(chunk, codes[chunk * CHUNK : (chunk + 1) * CHUNK])
    return found
