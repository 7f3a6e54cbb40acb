"""What round trips leave of pictures and label maps, for one tokenizer or several, beside a thumbnail of that grid.

python benchmarks/tokenizer_quality.py --photos DIR... --labels DIR... [--tokenizer default OTHER...]

Name folders that no tokenizer was trained on. The thumbnail keeps one colour of 24 bits where the tokenizer keeps one
code, and is enlarged again: what a code is worth shows beside it.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from machine import save
from PIL import Image
from rich.console import Console
from rich.table import Table

from tokenizer.images import decode_image, prepare
from tokenizer.judging import judge_labels, judge_pictures
from tokenizer.listing import ImageFile, Reject, list_images, read_batches
from tokenizer.load import load
from tokenizer.quality import psnr
from tokenizer.sheet import Sheet


def thumbnail(square: UInt8[np.ndarray, "s s 3"], grid: int) -> UInt8[np.ndarray, "s s 3"]:
    """Returns the square as `grid` x `grid` colours can show it."""
    image = Image.fromarray(square)
    small = image.resize((grid, grid), Image.Resampling.BOX)
    return np.array(small.resize(image.size, Image.Resampling.BICUBIC))


def thumbnail_psnr(files: list[ImageFile], size: int, grid: int) -> float:
    """Returns the mean over pictures, in dB."""
    values: list[float] = []
    for batch in read_batches("thumbnails", files, lambda data: prepare(decode_image(data), "crop", size), [], 8):
        squares = np.stack([square for _, square in batch])
        values.extend(psnr(squares, np.stack([thumbnail(square, grid) for square in squares])))
    return float(np.mean(values))


def measure(name: str, photos: list[ImageFile], labels: list[ImageFile]) -> dict[str, Any]:
    """Returns the figures of one tokenizer."""
    tokenizer, rejects = load(name), list[Reject]()
    card = tokenizer.card
    result: dict[str, Any] = {"tokenizer": card.name, "fingerprint": card.fingerprint}
    if photos:
        quality = judge_pictures(tokenizer, photos, Sheet(0), rejects)
        floor = thumbnail_psnr(photos, card.image_size, card.grid)
        result["pictures"] = dataclasses.asdict(quality) | {"thumbnail_psnr": floor}
    if labels:
        _, found = judge_labels(tokenizer, labels, Sheet(0), rejects, None)
        result["labels"] = {"maps": len(labels), "classes": found.classes, "miou": found.miou, "right": found.accuracy}
    return result | {"rejected": len(rejects)}


def main() -> None:
    """Measures and stores the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", nargs="*", type=Path, default=[])
    parser.add_argument("--labels", nargs="*", type=Path, default=[])
    parser.add_argument("--tokenizer", nargs="+", default=["default"])
    options = parser.parse_args()
    if not options.photos + options.labels:
        parser.error("name folders with --photos or --labels")
    photos, labels = (list_images(folders) if folders else [] for folders in (options.photos, options.labels))
    results = [measure(name, photos, labels) for name in options.tokenizer]
    table = Table(
        "tokenizer", "pictures", "PSNR dB", "thumbnail", "SSIM", "codes in use", "label maps", "mIoU", "right"
    )
    for found in results:
        of_pictures, of_labels = found.get("pictures", {}), found.get("labels", {})
        table.add_row(
            found["tokenizer"],
            *(f"{of_pictures[key]:.{digits}f}" if of_pictures else "" for key, digits in
              (("images", 0), ("psnr", 2), ("thumbnail_psnr", 2), ("ssim", 3), ("usage", 3))),
            *(f"{of_labels[key]:.{digits}f}" if of_labels else "" for key, digits in
              (("maps", 0), ("miou", 3), ("right", 3))),
        )  # fmt: skip
    Console().print(table)
    save("tokenizer_quality", {"tokenizers": results})


if __name__ == "__main__":
    main()
