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
from typing import Any, Literal

from benchmarks.faults.buckets import Bucket, Scheme, bucket, here
from benchmarks.faults.kills import FAULTS, compare
from benchmarks.faults.proxy import KINDS, Fault, Operation, each
from benchmarks.faults.scenarios import (
    MANIFEST,
    ROOT,
    Inputs,
    half_shards,
    of_dataset,
    of_run,
    tokenize_arguments,
    train_arguments,
)
from manifests import files
from visent.errors import UserError

PICTURES = 9  # the first of them; with the broken ones, two shards
AT_ONCE = 8  # buckets
LIMIT_SECONDS = 300.0  # for a command that takes some ten
LASTING = ("status", "drop", "hang")
TRIES = 4  # of a training run that stops
RATE = 0.05  # of each kind of fault at each operation, where all come together


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A fresh bucket, the faults that it has, and what is done in it while it has them."""

    scheme: Scheme
    kind: Literal["passing", "lasting", "mixed", "mixed, training"]
    faults: tuple[Fault, ...]
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the commands leave in a healthy bucket, and what they ask of it."""

    dataset: Mapping[str, str]
    run: Mapping[str, str]  # empty where checkpoints cannot lie: they lie in Google's buckets only
    operations: tuple[Operation, ...]


def campaign(
    scheme: Scheme, inputs: Inputs, seed: int, mixed: int, report: Callable[[str], None]
) -> dict[str, dict[str, int]]:
    """Runs all commands under every fault, `mixed` times under all of them together, and counts what went wrong."""
    results: dict[str, Counter[str]] = {}
    expected = undisturbed(inputs, scheme)
    chosen = trials(scheme, expected, seed, mixed)
    with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(run, inputs, trial, expected): trial for trial in chosen}
        for number, done in enumerate(as_completed(running), 1):
            counts, complaints = done.result()
            results.setdefault(running[done].kind, _none()).update(counts)
            report(f"{scheme}://: {number}/{len(chosen)} buckets")
            for complaint in complaints:
                report(f"  {running[done]}: {complaint}")
    return {name: dict(counts) for name, counts in results.items()}


def trials(scheme: Scheme, expected: Expected, seed: int, mixed: int) -> list[Trial]:
    """Returns one for every kind at every operation (statuses share it, by chance), and those of all together."""
    chosen = []
    for operation in expected.operations:
        for kind in KINDS:
            if kind == "short" and operation != "read":
                continue
            shares = ((429, 1 / 3), (500, 1 / 2), (503, 1.0)) if kind == "status" else ((503, 1.0),)
            rules = (Fault(kind=kind, operation=operation, status=code, rate=rate, most=1) for code, rate in shares)
            chosen.append(Trial(scheme=scheme, kind="passing", faults=tuple(rules)))
            if kind in LASTING:
                rule = Fault(kind=kind, operation=operation, most=None)
                chosen.append(Trial(scheme=scheme, kind="lasting", faults=(rule,)))
    chance = random.Random(f"{seed}/{scheme}")
    kinds: tuple[Any, ...] = ("mixed", "mixed, training") if expected.run else ("mixed",)
    for kind in kinds * mixed:
        # orbax reads its own files and takes a short answer for the whole: the run stops with one line, each time
        rules = [rule for rule in each(RATE) if kind == "mixed" or rule.kind != "short"]
        chosen.append(Trial(scheme=scheme, kind=kind, faults=tuple(rules), seed=chance.getrandbits(32)))
    return chosen


def undisturbed(inputs: Inputs, scheme: Scheme) -> Expected:
    """Returns what the commands leave in a healthy bucket."""
    with bucket(scheme) as served, here(served):
        _upload(inputs, served.url)
        served.proxy.reset()
        for command in _commands(inputs, served.url):
            _visent(served, command, check=True)
        operations: Any = sorted(served.proxy.requests)
        if scheme == "gs":
            _visent(served, _training(served.url), check=True)
        made = of_run(f"{served.url}/run") if scheme == "gs" else {}
        return Expected(dataset=_results(served.url), run=made, operations=tuple(operations))


def run(inputs: Inputs, trial: Trial, expected: Expected) -> tuple[Counter[str], list[str]]:
    """Makes one trial; returns the counts, and what was said where nothing should have been."""
    counts, complaints = _none(), []
    with bucket(trial.scheme, seed=trial.seed) as served, here(served):
        _upload(inputs, served.url)
        if trial.kind == "mixed, training":
            complaints += _train(inputs, served, trial, counts)
            compare(expected.run, _results_of_run(served.url), counts)
        else:
            complaints += _tokenize(inputs, served, trial, counts)
            compare(expected.dataset, _results(served.url), counts)
            counts["half_shards"] += half_shards(f"{served.url}/corpus/photos")
    counts["failures"] += len(complaints)
    return counts, complaints


def _tokenize(inputs: Inputs, served: Bucket, trial: Trial, counts: Counter[str]) -> list[str]:
    """Runs the commands under passing faults; lasting ones end, once the first command has seen them."""
    served.proxy.reset(trial.faults, trial.seed)
    commands, complaints = _commands(inputs, served.url), []
    if trial.kind == "lasting":
        complaints += _complaint(_visent(served, commands[0], counts), may_refuse=True)
        _heal(served, counts)
        counts["half_shards"] += half_shards(f"{served.url}/corpus/photos")
    for command in commands:
        complaints += _complaint(_visent(served, command, counts))
    _heal(served, counts)
    return complaints


def _train(inputs: Inputs, served: Bucket, trial: Trial, counts: Counter[str]) -> list[str]:
    """Trains under all faults; a checkpoint that could not be written ends the command, and the same one goes on."""
    for command in _commands(inputs, served.url):
        _visent(served, command, check=True)
    served.proxy.reset(trial.faults, trial.seed)
    complaints, done = [], None
    for again in range(TRIES):
        done = _visent(served, _training(served.url), counts)
        if done.returncode == 0:
            break
        counts["run_again"] += 1
        complaints += _complaint(done, may_refuse=again + 1 < TRIES)
    _heal(served, counts)
    return complaints


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
    return train_arguments(f"{url}/corpus/manifest.toml", f"{url}/run")


def _results(url: str) -> dict[str, str]:
    """Returns what lies in the bucket; a lost file of facts or a lost lock is lost."""
    try:
        lock = files.read_bytes(f"{url}/corpus/manifest.lock.json").decode()
        return {**of_dataset(f"{url}/corpus/photos"), "lock": lock}
    except FileNotFoundError:
        return {}


def _results_of_run(url: str) -> dict[str, str]:
    """Returns a run's losses and parameters; a run without a checkpoint has lost all."""
    try:
        return of_run(f"{url}/run")
    except UserError:
        return {}


def _complaint(done: "subprocess.CompletedProcess[str]", may_refuse: bool = False) -> list[str]:
    """Returns what is to be said of a command that did not end well, nor, where it may, with one line of error."""
    last = done.stderr.strip().splitlines()[-1:] or [""]
    if done.returncode == 0 or (may_refuse and done.returncode == 1 and last[0].startswith("error: ")):
        return []
    return [f"{done.args[3:]}: exit status {done.returncode}, {done.stderr[-1500:]}"]


def _none() -> Counter[str]:
    return Counter(faults=0, commands=0, run_again=0, **dict.fromkeys(FAULTS, 0))


def _visent(
    served: Bucket, command: Sequence[str], counts: Counter[str] | None = None, check: bool = False
) -> "subprocess.CompletedProcess[str]":
    counts = Counter() if counts is None else counts
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
    if check and done.returncode:
        raise SystemExit(f"{line} fails undisturbed: {done.stderr}")
    return done
