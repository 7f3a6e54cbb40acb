"""What several worker processes gain when each has a device of its own: wall time with a tokenizer that sleeps.

    python benchmarks/workers.py [--pictures 2400] [--sleep-ms 25]

Each worker's tokenizer sleeps a fixed time for each picture, one batch at a time, in place of computing; all else is
the job as it is: listing, Beam, reading, decoding, cutting, batches, shards, receipts, facts. So what is missing from
the ideal is what the pipeline costs. A worker is counted from when it has its tokenizer (start-up apart) to the end
of the whole job, and the ideal is pictures x sleep / workers. In the same run, one process sleeps through as many
batches and does nothing else: the limit that the system's own clock sets.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import machine
from rich.console import Console
from rich.table import Table

from manifests.dataset import load_facts
from pipelines.worklog import read_logs
from tokenizer.testing import tiny_tokenizer_dir

WORKERS = (1, 2, 4)
PER_SHARD = 50
REQUIRED = 0.9  # of the ideal
SLEEPING = Path(__file__).with_name("sleeping")


def main() -> None:
    """Runs the job with each number of workers, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2400, help="a multiple of 200, so that all workers get as many")
    parser.add_argument("--sleep-ms", type=float, default=25.0, help="for each picture")
    arguments = parser.parse_args()
    assert arguments.pictures % (PER_SHARD * max(WORKERS)) == 0, "give a multiple of 200"
    sleep = arguments.sleep_ms / 1000
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_pictures(root / "in", arguments.pictures)
        tokenizer = str(tiny_tokenizer_dir(root))
        runs = {workers: job(root, tokenizer, workers, arguments.pictures, sleep) for workers in WORKERS}
    bare = slept(arguments.pictures, sleep)
    same = len({tuple(run.pop("shards")) for run in runs.values()}) == 1
    one = runs[1]["pictures_per_second"]
    for workers, run in runs.items():
        run["scaling"] = run["pictures_per_second"] / one / workers
    results = {
        "pictures": arguments.pictures,
        "sleep_ms": arguments.sleep_ms,
        "bare_of_ideal": bare,
        "required": REQUIRED,
        "same_shards": same,
        "workers": {str(workers): run for workers, run in runs.items()},
    }
    show(results)
    machine.save("workers", results)
    assert same, "other shards with another number of workers"
    worst = min(min(run["of_ideal"], run["scaling"]) for run in runs.values())
    sys.exit(f"{worst:.3f} of ideal, expected {REQUIRED}" if worst < REQUIRED else 0)


def write_pictures(folder: Path, count: int) -> None:
    """Writes small JPEG files: what decoding costs is measured elsewhere (benchmarks/pipeline.py)."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        noise = Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).resize((48, 40))
        noise.save(folder / f"{number:05d}.jpg")


def job(root: Path, tokenizer: str, workers: int, pictures: int, sleep: float) -> dict[str, Any]:
    """Tokenizes the pictures with so many worker processes."""
    out = root / f"with-{workers}" / "d"
    command = [sys.executable, "-m", "visent", "tokenize", "folder", str(root / "in"), "--out", str(out),
               "--tokenizer", tokenizer, "--items-per-shard", str(PER_SHARD), "--",
               "--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]  # fmt: skip
    path = os.pathsep.join([str(SLEEPING), str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "VISENT_BENCHMARK_SLEEP": str(sleep), "JAX_PLATFORMS": "cpu"}
    began = time.time()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    facts, logs = load_facts(str(out)), list(read_logs(str(out)).values())
    assert sum(shard.rows for shard in facts.shards) == pictures
    ended = (out / "dataset.json").stat().st_mtime
    ready = {log.pid: min(own.started for own in logs if own.pid == log.pid) for log in logs}
    assert len(ready) == workers, f"{len(ready)} of {workers} workers got any work"
    there = sum(ended - start for start in ready.values())  # seconds that workers were there, together
    return {
        "wall_seconds": time.time() - began,
        "start_up_seconds": max(ready.values()) - began,
        "pictures_per_second": pictures / (there / workers),
        "of_ideal": pictures * sleep / there,
        "shards": [shard.sha256 for shard in facts.shards],
    }


def slept(pictures: int, sleep: float) -> float:
    """Returns which part of its time a bare loop over as many batches sleeps as it should."""
    from tokenizer.tokenizer import CPU_BATCH_SIZE

    began = time.monotonic()
    for start in range(0, pictures, CPU_BATCH_SIZE):
        time.sleep(sleep * min(CPU_BATCH_SIZE, pictures - start))
    return pictures * sleep / (time.monotonic() - began)


def show(results: dict[str, Any]) -> None:
    """Prints the table."""
    title = f"{results['pictures']} pictures, {results['sleep_ms']:g} ms each"
    table = Table("workers", "wall s", "start-up s", "images/s", "of ideal", "scaling", title=title)
    for workers, run in results["workers"].items():
        names = ("wall_seconds", "start_up_seconds", "pictures_per_second")
        ratios = (f"{run[name]:.3f}" for name in ("of_ideal", "scaling"))
        table.add_row(workers, *(f"{run[name]:.1f}" for name in names), *ratios)
    Console().print(table)
    Console().print(f"a bare loop that sleeps: {results['bare_of_ideal']:.3f} of ideal; same shards: "
                    f"{results['same_shards']}")  # fmt: skip


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
