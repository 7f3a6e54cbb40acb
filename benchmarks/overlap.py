"""How busy one worker keeps an accelerator: reading, decoding, drawing and writing beside a tokenizer that sleeps.

    python benchmarks/overlap.py [--pictures 1536] [--rates 100,200,400]

The tokenizer sleeps as long for a batch of 64 as an accelerator of the given rate would take, and computes nothing;
all else is a worker's own work on a unit (`pipelines.units`): JPEG files read, decoded, cut, edges drawn, rows written,
the shard published. The limit is the time that the batches alone take. The same work step by step, with nothing
beside anything else, says what overlapping gains. "two units" are two threads of a worker, each with half of the
pictures: one fills its first batch while the other ends its shard.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import machine
import numpy as np
from pictures import write_pictures
from rich.console import Console
from rich.table import Table

from manifests.schema import Row
from manifests.shards import ShardWriter
from pipelines.encoder import Encoder
from pipelines.examples import squares
from pipelines.job import Job, Work, units_of
from pipelines.meter import Meter
from pipelines.sources.base import Example
from pipelines.sources.folder import FolderSource
from pipelines.units import tokenize_unit
from tokenizer.load import load

BATCH = 64
ROLES = 2  # the picture and its edges
UNIT = 512  # pictures


def main() -> None:
    """Measures every rate in three ways, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1536)
    parser.add_argument("--rates", default="100,200,400", help="images/s of the accelerator")
    arguments = parser.parse_args()
    rates = [float(rate) for rate in arguments.rates.split(",")]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_pictures(root / "in", arguments.pictures)
        ways = {"one unit": (1, one_after_the_other), "two units": (2, at_once), "no overlap": (1, step_by_step)}
        results = [
            {"rate": rate, "way": way, **measure(root / f"{rate:g}-{way}", root / "in", rate, run, threads)}
            for rate in rates
            for way, (threads, run) in ways.items()
        ]
    show(results)
    machine.save("overlap", {"pictures": arguments.pictures, "unit": UNIT, "batch": BATCH, "runs": results})


def measure(out: Path, source: Path, rate: float, run: Any, threads: int) -> dict[str, Any]:
    """Makes all units in one way; the wall time begins when the tokenizer is there."""
    out.mkdir(parents=True)
    listed = FolderSource(paths=(str(source),), items_per_unit=UNIT // threads)
    job = Job(out=str(out), name="overlap", source=listed, annotate=("edge",))
    works, encoder, meter = (
        [Work(unit=unit) for unit in units_of(job, job.source.listing()[0])],
        sleeping(rate),
        Meter(),
    )
    began = time.perf_counter()
    run(job, works, encoder, meter)
    wall = time.perf_counter() - began
    return {
        "wall_seconds": wall,
        "pictures": encoder.pictures,
        "of_limit": encoder.pictures / rate / wall,
        "encoder_busy": encoder.clock.busy / wall,
        "seconds": meter.seconds,
    }


def sleeping(rate: float) -> Encoder:
    """Returns an encoder of the default tokenizer that sleeps, one batch at a time."""
    tokenizer = load("default")
    device = threading.Lock()
    codes = np.zeros((1, tokenizer.card.tokens_per_image), np.uint16)

    def encode(images: np.ndarray) -> np.ndarray:
        with device:
            time.sleep(len(images) / rate)
        return codes.repeat(len(images), axis=0)

    tokenizer.batch_size, tokenizer.encode = BATCH, encode  # type: ignore[method-assign]
    encoder = Encoder(tokenizer)
    encoder.pictures = 0
    return encoder


def one_after_the_other(job: Job, works: Sequence[Work], encoder: Encoder, meter: Meter) -> None:
    """Makes the units as a worker of one thread does."""
    for work in works:
        tokenize_unit(job, work, "benchmark", encoder, meter)


def at_once(job: Job, works: Sequence[Work], encoder: Encoder, meter: Meter) -> None:
    """Makes the units as a worker of two threads does."""
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda work: tokenize_unit(job, work, "benchmark", encoder, meter), works))


def step_by_step(job: Job, works: Sequence[Work], encoder: Encoder, meter: Meter) -> None:
    """Reads, decodes, encodes and writes a batch before it begins the next one, in one thread."""
    for work in works:
        path = f"{job.out}/{work.file(job.format)}"
        with ShardWriter(path, job.schema, unit=work.unit.id, split=work.unit.split) as writer:
            waiting = []
            for example in meter.each("read", job.source.examples(work.unit)):
                assert isinstance(example, Example)
                made = squares(example, job.look, [0], meter)
                assert isinstance(made, list)
                waiting += made
                if len(waiting) * ROLES >= BATCH:
                    write(writer, waiting, encoder, meter)
                    waiting = []
            write(writer, waiting, encoder, meter)


def write(writer: ShardWriter, examples: Sequence[Any], encoder: Encoder, meter: Meter) -> None:
    """Encodes a batch and writes its rows."""
    if not examples:
        return
    pictures = np.concatenate([picture for one in examples for picture in one.pictures.values()])
    with meter.at("encode"):
        codes = encoder.encode(pictures)
    with meter.at("write"):
        for number, one in enumerate(examples):
            own = dict(zip(one.pictures, codes[number * ROLES :], strict=False))
            writer.append([Row(key=one.key, view=0, codes=own, meta=one.meta)])


def show(results: Sequence[dict[str, Any]]) -> None:
    """Prints the table."""
    table = Table("images/s", "way", "wall s", "of the limit", "encoder busy", "decode + draw s", "write s")
    for run in results:
        spent = run["seconds"]
        ratios = (f"{run[name]:.3f}" for name in ("of_limit", "encoder_busy"))
        decoding = f"{spent['decode'] + spent['annotate']:.1f}"
        table.add_row(f"{run['rate']:g}", run["way"], f"{run['wall_seconds']:.1f}", *ratios, decoding,
                      f"{spent['write']:.1f}")  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
