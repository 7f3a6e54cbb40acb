"""The precision ladder: images/s of each precision, and the part of the tokens that equals those of float32.

python benchmarks/tokenizer_precision.py [--photos DIR...] [--tokenizer default OTHER...] [--f16]

The photos are those of the extra `demo` unless folders are named. --f16 adds the papers' network with random weights.
The one to take is the fastest that keeps 99 % of the tokens.
"""

import argparse
import dataclasses
import functools
import statistics
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from machine import save
from pictures import write_pictures
from rich.console import Console
from rich.table import Table
from tokenizer_f16 import seconds, share

from tokenizer.checkpoints.network import read_out
from tokenizer.images import decode_image, prepare
from tokenizer.listing import list_images, read_batches
from tokenizer.load import load
from tokenizer.precision import PRECISIONS
from tokenizer.tokenizer import Tokenizer

ENOUGH = 0.99  # of the tokens
ROUNDS = 3


def photos(folders: list[Path], count: int) -> UInt8[np.ndarray, "n 256 256 3"]:
    """Returns squares of the first pictures of the folders, or of the demo's photos."""
    with tempfile.TemporaryDirectory() as name:
        if not folders:
            write_pictures(Path(name), count)
        files = list_images(folders or [Path(name)])[:count]
        batches = read_batches("photos", files, lambda data: prepare(decode_image(data), "crop", 256), [], 8)
        return np.stack([square for batch in batches for _, square in batch])


def ladder(tokenizer: Tokenizer, images: UInt8[np.ndarray, "n 256 256 3"]) -> list[dict[str, Any]]:
    """Measures every precision, in turns; the first is float32."""
    batch = min(tokenizer.batch_size, len(images))
    rungs = {
        name: Tokenizer(tokenizer.model, dataclasses.replace(tokenizer.card, precision=name), batch)
        for name in PRECISIONS
    }
    codes = {name: rung.encode(images) for name, rung in rungs.items()}
    times: dict[str, list[float]] = {name: [] for name in rungs}
    for _ in range(ROUNDS):
        for name, rung in rungs.items():
            times[name].append(seconds(functools.partial(rung.encode, images)))
    return [
        {
            "precision": name,
            "images_per_s": len(images) / statistics.median(times[name]),
            "agreement": float((codes[name] == codes["float32"]).mean()),
        }
        for name in rungs
    ]


def main() -> None:
    """Measures and stores the ladders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", nargs="*", type=Path, default=[])
    parser.add_argument("--tokenizer", nargs="*", default=["default"])
    parser.add_argument("--f16", action="store_true")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--f16-images", type=int, default=8 if jax.default_backend() == "cpu" else 512)
    options = parser.parse_args()
    images = photos(options.photos, max(options.images, options.f16_images))
    rows = {name: ladder(load(name), images[: options.images]) for name in options.tokenizer}
    if options.f16:
        some = images[: options.f16_images]
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = read_out(model := share(Path(folder), some), "float32")
        rows["f16-8192, random"] = ladder(
            Tokenizer(model, checkpoint.card(name="f16", preset="crop", precision="float32", about={})), some
        )
    table = Table("tokenizer", "precision", "images/s", "tokens as in float32", "")
    for name, rungs in rows.items():
        best = max((rung for rung in rungs if rung["agreement"] >= ENOUGH), key=lambda rung: rung["images_per_s"])
        for rung in rungs:
            mark = "fastest with 99 %" if rung is best else ""
            table.add_row(name, rung["precision"], f"{rung['images_per_s']:.2f}", f"{rung['agreement']:.2%}", mark)
    Console().print(table)
    save("tokenizer_precision", {"backend": jax.default_backend(), "photos": len(images), "ladders": rows})


if __name__ == "__main__":
    main()
