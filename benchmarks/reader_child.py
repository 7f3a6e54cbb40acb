"""Measures of one reader in a process of its own: `reader.py` starts it, and reads the line of JSON that it prints.

    python reader_child.py LOCK STAGE SENTENCES BATCHES

Times count from before the lock is parsed; imports are apart. Memory is the kernel's: `RssAnon` of /proc/self/status is
what the process allocated, `RssFile` what it touched of mapped files, which is page cache that the kernel takes back
when it needs it; the peak is over samples after each batch, `VmHWM` is the kernel's own peak of both together.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

STARTED = time.perf_counter()

from manifests.columns import default_cache  # noqa: E402
from manifests.corpus import Corpus  # noqa: E402
from manifests.lock import load_lock  # noqa: E402


def memory(name: str) -> float:
    """Returns a line of /proc/self/status in MiB, 0 where the system has none."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)


def main() -> None:
    """Reads batches of a stage, and prints what was measured."""
    path, stage, sentences, batches = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    result = {"imports, s": time.perf_counter() - STARTED, "imports, MiB anonymous": memory("RssAnon")}
    anonymous, mapped = [], []
    began = time.perf_counter()
    lock = load_lock(path)
    result["lock, s"] = time.perf_counter() - began
    corpus = Corpus(lock)
    for step in range(batches):
        codes, _ = corpus.sentences(stage, np.arange(step * sentences, (step + 1) * sentences), 0)
        assert codes.shape == (sentences, lock.stages[stage].context)
        if not step:
            result["first batch, s"] = time.perf_counter() - began
            result["columns decoded"] = len(list(default_cache().glob("*.images.npy")))
        anonymous.append(memory("RssAnon"))
        mapped.append(memory("RssFile"))
    result["shards listed"] = sum(len(dataset.shards) for dataset in lock.datasets.values())
    result["peak anonymous, MiB"], result["peak mapped, MiB"] = max(anonymous), max(mapped)
    result["peak of both (VmHWM), MiB"] = memory("VmHWM")
    result["batches, s"] = time.perf_counter() - began
    print(json.dumps(result))


if __name__ == "__main__":
    main()
