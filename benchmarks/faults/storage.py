"""Errors of storage: every kind of fault at every operation of a bucket, passing ones and lasting ones.

Input, dataset, manifest and lock all lie in the bucket, Google's and S3's, each a real server on localhost behind a
proxy. A passing fault (twice for each object) must not be noticed but in time; a lasting one must end the command with
one line, and the same command must go on where the storage is well again.
"""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import get_args

from benchmarks.faults.buckets import Bucket, Scheme, bucket, here
from benchmarks.faults.kills import FAULTS, compare
from benchmarks.faults.proxy import KINDS, STATUSES, Fault, Operation, each
from benchmarks.faults.scenarios import MANIFEST, ROOT, TRAINING, Inputs, half_shards, of_dataset, tokenize_arguments
from manifests import files

PICTURES = 20
LIMIT_SECONDS = 240.0
LASTING = ("status", "drop", "hang")
RATE = 0.05  # of each kind of fault at each operation, where all come together


def campaign(inputs: Inputs, seed: int, mixed: int, report: Callable[[str], None]) -> dict[str, dict[str, int]]:
    """Runs all commands under every fault, `mixed` times under all of them together, and counts what went wrong."""
    results = {}
    for scheme in get_args(Scheme):
        expected, operations = _undisturbed(inputs, scheme)
        passing = [[fault] for fault in _faults(operations, most=2)]
        chance = random.Random(f"{seed}/{scheme}")
        seeds = [chance.getrandbits(32) for _ in range(mixed)]
        lasting = [fault for fault in _faults(operations, most=None) if fault.kind in LASTING and fault.status == 503]
        results[f"{scheme}://, passing"] = _passing(inputs, scheme, expected, passing, report)
        results[f"{scheme}://, lasting"] = _lasting(inputs, scheme, expected, lasting, report)
        results[f"{scheme}://, all kinds at {RATE:.0%}"] = _mixed(inputs, scheme, expected, seeds, report)
    return results


def _faults(operations: Sequence[Operation], most: int | None) -> Iterator[Fault]:
    for operation in operations:
        for kind in KINDS:
            if kind == "short" and operation != "read":
                continue
            for status in STATUSES if kind == "status" else (503,):
                yield Fault(kind=kind, operation=operation, status=status, most=most, seconds=1.0)


def _undisturbed(inputs: Inputs, scheme: Scheme) -> tuple[dict[str, str], list[Operation]]:
    """Returns what the commands leave in a healthy bucket, and the operations that they ask of it."""
    counts: Counter[str] = Counter()
    with bucket(scheme) as served, here(served):
        _upload(inputs, served.url)
        served.proxy.reset()
        for command in _commands(inputs, served.url):
            if _run(served, command, counts).returncode:
                raise SystemExit(f"{scheme}: {command} fails undisturbed")
        return _results(served.url), sorted(served.proxy.requests)  # type: ignore[arg-type]


def _upload(inputs: Inputs, url: str) -> None:
    for path in sorted(inputs.photos.rglob("*.*"))[: PICTURES + 3]:
        files.write_bytes(f"{url}/photos/{path.relative_to(inputs.photos)}", path.read_bytes())
    files.write_bytes(f"{url}/corpus/manifest.toml", MANIFEST.encode())


def _commands(inputs: Inputs, url: str) -> list[list[str]]:
    out = f"{url}/corpus/photos"
    tokenize = tokenize_arguments(f"{url}/photos", inputs.tokenizer, out, "--max-reject-fraction", "0.5")
    return [tokenize, ["verify", out], ["manifest", "lock", f"{url}/corpus/manifest.toml"]]


def _results(url: str) -> dict[str, str]:
    lock = files.read_bytes(f"{url}/corpus/manifest.lock.json").decode()
    return {**of_dataset(f"{url}/corpus/photos"), "lock": lock}


def _passing(
    inputs: Inputs, scheme: Scheme, expected: Mapping[str, str], faults: Sequence[Sequence[Fault]],
    report: Callable[[str], None],
) -> dict[str, int]:  # fmt: skip
    counts = _none()
    for number, rules in enumerate(faults):
        with bucket(scheme) as served, here(served):
            _upload(inputs, served.url)
            served.proxy.reset(rules)
            for command in _commands(inputs, served.url):
                done = _run(served, command, counts)
                if done.returncode:
                    counts["failures"] += 1
                    print(f"{rules}: {command}: {done.stderr[-1500:]}", file=sys.stderr)
            counts["faults"] += served.proxy.injected.total()
            served.proxy.reset()
            _judge(served.url, expected, counts)
        report(f"{scheme}://, passing: {number + 1}/{len(faults)} faults")
    return dict(counts)


def _lasting(
    inputs: Inputs, scheme: Scheme, expected: Mapping[str, str], faults: Sequence[Fault], report: Callable[[str], None]
) -> dict[str, int]:
    counts = _none()
    for number, rule in enumerate(faults):
        with bucket(scheme) as served, here(served):
            _upload(inputs, served.url)
            served.proxy.reset([rule])
            done = _run(served, _commands(inputs, served.url)[0], counts)
            counts["faults"] += served.proxy.injected.total()
            if served.proxy.injected and not _is_one_line(done):
                counts["failures"] += 1
                print(f"{rule}: {done.returncode} {done.stderr[-1500:]}", file=sys.stderr)
            served.proxy.reset()
            counts["half_shards"] += half_shards(f"{served.url}/corpus/photos")
            for command in _commands(inputs, served.url):
                counts["failures"] += _run(served, command, counts).returncode != 0
            _judge(served.url, expected, counts)
        report(f"{scheme}://, lasting: {number + 1}/{len(faults)} faults")
    return dict(counts)


def _is_one_line(done: "subprocess.CompletedProcess[str]") -> bool:
    """Says whether a command ended well, or with one line that says what is wrong."""
    last = done.stderr.strip().splitlines()[-1:] or [""]
    return done.returncode == 0 or (done.returncode == 1 and last[0].startswith("error: "))


def _mixed(
    inputs: Inputs, scheme: Scheme, expected: Mapping[str, str], seeds: Sequence[int], report: Callable[[str], None]
) -> dict[str, int]:
    """All kinds together by chance; for Google's bucket, a training run into it as well."""
    counts = _none()
    for number, seed in enumerate(seeds):
        with bucket(scheme, seed=seed) as served, here(served):
            _upload(inputs, served.url)
            served.proxy.reset(each(RATE), seed)
            commands = _commands(inputs, served.url)
            if scheme == "gs":
                settings = [part for setting in TRAINING for part in ("--set", setting)]
                manifest, out = f"{served.url}/corpus/manifest.toml", f"{served.url}/run"
                commands.append(["train", "tiny", "--manifest", manifest, "--out", out, *settings])
            for command in commands:
                done = _run(served, command, counts)
                if done.returncode:
                    counts["failures"] += 1
                    print(f"seed {seed}: {command}: {done.stderr[-1500:]}", file=sys.stderr)
            counts["faults"] += served.proxy.injected.total()
            served.proxy.reset()
            _judge(served.url, expected, counts)
        report(f"{scheme}://, mixed: {number + 1}/{len(seeds)} runs")
    return dict(counts)


def _none() -> Counter[str]:
    return Counter(faults=0, commands=0, **dict.fromkeys(FAULTS, 0))


def _judge(url: str, expected: Mapping[str, str], counts: Counter[str]) -> None:
    counts["half_shards"] += half_shards(f"{url}/corpus/photos")
    try:
        found = _results(url)
    except FileNotFoundError:
        found = {}
    compare(expected, found, counts)


def _run(served: Bucket, command: Sequence[str], counts: Counter[str]) -> "subprocess.CompletedProcess[str]":
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
