"""How fast JPEG tars are read: images per second of one core through the source, beside bare loops on the same tar.

The source gives the samples of an img2dataset tar (jpg, json and txt), which are decoded and cut into squares of 256
pixels as a job does ahead of its encoder. The bare loops take the jpg members alone and make the same squares, bit by
bit: with Pillow, or decoded by OpenCV; both decode with libjpeg-turbo at full size. All run in one thread on one core
and alternate in rounds; times are those of the processor, so that other work on the machine counts little. The figure
is the source's rate by that of the fastest loop, the median over the rounds.

    python benchmarks/reading.py --images 1000
    python benchmarks/reading.py --tar 00000.tar
"""

import argparse
import io
import json
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import machine
import numpy as np
from pictures import write_pictures
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipelines.examples import Look, squares
from pipelines.sources.base import Reject, Unit
from pipelines.sources.dataset import DatasetSource
from pipelines.sources.webdataset import Webdataset

SIZE = 256
LOOK = Look(dataset="benchmark", roles=("image",), annotate=(), preset="crop", size=SIZE)
Squares = Iterator[np.ndarray]


def main() -> None:
    """Runs the benchmark and stores its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="in the tar that is made")
    parser.add_argument("--tar", type=Path, help="read this one instead")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "00000.tar" if arguments.tar is None else arguments.tar.absolute()
        if arguments.tar is None:
            make(tar, arguments.images)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        cv2.setNumThreads(1)
        results = compare(tar, arguments.rounds)
    table = Table("figure", "value", title=f"reading JPEG tars, squares of {SIZE}")
    for name, value in results.items():
        table.add_row(name, f"{value:,.3f}" if isinstance(value, float) else str(value))
    Console().print(table)
    machine.save("reading", results)


def make(path: Path, images: int) -> None:
    """Writes a tar as img2dataset does: three members for each picture."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        write_pictures(Path(folder), images)
        for number, file in enumerate(sorted(Path(folder).rglob("*.jpg"))):
            key, caption = f"{number:09d}", f"picture {number}"
            notes = {"caption": caption, "url": f"https://example.org/{number}.jpg", "key": key, "status": "success",
                     "width": 0, "height": 0, "exif": "{}", "sha256": "0" * 64}  # fmt: skip
            contents = {"jpg": file.read_bytes(), "txt": caption.encode(), "json": json.dumps(notes).encode()}
            for ending, content in contents.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size, info.mtime = len(content), time.time()
                tar.addfile(info, io.BytesIO(content))


def compare(tar: Path, rounds: int) -> dict[str, Any]:
    """Alternates between the source and the bare loops, after a look that all make the same squares."""
    ways: dict[str, Callable[[Path], Squares]] = {"source": source, "pillow": pillow, "opencv": opencv}
    count = 0
    for ours, *others in zip(*(way(tar) for way in ways.values()), strict=True):
        count += 1
        for name, other in zip(list(ways)[1:], others, strict=True):
            if not np.array_equal(ours, other):
                raise SystemExit(f"picture {count}: the source and {name} make different squares")
    rates = [{name: count / _seconds(way, tar) for name, way in ways.items()} for _ in range(rounds)]
    ratios = [rate["source"] / max(rate[name] for name in rate if name != "source") for rate in rates]
    return {
        "images": count,
        "bytes_per_image": tar.stat().st_size / count,
        **{f"{name}_images_per_second": statistics.median(rate[name] for rate in rates) for name in ways},
        "ratio": statistics.median(ratios),
        "ratio_of_each_round": [round(ratio, 3) for ratio in ratios],
    }


def _seconds(way: Callable[[Path], Squares], tar: Path) -> float:
    started = time.thread_time()
    for _ in way(tar):
        pass
    return time.thread_time() - started


def source(tar: Path) -> Squares:
    """Reads the tar as `visent tokenize webdataset` does, in one thread."""
    found = DatasetSource(name="webdataset", dataset=Webdataset(root=str(tar.parent)), items_per_unit=1)
    items = [item for item in found.listing()[0] if item.files["tar"] == tar.name]
    for example in found.examples(Unit(id="benchmark", split="train", items=tuple(items))):
        made = example if isinstance(example, Reject) else squares(example, LOOK, range(1))
        if isinstance(made, Reject):
            raise SystemExit(f"{made.key} was rejected: {made.reason}")
        yield made[0].pictures["image"][0]


def pillow(tar: Path) -> Squares:
    """Decodes and resizes with Pillow alone."""
    for content in _jpegs(tar):
        yield np.asarray(_cut(Image.open(io.BytesIO(content)).convert("RGB")))


def opencv(tar: Path) -> Squares:
    """Decodes with OpenCV, resizes with Pillow."""
    for content in _jpegs(tar):
        yield np.asarray(_cut(Image.fromarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB))))


def _cut(picture: Image.Image) -> Image.Image:
    """Resizes the short side to the square's and cuts the middle, in one step; margins are whole scaled pixels."""
    width, height = picture.size
    short = min(width, height)
    scaled = [SIZE * side // short for side in (width, height)]
    left, top = (round((side - SIZE) / 2) for side in scaled)
    x, y = width / scaled[0], height / scaled[1]
    box = (left * x, top * y, (left + SIZE) * x, (top + SIZE) * y)
    return picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)


def _jpegs(path: Path) -> Iterator[bytes]:
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.endswith(".jpg"):
                content = tar.extractfile(member)
                assert content is not None
                yield content.read()


if __name__ == "__main__":
    main()
