"""From the command to the first step, and the time that training waits for its batches.

python benchmarks/start.py [--model 300m] [--batch 8]

Runs `visent train` over a corpus of random codes three times: with an empty cache of compiled programs, again with what
that left there, and for some steps more. The first two are timed from the command to the end of their one step, less
the median of the third's steps; input wait is the third's, as its metrics.jsonl has it, after the first line.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import machine
from rich.console import Console
from rich.table import Table

from manifests.testing import TINY_CARD, write_random_dataset

MANIFEST = """\
version = 1
[datasets]
photos = "photos"
[tasks.photos]
dataset = "photos"
kind = "single"
sentence = ["image"]
[stages.images]
context = 256
share = { photos = 1.0 }
"""


CARD = dataclasses.replace(TINY_CARD, image_size=256, grid=16, codebook_size=8192)


def main() -> None:
    """Measures, prints a table and stores the results."""
    on_cpu = jax.default_backend() == "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="300m")
    parser.add_argument("--batch", type=int, default=1 if on_cpu else 256)
    parser.add_argument("--steps", type=int, default=6 if on_cpu else 100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random_dataset(str(folder / "photos"), {"image": "still"}, examples={"train": 2000}, card=CARD,
                             rows_per_shard=500)  # fmt: skip
        (folder / "manifest.toml").write_text(MANIFEST)
        cold, warm = (run(folder, f"one-{i}", 1, options)[0] for i in range(2))
        _, lines = run(folder, "more", options.steps, options)
    tokens = options.batch * 256
    step = statistics.median(tokens / line["tokens_per_second"] for line in lines[1:])
    wait = statistics.median(line["input_wait"] for line in lines[1:])
    table = Table("what", "value", title=f"{options.model}, {options.batch} x 256")
    table.add_row("to the first step, nothing compiled before", f"{cold - step:.1f} s")
    table.add_row("to the first step, compiled before", f"{warm - step:.1f} s")
    table.add_row("a step", f"{step:.2f} s")
    table.add_row("of it waiting for the batch", f"{wait:.2%}")
    Console().print(table)
    facts = {"device": jax.devices()[0].device_kind, "model": options.model, "tokens": tokens}
    machine.save("start", {**facts, "first_step_cold_seconds": cold - step, "first_step_warm_seconds": warm - step,
                           "step_seconds": step, "input_wait": wait})  # fmt: skip


def run(folder: Path, name: str, steps: int, options: argparse.Namespace) -> tuple[float, list[dict]]:
    """Returns the seconds of a training run whose checkpoint is left out, and its lines of metrics."""
    stage = {"steps": steps, "warmup_steps": 0, "batch_sentences": options.batch}
    changes = [f"stages.images.{key}={value}" for key, value in stage.items()]
    changes += ["stages.sequences.steps=0", "log_every=1"]
    command = [sys.executable, "-m", "visent", "train", "tiny", "--model", options.model, "-m",
               str(folder / "manifest.toml"), "--out", str(folder / name)]  # fmt: skip
    for change in changes:
        command += ["--set", change]
    began = time.monotonic()
    cache = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    process = subprocess.Popen(command, env=cache)
    metrics = folder / name / "metrics.jsonl"
    while not metrics.exists() and process.poll() is None:
        time.sleep(0.05)
    seconds = time.monotonic() - began
    if process.wait():
        raise SystemExit("training failed: its message stands above")
    return seconds, [json.loads(line) for line in metrics.read_text().splitlines()]


if __name__ == "__main__":
    main()
