"""The fuzzer: the same seed damages alike, what must not happen is noticed, and a short run of all formats is clean."""

import gzip
import io
import json
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.faults import fuzz_child
from benchmarks.faults.inside import unpacked
from benchmarks.faults.mutate import CANARY, mutated
from benchmarks.faults.readers import READERS, Target
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
JSON = json.dumps({"images": [{"file_name": "a.jpg", "id": 1}], "caption": "boats"}).encode()


def test_damage_depends_on_file_and_seed_alone() -> None:
    for data in (JSON, bytes(range(256)) * 8, gzip.compress(JSON, mtime=0)):
        made = {seed: mutated(data, str(seed), [b"other"]) for seed in range(60)}
        assert made == {seed: mutated(data, str(seed), [b"other"]) for seed in range(60)}
        assert len({damaged for damaged, _ in made.values()}) > 40
        assert sum(damaged != data for damaged, _ in made.values()) > 50


def test_what_is_packed_is_damaged_inside_and_packed_again() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("a.json")
        info.size = len(JSON)
        tar.addfile(info, io.BytesIO(JSON))
    change = unpacked(buffer.getvalue())
    assert change is not None
    with tarfile.open(fileobj=io.BytesIO(change(lambda part: part + b"!"))) as tar:
        assert tar.extractfile("a.json").read() == JSON + b"!"  # type: ignore[union-attr]
    assert unpacked(JSON) is None


def _opens(target: Target) -> str:
    return str(len((Path(target.folder) / CANARY).read_bytes()))


def _unpickles(_: Target) -> str:
    return str(pickle.loads(pickle.dumps(np.float32)))


def _starts(_: Target) -> str:
    return subprocess.run([sys.executable, "-V"], check=True, capture_output=True, text=True).stdout


def _grows(_: Target) -> str:
    return str(np.ones(fuzz_child.MOST_MEMORY // 8 + (1 << 24)).sum())


def _fails(_: Target) -> str:
    raise KeyError("sequence_name")


def _says_two_lines(_: Target) -> str:
    raise UserError("cannot read it:\nno more data")


@pytest.mark.parametrize(
    ("reader", "outcome"),
    [(_opens, "escaped"), (_unpickles, "escaped"), (_starts, "escaped"), (_grows, "memory"), (_fails, "traceback"),
     (_says_two_lines, "traceback")],
)  # fmt: skip
def test_what_must_not_happen_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Callable[[Target], str], outcome: str
) -> None:
    (tmp_path / CANARY).write_bytes(b"secret")
    monkeypatch.setitem(READERS, "planted", reader)  # type: ignore[arg-type]
    target = Target(name="planted", reader="planted", folder=str(tmp_path), files=[])
    watch = fuzz_child.Watch()
    found = fuzz_child._result(target, watch, [])
    assert found["outcome"] == outcome, found


@pytest.mark.slow
def test_a_short_run_over_all_formats_is_clean(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.faults.fuzz", "--files", "130", "--seed", "5", "--children", "1",
               "--out", str(tmp_path / "found.json")]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["bad_ends"], found["files"], done.returncode) == ([], 130, 0)
    assert min(found["ends"][name] for name in ("read", "rejected", "refused")) > 5
    assert found["targets"] > 55
