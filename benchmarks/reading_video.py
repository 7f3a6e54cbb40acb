"""How fast videos are read: frames per second through the source, beside a bare loop of PyAV on the same files.

The source decodes each file once, samples every frame and makes squares of 256 pixels, as a job does ahead of its
encoder. The bare loop decodes with the same threads, converts with `to_ndarray("rgb24")`, and makes such squares. The
two alternate in rounds; a ratio is the median over the rounds. Each is done on all cores and on a single one.

    python benchmarks/reading_video.py
    python benchmarks/reading_video.py kinetics/val/*.mp4
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import av
import machine
import numpy as np
from pictures import photos
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipelines.examples import Look, Squares, squares
from pipelines.prefetch import ahead
from pipelines.sources.base import Example, Item, Reject, Unit
from pipelines.sources.dataset import DatasetSource
from pipelines.sources.videos import Videos
from tokenizer.images import prepare

SIZE = 256
LOOK = Look(dataset="benchmark", roles=("frames",), annotate=(), preset="crop", size=SIZE)
MADE = {  # name -> encoder, its options, width and height
    "h264.mp4": ("libx264", {"preset": "medium", "crf": "23"}, (340, 256)),
    "h264-720.mp4": ("libx264", {"preset": "medium", "crf": "23"}, (1280, 720)),
    "mpeg4.avi": ("mpeg4", {"qmin": "3", "qmax": "5"}, (320, 240)),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "33", "b": "0"}, (426, 240)),
}
RATE = 30  # frames per second of the made clips


def main() -> None:
    """Runs the benchmark and stores its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="videos to read; without any, clips are made")
    parser.add_argument("--seconds", type=int, default=10, help="of each made clip")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = arguments.files or [make(Path(folder) / name, arguments.seconds) for name in MADE]
        results = {path.name: compare(path.absolute(), arguments.rounds) for path in files}
    table = Table("file", "frames", "cores", "bare/s", "source/s", "ratio", title=f"reading video, squares of {SIZE}")
    for name, found in results.items():
        for cores in ("one core", "all cores"):
            bare, source, ratio = (found[cores][key] for key in ("bare", "source", "ratio"))
            table.add_row(name, str(found["frames"]), cores, f"{bare:,.0f}", f"{source:,.0f}", f"{ratio:.2f}")
    Console().print(table)
    machine.save("reading_video", results)


def make(path: Path, seconds: int) -> Path:
    """Encodes a clip of slow camera movements over photos, two seconds each."""
    encoder, options, size = MADE[path.name]
    pictures = [np.asarray(Image.open(photo).convert("RGB")) for photo in photos()]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=RATE, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(seconds * RATE):
            shot, moment = divmod(number, 2 * RATE)
            shown = _view(Image.fromarray(pictures[shot % len(pictures)]), moment / (2 * RATE), size)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(shown), format="rgb24")))
        container.mux(stream.encode())
    return path


def _view(photo: Image.Image, moment: float, size: tuple[int, int]) -> Image.Image:
    """Shows a part of a photo that moves and grows from moment 0 to 1."""
    scale = min(photo.width / size[0], photo.height / size[1]) * (0.6 + 0.3 * moment)
    width, height = size[0] * scale, size[1] * scale
    left, top = moment * (photo.width - width), (1 - moment) * (photo.height - height)
    return photo.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))


def compare(path: Path, rounds: int) -> dict[str, Any]:
    """Measures on one core and on all, each in a process of its own, as threads keep the cores they began with."""
    every = os.sched_getaffinity(0)
    results: dict[str, Any] = {"frames": bare(path)}  # which also warms the disk's cache
    for name, cores in (("one core", {min(every)}), ("all cores", every)):
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawned, initializer=os.sched_setaffinity, initargs=(0, cores)) as process:
            results[name] = process.submit(alternate, path, rounds).result()
    return results


def alternate(path: Path, rounds: int) -> dict[str, float]:
    """Reads a file by the bare loop and through the source in turn; returns frames per second and their ratio."""
    through_source(path)  # starts its threads
    pairs = [(_rate(bare, path), _rate(through_source, path)) for _ in range(rounds)]
    return {
        "bare": statistics.median(slow for slow, _ in pairs),
        "source": statistics.median(fast for _, fast in pairs),
        "ratio": statistics.median(fast / slow for slow, fast in pairs),
    }


def _rate(read: Callable[[Path], int], path: Path) -> float:
    started = time.monotonic()
    return read(path) / (time.monotonic() - started)


def bare(path: Path) -> int:
    """Decodes with PyAV and makes squares; returns the frames."""
    count = 0
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            prepare(frame.to_ndarray(format="rgb24"), LOOK.preset, SIZE)
            count += 1
    return count


def through_source(path: Path) -> int:
    """Reads a unit of one video as a job does, up to the encoder; returns the frames."""
    source = DatasetSource(name="videos", dataset=Videos(root=str(path.parent), fps=0.0), items_per_unit=1)
    unit = Unit(id="one", split="train", items=(Item(key=path.stem, files={"video": path.name}),))
    count = 0
    for made in ahead(source.examples(unit), partial(_squares, views=(0,)), _bytes_held):
        if isinstance(made, Reject):
            sys.exit(f"{path}: {made.reason}: {made.detail}")
        count += sum(len(one.pictures["frames"]) for one in made)
    return count


def _squares(example: Example | Reject, views: Sequence[int]) -> list[Squares] | Reject:
    return example if isinstance(example, Reject) else squares(example, LOOK, views)


def _bytes_held(example: Example | Reject) -> int:
    return 0 if isinstance(example, Reject) else sum(frame.nbytes for frame in example.media["frames"])


if __name__ == "__main__":
    main()
