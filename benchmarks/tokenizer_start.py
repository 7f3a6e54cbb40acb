"""Seconds from the command to the first batch of codes, with and without JAX's compilation cache.

python benchmarks/tokenizer_start.py [--tokenizer default] [--repeats 3]

Each measurement is a new process that imports visent, loads the tokenizer and encodes one batch. The cache is JAX's own
(JAX_COMPILATION_CACHE_DIR), empty for the first process that has it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import save
from rich.console import Console
from rich.table import Table

ENCODE_ONE_BATCH = """
import sys, time
import numpy as np
start = time.perf_counter()
from tokenizer.load import load
tokenizer = load(sys.argv[1])
loaded = time.perf_counter()
size = tokenizer.card.image_size
codes = tokenizer.encode(np.zeros((tokenizer.batch_size, size, size, 3), np.uint8))
print("[%f, %f]" % (loaded - start, time.perf_counter() - loaded))
"""


def start(tokenizer: str, cache: Path | None) -> dict[str, float]:
    """Starts a process and returns the seconds to import and load, of the first batch, and of all."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    if cache is not None:
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        }
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", ENCODE_ONE_BATCH, tokenizer], env=environment, check=True, capture_output=True, text=True
    )
    total = time.perf_counter() - began
    load, first = json.loads(done.stdout)
    return {"load": load, "first_batch": first, "all": total}


def main() -> None:
    """Measures and stores the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", default="default")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        runs = {
            "no cache": [start(options.tokenizer, None) for _ in range(options.repeats)],
            "cache, empty": [start(options.tokenizer, cache)],
            "cache, filled": [start(options.tokenizer, cache) for _ in range(options.repeats)],
        }
    table = Table("", "import and load s", "first batch s", "from the command s", title=options.tokenizer)
    results = {}
    for name, times in runs.items():
        results[name] = {key: statistics.median(one[key] for one in times) for key in times[0]}
        table.add_row(name, *(f"{results[name][key]:.2f}" for key in ("load", "first_batch", "all")))
    Console().print(table)
    save("tokenizer_start", {"tokenizer": options.tokenizer, "seconds": results})


if __name__ == "__main__":
    main()
