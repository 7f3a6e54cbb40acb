"""The fault campaign: kills, full disks, failing storage and broken files, counted and repeatable by their seed.

Every line of its table says how often something was disturbed and how often the result was not what it must be: a lost
file, a doubled or changed one, a shard that was accepted though half, a hang, a failure, a traceback, a process left.

    python -m benchmarks.faults                          # all of it: about an hour on two cores
    python -m benchmarks.faults --only kills --kills 20 --dry
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.faults import full_disk, fuzz, kills, storage
from benchmarks.faults.scenarios import Inputs, make_inputs, scenarios

PARTS = ("kills", "disks", "gs", "s3", "fuzz")
CHILDREN = len(os.sched_getaffinity(0))  # that read broken files
SECONDS_PER_FILE = 20.0
Results = dict[str, dict[str, int]]


def main() -> None:
    """Runs the campaign part by part; the exit status is 1 when anything went wrong."""
    options = _options()
    chosen = options.only.split(",")
    if "disks" in chosen:
        full_disk.in_namespace(["-m", "benchmarks.faults", *sys.argv[1:]])
    with tempfile.TemporaryDirectory(prefix="visent-faults-") as folder:
        work = Path(folder)
        inputs = make_inputs(work / "inputs")
        parts: dict[str, Callable[[], Results]] = {
            "kills": lambda: _kills(inputs, work, options),
            "disks": lambda: _disks(inputs, work, options),
            "gs": lambda: storage.campaign("gs", inputs, options.seed, options.mixed, _report),
            "s3": lambda: storage.campaign("s3", inputs, options.seed, options.mixed, _report),
            "fuzz": lambda: _fuzz(work, options),
        }
        wrong = sum(_run(name, parts[name], options) for name in PARTS if name in chosen)
    sys.exit(wrong > 0)


def _run(name: str, part: Callable[[], Results], options: argparse.Namespace) -> int:
    """Runs one part, shows and stores what it counted, and returns how often something went wrong."""
    began = time.monotonic()
    results = part()
    minutes = (time.monotonic() - began) / 60
    wrong = show(name, results)
    if not options.dry:
        machine.save(f"faults_{name}", {"seed": options.seed, "minutes": round(minutes, 1), "wrong": wrong, **results})
    return wrong


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=140, help="over all commands")
    parser.add_argument("--disks", type=int, default=24, help="for each command at most")
    parser.add_argument("--mixed", type=int, default=4, help="runs under all faults of storage together")
    parser.add_argument("--files", type=int, default=10_000, help="broken ones")
    parser.add_argument("--samples", type=Path, help="a folder of real samples of the datasets, to be broken as well")
    parser.add_argument("--dry", action="store_true", help="store nothing")
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"--only knows {', '.join(PARTS)}; got {', '.join(sorted(unknown))}")
    return options


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _kills(inputs: Inputs, work: Path, options: argparse.Namespace) -> Results:
    of_all = scenarios(inputs)
    each = -(-options.kills // len(of_all))
    place = work / "kills"
    return {one.name: kills.campaign(one, place / _plain(one.name), each, options.seed, _report) for one in of_all}


def _disks(inputs: Inputs, work: Path, options: argparse.Namespace) -> Results:
    writing = [one for one in scenarios(inputs) if one.name != "verify"]
    place = work / "disks"
    return {one.name: full_disk.campaign(one, place / _plain(one.name), options.disks, _report) for one in writing}


def _fuzz(work: Path, options: argparse.Namespace) -> Results:
    """Returns the ends of the broken files by target; every bad end is printed."""
    found = fuzz.fuzz(work / "fuzz", options.samples, [], options.files, options.seed, CHILDREN, SECONDS_PER_FILE)
    for one in found["bad_ends"]:
        _report(f"{one['outcome']}: {one['seed']} {one['file']} {one['way']}: {one['detail'][-1000:]}")
    return {
        name: {end: ends.get(end, 0) for end in (*fuzz.GOOD, *fuzz.BAD)} for name, ends in found["by_target"].items()
    }


def _plain(name: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in name)


def show(part: str, rows: Results) -> int:
    """Prints what was disturbed and what went wrong; returns how often."""
    columns = list(next(iter(rows.values())))
    table = Table(part, *(column.replace("_", " ") for column in columns))
    for name, counts in rows.items():
        table.add_row(name, *(str(counts.get(column, 0)) for column in columns))
    Console(width=None if os.isatty(1) else 160).print(table)
    wrong = sum(counts.get(fault, 0) for counts in rows.values() for fault in (*kills.FAULTS, *fuzz.BAD))
    print(f"{part}: {wrong} things went wrong")
    return wrong


if __name__ == "__main__":
    main()
