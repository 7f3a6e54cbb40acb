"""SIGKILL at random moments: the command is killed several times, then let finish, and its results compared."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.faults.scenarios import ROOT, Scenario, half_shards

KILLS_PER_ROUND = 4  # of one command before it may finish
PART = (".tmp-", ".orbax-checkpoint-tmp")  # in the names of what is being written
LINGER_SECONDS = 30.0  # that child processes may take to notice that their parent is gone


def campaign(scenario: Scenario, work: Path, kills: int, seed: int, report: Callable[[str], None]) -> dict[str, int]:
    """Kills a scenario's command at least `kills` times and counts what went wrong."""
    chance = random.Random(f"{seed}/{scenario.name}")
    expected, seconds = undisturbed(scenario, work / "undisturbed")
    counts = Counter(kills=0, commands=0, **dict.fromkeys(FAULTS, 0))
    rounds = 0
    while counts["kills"] < kills and rounds < 4 * kills:
        rounds += 1
        folder = work / f"round-{rounds:03d}"
        folder.mkdir(parents=True)
        scenario.prepare(folder)
        _round(scenario, folder, seconds, chance, counts)
        compare(expected, scenario.results(folder), counts)
        shutil.rmtree(folder)
        report(f"{scenario.name}: {counts['kills']}/{kills} kills")
    return {"rounds": rounds, **counts}


FAULTS = ("lost", "doubled_or_changed", "half_shards", "hangs", "failures", "tracebacks", "lingering_processes")


def undisturbed(scenario: Scenario, folder: Path) -> tuple[dict[str, str], float]:
    """Returns what the command leaves when nothing disturbs it, and how long it takes."""
    folder.mkdir(parents=True)
    scenario.prepare(folder)
    began = time.monotonic()
    done = _start(scenario, folder)
    _, errors = done.communicate()
    if done.returncode:
        raise SystemExit(f"{scenario.name} fails undisturbed: {errors}")
    return dict(scenario.results(folder)), time.monotonic() - began


def _round(scenario: Scenario, folder: Path, seconds: float, chance: random.Random, counts: Counter[str]) -> None:
    for _ in range(KILLS_PER_ROUND):
        process = _start(scenario, folder)
        counts["commands"] += 1
        _wait_for_a_moment(process, folder, seconds, chance)
        if process.poll() is not None:  # it was faster
            _, errors = process.communicate()
            counts["failures"] += process.returncode != 0
            counts["tracebacks"] += "Traceback" in errors
            return
        parent_only = chance.random() < 0.5
        (os.kill if parent_only else os.killpg)(process.pid, signal.SIGKILL)
        process.wait()
        counts["kills"] += 1
        counts["lingering_processes"] += _lingering(process.pid)
        counts["half_shards"] += sum(half_shards(str(folder / name)) for name in scenario.datasets)
    _finish(scenario, folder, seconds, counts)


def _finish(scenario: Scenario, folder: Path, seconds: float, counts: Counter[str]) -> None:
    process = _start(scenario, folder)
    counts["commands"] += 1
    try:
        _, errors = process.communicate(timeout=10 * seconds + 60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, errors = process.communicate()
        counts["hangs"] += 1
    counts["failures"] += process.returncode != 0
    counts["tracebacks"] += "Traceback" in errors


def _start(scenario: Scenario, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "visent", *scenario.arguments(folder)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def _wait_for_a_moment(process: "subprocess.Popen[str]", folder: Path, seconds: float, chance: random.Random) -> None:
    """Waits for any moment, or for one soon after a file appeared, or for one while a file is being written."""
    kind = chance.choice(("any", "after a file", "while writing"))
    ends = time.monotonic() + seconds * (chance.random() if kind == "any" else 2)
    before = _names(folder)
    while process.poll() is None and time.monotonic() < ends:
        names = _names(folder) if kind != "any" else before
        if kind == "after a file" and names != before:
            time.sleep(chance.random() * 0.5)
            return
        if kind == "while writing" and any(part in name for name in names - before for part in PART):
            time.sleep(chance.random() * 0.003)
            return
        time.sleep(0.001)


def _names(folder: Path) -> set[str]:
    return {os.path.join(place, name) for place, folders, found in os.walk(folder) for name in (*folders, *found)}  # noqa: PTH118


def _lingering(group: int) -> int:
    """Counts the processes of a session that are still there some time after its first one was killed."""
    ends = time.monotonic() + LINGER_SECONDS
    while (left := _alive(group)) and time.monotonic() < ends:
        time.sleep(0.1)
    if left:
        os.killpg(group, signal.SIGKILL)
    return left


def _alive(group: int) -> int:
    """Counts the processes of a group that are no zombies, as /proc tells."""
    count = 0
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = place.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        count += int(of_group) == group and state != "Z"
    return count


def compare(expected: Mapping[str, str], found: Mapping[str, str], counts: Counter[str]) -> None:
    """Counts what is missing, and what is there besides or with other bytes."""
    counts["lost"] += len(expected.keys() - found.keys())
    counts["doubled_or_changed"] += sum(found[name] != expected.get(name) for name in found)
