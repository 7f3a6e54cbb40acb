"""Errors of storage: every kind of fault at every operation of a bucket, passing ones and lasting ones.

Input, dataset, manifest and lock all lie in the bucket, Google's and S3's, each a real server on localhost behind a
proxy. A passing fault (once for each object) must not be noticed but in time; a lasting one must end the command with
one line, and the same commands must go on where the storage is well again. Most of the time is spent waiting before a
request is made again, so several buckets are disturbed at once.
"""

import multiprocessing
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Literal, get_args

from benchmarks.faults.buckets import Bucket, Scheme, bucket, here
from benchmarks.faults.kills import FAULTS, compare
from benchmarks.faults.proxy import KINDS, Fault, Operation, each
from benchmarks.faults.scenarios import MANIFEST, ROOT, TRAINING, Inputs, half_shards, of_dataset, tokenize_arguments
from manifests import files

PICTURES = 9  # the first of them; with the broken ones, two shards
AT_ONCE = 4  # buckets
LIMIT_SECONDS = 300.0  # for a command that takes some ten
LASTING = ("status", "drop", "hang")
RATE = 0.05  # of each kind of fault at each operation, where all come together


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A fresh bucket, the faults that it has, and whether they end before the commands do."""

    scheme: Scheme
    kind: Literal["passing", "lasting", "all kinds together"]
    faults: tuple[Fault, ...]
    seed: int = 0


def campaign(inputs: Inputs, seed: int, mixed: int, report: Callable[[str], None]) -> dict[str, dict[str, int]]:
    """Runs all commands under every fault, `mixed` times under all of them together, and counts what went wrong."""
    results: dict[str, Counter[str]] = {}
    for scheme in get_args(Scheme):
        expected, operations = undisturbed(inputs, scheme)
        trials = [*_each_fault(scheme, operations), *_together(scheme, seed, mixed)]
        with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("spawn")) as pool:
            running = {pool.submit(run, inputs, trial, expected): trial for trial in trials}
            for number, done in enumerate(as_completed(running), 1):
                counts, complaints = done.result()
                results.setdefault(f"{scheme}://, {running[done].kind}", Counter()).update(counts)
                report(f"{scheme}://: {number}/{len(trials)} buckets")
                report("".join(f"  {running[done].faults}: {complaint}\n" for complaint in complaints).rstrip())
    return {name: {column: counts[column] for column in _none()} for name, counts in results.items()}


def _each_fault(scheme: Scheme, operations: Sequence[Operation]) -> list[Trial]:
    """Returns a trial for every kind at every operation; the three statuses share one, by chance."""
    trials = []
    for operation in operations:
        for kind in KINDS:
            if kind == "short" and operation != "read":
                continue
            shares = ((429, 1 / 3), (500, 1 / 2), (503, 1.0)) if kind == "status" else ((503, 1.0),)
            rules = tuple(
                Fault(kind=kind, operation=operation, status=status, rate=rate, most=1) for status, rate in shares
            )
            trials.append(Trial(scheme=scheme, kind="passing", faults=rules))
            if kind in LASTING:
                rule = Fault(kind=kind, operation=operation, most=None)
                trials.append(Trial(scheme=scheme, kind="lasting", faults=(rule,)))
    return trials


def _together(scheme: Scheme, seed: int, count: int) -> list[Trial]:
    chance = random.Random(f"{seed}/{scheme}")
    seeds = (chance.getrandbits(32) for _ in range(count))
    return [Trial(scheme=scheme, kind="all kinds together", faults=tuple(each(RATE)), seed=seed) for seed in seeds]


def undisturbed(inputs: Inputs, scheme: Scheme) -> tuple[dict[str, str], list[Operation]]:
    """Returns what the commands leave in a healthy bucket, and the operations that they ask of it."""
    counts = _none()
    with bucket(scheme) as served, here(served):
        _upload(inputs, served.url)
        served.proxy.reset()
        for command in _commands(inputs, served.url):
            done = _visent(served, command, counts)
            if done.returncode:
                raise SystemExit(f"{scheme}: {command} fails undisturbed: {done.stderr}")
        return _results(served.url), sorted(served.proxy.requests)  # type: ignore[arg-type]


def run(inputs: Inputs, trial: Trial, expected: Mapping[str, str]) -> tuple[dict[str, int], list[str]]:
    """Runs the commands in a bucket with faults; returns the counts, and what the commands that failed said."""
    counts, complaints = _none(), []
    with bucket(trial.scheme, seed=trial.seed) as served, here(served):
        _upload(inputs, served.url)
        served.proxy.reset(trial.faults, trial.seed)
        commands = _commands(inputs, served.url)
        if trial.kind == "lasting":
            done = _visent(served, commands[0], counts)
            if served.proxy.injected and not _is_one_line(done):
                complaints.append(f"{commands[0]}: exit status {done.returncode}, {done.stderr[-1500:]}")
            _heal(served, counts)
            counts["half_shards"] += half_shards(f"{served.url}/corpus/photos")
        elif trial.kind == "all kinds together" and trial.scheme == "gs":
            commands.append(_training(served.url))  # checkpoints lie in Google's buckets only
        for command in commands:
            done = _visent(served, command, counts)
            if done.returncode:
                complaints.append(f"{command}: exit status {done.returncode}, {done.stderr[-1500:]}")
        _heal(served, counts)
        _judge(served.url, expected, counts)
    counts["failures"] += len(complaints)
    return dict(counts), complaints


def _heal(served: Bucket, counts: Counter[str]) -> None:
    counts["faults"] += served.proxy.injected.total()
    served.proxy.reset()


def _upload(inputs: Inputs, url: str) -> None:
    for path in sorted(inputs.photos.rglob("*.*"))[: PICTURES + 3]:
        files.write_bytes(f"{url}/photos/{path.relative_to(inputs.photos)}", path.read_bytes())
    files.write_bytes(f"{url}/corpus/manifest.toml", MANIFEST.encode())


def _commands(inputs: Inputs, url: str) -> list[list[str]]:
    out = f"{url}/corpus/photos"
    tokenize = tokenize_arguments(f"{url}/photos", inputs.tokenizer, out, "--max-reject-fraction", "0.5")
    return [tokenize, ["verify", out], ["manifest", "lock", f"{url}/corpus/manifest.toml"]]


def _training(url: str) -> list[str]:
    settings = [part for setting in TRAINING for part in ("--set", setting)]
    return ["train", "tiny", "--manifest", f"{url}/corpus/manifest.toml", "--out", f"{url}/run", *settings]


def _results(url: str) -> dict[str, str]:
    lock = files.read_bytes(f"{url}/corpus/manifest.lock.json").decode()
    return {**of_dataset(f"{url}/corpus/photos"), "lock": lock}


def _is_one_line(done: "subprocess.CompletedProcess[str]") -> bool:
    """Says whether a command ended well, or with one line that says what is wrong."""
    last = done.stderr.strip().splitlines()[-1:] or [""]
    return done.returncode == 0 or (done.returncode == 1 and last[0].startswith("error: "))


def _none() -> Counter[str]:
    return Counter(faults=0, commands=0, **dict.fromkeys(FAULTS, 0))


def _judge(url: str, expected: Mapping[str, str], counts: Counter[str]) -> None:
    counts["half_shards"] += half_shards(f"{url}/corpus/photos")
    try:
        found = _results(url)
    except FileNotFoundError:
        found = {}
    compare(expected, found, counts)


def _visent(served: Bucket, command: Sequence[str], counts: Counter[str]) -> "subprocess.CompletedProcess[str]":
    counts["commands"] += 1
    line = [sys.executable, "-m", "visent", *command]
    try:
        done = subprocess.run(
            line, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_SECONDS,
            env={**os.environ, **served.environment},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        counts["hangs"] += 1
        return subprocess.CompletedProcess(line, 124, "", f"hangs: {error.stderr!r}")
    counts["tracebacks"] += "Traceback" in done.stderr
    return done
