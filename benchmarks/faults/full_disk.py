"""A full disk at every write: a real one of a few pages, so that the system itself refuses the rest.

Needs Linux, and root or user namespaces (`unshare --user --map-root-user --mount`).
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.kills import FAULTS, compare, undisturbed
from benchmarks.faults.scenarios import ROOT, Scenario, half_shards

PAGE = 4096
SPARE = 40 * PAGE  # that a command may need for a while and give back
ROOM = 256 << 20  # bytes of a disk that is large enough
LIMIT_SECONDS = 180.0  # for a command that takes a few


def campaign(scenario: Scenario, work: Path, most: int, report: Callable[[str], None]) -> dict[str, int]:
    """Runs a scenario's command on disks of each size at which another write fails, at most `most` of them, then again
    with room, and counts what went wrong."""
    disk = work / "disk"
    with _disk(disk, ROOM):
        expected, _ = undisturbed(scenario, disk / "undisturbed")
        needed = _used(disk)
    with _disk(disk, ROOM):
        (disk / "run").mkdir()
        scenario.prepare(disk / "run")
        before = _used(disk)
    pages = range(before // PAGE + 2, max(needed, before + SPARE) // PAGE + 1)
    chosen = pages if len(pages) <= most else [pages[i * len(pages) // most] for i in range(most)]
    counts = Counter(disks=0, refused=0, commands=0, **dict.fromkeys(FAULTS, 0))
    for size in chosen:
        with _disk(disk, size * PAGE):
            folder = disk / "run"
            folder.mkdir()
            scenario.prepare(folder)
            counts["disks"] += 1
            counts["refused"] += _refused(scenario, folder, counts)
            counts["half_shards"] += sum(half_shards(str(folder / name)) for name in scenario.datasets)
            _mount(disk, f"remount,size={ROOM}")
            if _run(scenario, folder, counts).returncode:
                counts["failures"] += 1
            compare(expected, scenario.results(folder), counts)
        report(f"{scenario.name}: {counts['disks']}/{len(chosen)} disks")
    return dict(counts)


def _refused(scenario: Scenario, folder: Path, counts: Counter[str]) -> bool:
    """Runs on the full disk; the command has to end with one line that says so, or well where all found room."""
    done = _run(scenario, folder, counts)
    if done.returncode == 0:
        return False
    last = done.stderr.strip().splitlines()[-1:] or [""]
    if done.returncode != 1 or not last[0].startswith("error: ") or "No space left" not in last[0]:
        counts["failures"] += 1
        print(f"{scenario.name} on {folder}: exit status {done.returncode}, {done.stderr[-2000:]}", file=sys.stderr)
    return True


def _run(scenario: Scenario, folder: Path, counts: Counter[str]) -> "subprocess.CompletedProcess[str]":
    counts["commands"] += 1
    command = [sys.executable, "-m", "visent", *scenario.arguments(folder)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        counts["hangs"] += 1
        return subprocess.CompletedProcess(command, 124, "", "hangs")
    counts["tracebacks"] += "Traceback" in done.stderr
    return done


def in_namespace(arguments: Sequence[str]) -> None:
    """Starts this program again where it may mount disks, unless it may do so here.

    Raises: `SystemExit` where neither can be had.
    """
    if os.geteuid() == 0:
        return
    if shutil.which("unshare") is None:
        raise SystemExit(
            "full disks need root, or `unshare` of util-linux: leave them out with --only kills,gs,s3,fuzz"
        )
    os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--mount", sys.executable, *arguments])


@contextmanager
def _disk(folder: Path, size: int):  # type: ignore[no-untyped-def]
    """Mounts an empty disk of some bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount(folder, f"size={size}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)


def _used(folder: Path) -> int:
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize
