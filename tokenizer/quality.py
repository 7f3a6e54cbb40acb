"""How good a tokenizer is: PSNR of round trips, and how evenly the codebook is used."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8, UInt16
from PIL import Image, ImageDraw

from tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Figures of one set of images."""

    images: int
    psnr: float  # dB, mean over images
    usage: float  # part of the codebook that occurs, 0..1
    perplexity: float  # codes in use if all were equally frequent, 1..codebook_size


def psnr(a: UInt8[np.ndarray, "n h w 3"], b: UInt8[np.ndarray, "n h w 3"]) -> Float64[np.ndarray, "n"]:
    """Returns the peak signal-to-noise ratio of each pair in dB; equal images give infinity."""
    errors = ((a.astype(np.float64) - b) ** 2).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255**2 / errors))


def usage(codes: UInt16[np.ndarray, "n t"], codebook_size: int) -> tuple[float, float]:
    """Returns which part of the codebook occurs, and the perplexity (exp of the entropy) of its use."""
    counts = np.bincount(codes.reshape(-1), minlength=codebook_size)
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float((counts > 0).mean()), float(np.exp(-(shares * np.log(shares)).sum()))


def judge(tokenizer: Tokenizer, images: UInt8[np.ndarray, "n s s 3"]) -> Quality:
    """Measures a round trip of the images; usage can only be near 1 when there are many more codes than entries."""
    codes = tokenizer.encode(images)
    used, perplexity = usage(codes, tokenizer.card.codebook_size)
    return Quality(
        images=len(images),
        psnr=float(psnr(images, tokenizer.decode(codes)).mean()),
        usage=used,
        perplexity=perplexity,
    )


def round_trip_sheet(tokenizer: Tokenizer, images: UInt8[np.ndarray, "n s s 3"], columns: int = 8) -> Image.Image:
    """Draws each image above its reconstruction, with its PSNR in dB."""
    again = tokenizer.decode(tokenizer.encode(images))
    side, caption = tokenizer.card.image_size, 14
    height = 2 * side + caption + 4
    columns = max(1, min(columns, len(images)))
    sheet = Image.new("RGB", (columns * (side + 4), -(-len(images) // columns) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (before, after, value) in enumerate(zip(images, again, psnr(images, again), strict=True)):
        x, y = i % columns * (side + 4), i // columns * height
        sheet.paste(Image.fromarray(before), (x, y))
        sheet.paste(Image.fromarray(after), (x, y + side))
        draw.text((x + 2, y + 2 * side + 1), f"{value:.1f} dB", fill="black")
    return sheet
