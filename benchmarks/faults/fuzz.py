"""Reads thousands of damaged files of every format that sources and commands read, and counts what becomes of them.

    python -m benchmarks.faults.fuzz --files 10000 --samples ../shared/samples
    python -m benchmarks.faults.fuzz --target webdataset --number 17      one of them again, and its file kept

Each file is a real one, damaged by seed: bits flipped, cut, doubled, spliced with another format, lengths that lie,
values that lie. It is read by the real source, decoded and cut to squares, or verified, resolved or loaded, in a child
process with a limit of time and of memory. Good ends are rows, rejects with a reason, and errors of one line. Bad ends
are tracebacks, crashes, hangs, too much memory, files opened outside of the root, and anything run out of a pickle.
"""

import argparse
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from benchmarks.faults.readers import load_targets
from benchmarks.faults.seeds import write_targets

ROOT = Path(__file__).resolve().parents[2]
GOOD = ("read", "rejected", "refused")
BAD = ("traceback", "crash", "hang", "memory", "escaped")
START_SECONDS = 300.0


class Child:
    """A process that reads damaged files; another takes its place when it dies or hangs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def ask(self, order: dict[str, str], seconds: float) -> dict[str, Any]:
        """Returns the answer, or that there was none."""
        try:
            if self._process is None:
                self._start()
            assert self._process is not None
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer = self._line(seconds)
        except (BrokenPipeError, ValueError):
            answer = ""
        if answer:
            found: dict[str, Any] = json.loads(answer)
            return found
        return self._lost(seconds)

    def _start(self) -> None:
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
                       "PYTHONPATH": str(ROOT), "VISENT_CACHE": str(self._folder / "cache")}  # fmt: skip
        errors = (self._folder / "errors.txt").open("a")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults.fuzz_child"], cwd=ROOT, env=environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._folder}\n")
        self._process.stdin.flush()
        if "ready" not in self._line(START_SECONDS):
            raise SystemExit(f"a child did not start: see {self._folder / 'errors.txt'}")

    def _line(self, seconds: float) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        return self._process.stdout.readline() if ready else ""

    def _lost(self, seconds: float) -> dict[str, Any]:
        """Says how the process was lost, and takes it away; the files it damaged are written again by the next one."""
        assert self._process is not None
        died = self._process.poll()
        if died is None and select.select([self._process.stdout], [], [], 0)[0]:
            died = self._process.wait()  # its output has ended, so it is about to
        self.stop()
        if died is None:
            return {"outcome": "hang", "detail": f"no end after {seconds:g} s", "mib": 0, "file": "", "way": ""}
        tail = (self._folder / "errors.txt").read_text(errors="replace")[-1500:]
        return {"outcome": "crash", "detail": f"exit status {died}: {tail}", "mib": 0, "file": "", "way": ""}

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def orders(names: list[str], count: int, seed: int) -> Iterator[dict[str, str]]:
    """Yields what is to be read: the targets in turn, each file damaged by a seed of its own."""
    for number in range(count):
        name = names[number % len(names)]
        yield {"target": name, "seed": f"{seed}:{name}:{number // len(names):05d}"}


def fuzz(work: Path, samples: Path | None, chosen: list[str], count: int, seed: int, children: int,
         seconds: float) -> dict[str, Any]:  # fmt: skip
    """Damages and reads `count` files; returns the counts, and every bad end."""
    whole, folders = work / "whole", [work / str(number) for number in range(children)]
    write_targets(whole, samples)
    for folder in folders:
        shutil.copytree(whole, folder)
    names = [name for name in load_targets(folders[0]) if not chosen or any(name.startswith(one) for one in chosen)]
    waiting: SimpleQueue[dict[str, str]] = SimpleQueue()
    for order in orders(names, count, seed):
        waiting.put(order)
    results: list[dict[str, Any]] = []
    started = time.monotonic()

    def work_off(folder: Path) -> None:
        child = Child(folder)
        while True:
            try:
                order = waiting.get_nowait()
            except Empty:
                break
            answer = {**order, **child.ask(order, seconds)}
            if answer["outcome"] in ("crash", "hang"):
                shutil.copytree(whole, folder, dirs_exist_ok=True)  # the damaged file still lies there
            results.append(answer)
            if len(results) % 500 == 0:
                print(f"{len(results):,} of {count:,} files, {time.monotonic() - started:.0f} s", file=sys.stderr)
        child.stop()

    threads = [threading.Thread(target=work_off, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return summary(results, seed, time.monotonic() - started)


def summary(results: list[dict[str, Any]], seed: int, seconds: float) -> dict[str, Any]:
    """Counts the ends by target and by way of damage."""
    ends = Counter(result["outcome"] for result in results)
    by_target: dict[str, Counter[str]] = {}
    for result in results:
        by_target.setdefault(result["target"], Counter())[result["outcome"]] += 1
    bad = [result for result in sorted(results, key=lambda one: one["seed"]) if result["outcome"] not in GOOD]
    return {
        "files": len(results), "seed": seed, "seconds": round(seconds, 1), "targets": len(by_target),
        "ends": {name: ends.get(name, 0) for name in (*GOOD, *BAD)}, "bad": len(bad),
        "most_mib": max((result["mib"] for result in results), default=0),
        "by_target": {name: dict(counts) for name, counts in sorted(by_target.items())}, "bad_ends": bad,
    }  # fmt: skip


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--target", action="append", default=[], help="read these alone; the beginning of a name will do"
    )
    parser.add_argument("--children", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=20.0, help="that one file may take")
    parser.add_argument("--samples", type=Path, help="a folder of real samples of the datasets")
    parser.add_argument("--out", type=Path, help="write the result here as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        result = fuzz(Path(work), given.samples, given.target, given.files, given.seed, given.children, given.seconds)
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")
    for one in result["bad_ends"][:20]:
        print(f"{one['outcome']}: {one['seed']} {one['file']} {one['way']}\n{one['detail']}\n")
    print(json.dumps({name: value for name, value in result.items() if name not in ("bad_ends", "by_target")}))
    sys.exit(1 if result["bad"] else 0)


if __name__ == "__main__":
    main()
