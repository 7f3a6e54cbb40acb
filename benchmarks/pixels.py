"""Writing and reading the pictures behind a dataset's codes, beside the same work by Pillow and plain PNG files.

    python benchmarks/pixels.py [--pictures 2000]

JPEG photos of 288 to 512 pixels become squares of 256. The peer is what one would write by hand: as many threads as
cores, each opens, scales and cuts a photo with Pillow and saves a PNG; reading opens these files again in threads, in
batches of 64. Files are in the page cache; best of three, but for the writing by visent: once, with all it does.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from machine import save
from pictures import write_pictures
from PIL import Image
from rich.console import Console
from rich.table import Table

from manifests.pixels import PixelStore
from pipelines.job import Job
from pipelines.pixels import make_pixels
from pipelines.sources.folder import FolderSource
from pipelines.tokenize import tokenize

BATCH, SIZE = 64, 256


def main() -> None:
    """Measures, prints a table and saves the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    count = parser.parse_args().pictures
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(os.cpu_count()) as threads:
        folder = Path(place)
        write_pictures(folder / "in", count)
        results = {"pictures": count, "pillow": pillow(folder, threads), "visent": visent(folder)}
    show(results)
    save("pixels", results)


def visent(folder: Path) -> dict[str, float]:
    """Tokenizes the photos, which is not measured, then writes and reads their pixels; rates are pictures a second."""
    source = FolderSource(paths=(str(folder / "in"),), items_per_unit=1000)
    job = Job(out=str(folder / "d"), name="d", source=source)
    tokenize(job)
    made = make_pixels(job.out, "train")
    store = PixelStore.open(job.out, "train")
    rates = {name: best(lambda batch: store.read("image", batch), batches) for name, batches in orders(made.rows)}
    return {"write": made.pictures / made.seconds, **rates, "bytes": made.bytes / made.pictures}


def pillow(folder: Path, threads: ThreadPoolExecutor) -> dict[str, float]:
    """The same by hand."""
    photos = sorted((folder / "in").rglob("*.jpg"))
    files = [folder / "png" / f"{photo.stem}.png" for photo in photos]
    files[0].parent.mkdir()
    started = time.perf_counter()
    list(threads.map(_square, photos, files))
    write = len(files) / (time.perf_counter() - started)

    def read(batch: np.ndarray) -> np.ndarray:
        return np.stack(list(threads.map(lambda at: np.asarray(Image.open(files[at])), batch)))

    rates = {name: best(read, batches) for name, batches in orders(len(files))}
    return {"write": write, **rates, "bytes": sum(file.stat().st_size for file in files) / len(files)}


def _square(photo: Path, file: Path) -> None:
    picture = Image.open(photo).convert("RGB")
    scale = min(picture.size) / SIZE
    left, top = ((side - SIZE * scale) / 2 for side in picture.size)
    box = (left, top, left + SIZE * scale, top + SIZE * scale)
    picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box).save(file, compress_level=1)


def orders(count: int) -> Iterable[tuple[str, list[np.ndarray]]]:
    """Yields batches of rows in their order and in a random one."""
    for name, rows in (("in order", np.arange(count)), ("at random", np.random.default_rng(0).permutation(count))):
        yield name, [rows[start : start + BATCH] for start in range(0, count, BATCH)]


def best(read: Callable[[np.ndarray], Any], batches: list[np.ndarray]) -> float:
    """Returns pictures a second, best of three."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        for batch in batches:
            read(batch)
        seconds.append(time.perf_counter() - started)
    return sum(map(len, batches)) / min(seconds)


def show(results: dict[str, Any]) -> None:
    """Prints the rates."""
    names = list(results["visent"])
    table = Table("", *names, title=f"pictures a second, and bytes of one; {results['pictures']:,} pictures")
    for who in ("visent", "pillow"):
        table.add_row(who, *(f"{results[who][name]:,.0f}" for name in names))
    Console().print(table)


if __name__ == "__main__":
    main()
