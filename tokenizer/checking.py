"""Does a tokenizer do what its weights were trained for: agreement of precisions, reconstruction, range of pixels."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageDraw

from tokenizer.card import TokenizerCard
from tokenizer.checkpoints import Checkpoint
from tokenizer.checkpoints.network import build
from tokenizer.quality import psnr
from tokenizer.tokenizer import Tokenizer
from tokenizer.vqgan import VQGAN
from visent.progress import track

ENOUGH_AGREEMENT = 0.99  # of tokens with those of float32; below it, a faster precision is another tokenizer
LOW_PSNR = 15.0  # dB; trained VQGANs reach 19 to 28 on photos, random weights 5 to 12
CLEARLY_BETTER = 3.0  # dB, by which another range of pixels shows that it is the right one
RANGE_PICTURES = 8
MANY_SAME = 2  # different codes in pictures that have nothing in common


@dataclass(frozen=True)
class Finding:
    """One thing to know before tokenizing."""

    level: Literal["warning", "failure"]
    text: str


@dataclass(frozen=True, kw_only=True)
class PrecisionResult:
    """One precision against float32."""

    precision: str
    agreement: float  # part of the tokens that are the same
    images_per_second: float  # after compiling
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Mean PSNR of round trips in dB, and of a few of them with each range of pixels."""

    psnr: float
    few_here: float
    few_other: float


def parameters(checkpoint: Checkpoint) -> dict[str, int]:
    """Counts numbers: of the encoder with its last convolution, of the codebook, of the decoder with its first."""
    counts = {"encoder": 0, "codebook": 0, "decoder": 0}
    parts = {"encoder": "encoder", "quant_conv": "encoder", "codebook": "codebook"}
    for name, tensor in checkpoint.tensors.items():
        counts[parts.get(name.split(".")[0], "decoder")] += tensor.size
    return counts


def synthetic_pictures(count: int, size: int) -> UInt8[np.ndarray, "n s s 3"]:
    """Draws pictures of smooth colours with ellipses; always the same."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        small = rng.integers(0, 256, (5, 5, 3), np.uint8)
        picture = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(picture)
        for _ in range(4):
            x, y = rng.uniform(0, 0.8, 2) * size
            width, height = rng.uniform(0.1, 0.5, 2) * size
            pen.ellipse((x, y, x + width, y + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
        pictures.append(np.asarray(picture))
    return np.stack(pictures)


def compare_precisions(
    model: VQGAN, card: TokenizerCard, names: Sequence[str], squares: UInt8[np.ndarray, "n s s 3"]
) -> tuple[list[PrecisionResult], UInt16[np.ndarray, "n t"]]:
    """Encodes pictures in float32 and in each precision; returns what each gives, and the codes of float32."""
    results: list[PrecisionResult] = []
    reference = np.zeros((0, card.tokens_per_image), np.uint16)
    for name in dict.fromkeys(["float32", *names]):
        own = dataclasses.replace(card, precision=name)
        codes, seconds = _timed(Tokenizer(model, own), squares, name)
        reference = reference if results else codes
        results.append(
            PrecisionResult(
                precision=name,
                agreement=float((codes == reference).mean()),
                images_per_second=len(squares) / seconds,
                fingerprint=own.fingerprint,
            )
        )
    return results, reference


def _timed(
    tokenizer: Tokenizer, squares: UInt8[np.ndarray, "n s s 3"], what: str
) -> tuple[UInt16[np.ndarray, "n t"], float]:
    """Returns the codes, and the seconds that encoding took after the network was compiled."""
    tokenizer.encode(squares[: tokenizer.batch_size])
    parts, step = [], 4 * tokenizer.batch_size
    started = time.perf_counter()
    with track(f"encoding in {what}", len(squares), "images") as progress:
        for start in range(0, len(squares), step):
            parts.append(tokenizer.encode(squares[start : start + step]))
            progress.advance(len(parts[-1]))
    return np.concatenate(parts), time.perf_counter() - started


def reconstruct(
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    squares: UInt8[np.ndarray, "n s s 3"],
    codes: UInt16[np.ndarray, "n t"],
) -> Reconstruction:
    """Measures round trips, and those of a few pictures with pixels in the other range: [-1, 1] or [0, 1]."""
    here = psnr(squares, decode_all(tokenizer, codes))
    config = dataclasses.replace(checkpoint.config, signed_pixels=not checkpoint.config.signed_pixels)
    other = Tokenizer(build(dataclasses.replace(checkpoint, config=config)), tokenizer.card)
    few = squares[:RANGE_PICTURES]
    there = psnr(few, other.decode(other.encode(few)))
    return Reconstruction(
        psnr=float(here.mean()), few_here=float(here[: len(few)].mean()), few_other=float(there.mean())
    )


def decode_all(tokenizer: Tokenizer, codes: UInt16[np.ndarray, "n t"]) -> UInt8[np.ndarray, "n s s 3"]:
    """Decodes, and shows progress."""
    parts = []
    with track("decoding", len(codes), "images") as progress:
        for start in range(0, len(codes), tokenizer.batch_size):
            parts.append(tokenizer.decode(codes[start : start + tokenizer.batch_size]))
            progress.advance(len(parts[-1]))
    return np.concatenate(parts)


def judge_codes(codes: UInt16[np.ndarray, "n t"]) -> list[Finding]:
    """Finds a codebook that pictures hardly use."""
    different = len(np.unique(codes))
    if len(codes) > 1 and different <= MANY_SAME:
        text = f"all {codes.size} tokens are {different} codes: the codebook is lost or does not belong to the encoder"
        return [Finding("failure", text)]
    return []


def judge_precisions(results: Sequence[PrecisionResult]) -> list[Finding]:
    """Finds precisions that give other tokens than float32."""
    return [
        Finding(
            "warning",
            f"{result.precision} gives {1 - result.agreement:.1%} other tokens than float32: too many to mix both; "
            "choose it for a whole corpus or not at all",
        )
        for result in results
        if result.agreement < ENOUGH_AGREEMENT
    ]


def judge_reconstruction(found: Reconstruction, signed_pixels: bool) -> list[Finding]:
    """Finds pictures that do not come back, and pixels in the wrong range."""
    here, there = ("[-1, 1]", "[0, 1]") if signed_pixels else ("[0, 1]", "[-1, 1]")
    option = "--unsigned-pixels" if signed_pixels else "--signed-pixels"
    if found.few_other >= max(LOW_PSNR, found.few_here + CLEARLY_BETTER):
        return [
            Finding(
                "failure",
                f"with pixels in {there} pictures come back at {found.few_other:.1f} dB, in {here} at "
                f"{found.few_here:.1f}: the weights were trained on {there}; load them with {option}",
            )
        ]
    if found.psnr < LOW_PSNR:
        return [
            Finding(
                "warning",
                f"pictures come back at {found.psnr:.1f} dB, photos should at 19 or more: weights, config or preset "
                "may not belong together, or the weights are not trained; look at `visent tokenizer eval --sheet`",
            )
        ]
    return []
