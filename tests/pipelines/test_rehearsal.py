"""Examples that kill their worker: real processes, really dying."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deadly import Deadly
from made_media import picture_bytes, write_pictures

from pipelines import rehearsal, worklog
from pipelines.faults import Fault
from pipelines.job import Job, Work, units_of
from pipelines.rehearsal import faults_of
from pipelines.resuming.order import read_rejects
from pipelines.runners.dofn import TokenizeUnit
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

# A picture library with a flaw, in every process that has it in its path.
FLAWED = """
import ctypes, time
import PIL.Image
sound = PIL.Image.open
def flawed(file, *rest, **more):
    data = file.getvalue() if hasattr(file, "getvalue") else b""
    if b"CRASH" in data:
        ctypes.string_at(0)
    if b"SLEEP" in data:
        time.sleep(3600)
    return sound(file, *rest, **more)
PIL.Image.open = flawed
"""


def job(tmp_path: Path, tiny: str, *items: tuple[str, ...], name: str = "d", **options: Any) -> Job:
    source = Deadly(items=items, memory=str(tmp_path / "memory"))
    return Job(out=str(tmp_path / name / "d"), name="d", tokenizer=tiny, source=source, **options)


def work(made: Job) -> Work:
    return Work(unit=units_of(made, made.source.listing()[0])[0])


def test_a_unit_without_a_fault_costs_one_child(tmp_path: Path, tiny: str) -> None:
    made = job(tmp_path, tiny, ("a", "b"), ("c",))
    assert faults_of(made, work(made), died=True) == ()


def test_what_a_worker_would_meet_as_an_error_is_no_fault(tmp_path: Path, tiny: str) -> None:
    made = job(tmp_path, tiny, ("a", "raise"), ("c",))
    assert faults_of(made, work(made), died=True) == ()


def test_a_child_that_was_killed_once_is_nobodys_fault(tmp_path: Path, tiny: str) -> None:
    made = job(tmp_path, tiny, ("a", "once"), ("c",))
    assert faults_of(made, work(made), died=True) == ()
    assert Path(tmp_path / "memory").exists()


def test_a_time_limit_that_is_none_is_refused(tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rehearsal.VARIABLE, "soon")
    made = job(tmp_path, tiny, ("a",))
    with pytest.raises(UserError, match="VISENT_EXAMPLE_SECONDS is 'soon', expected whole seconds"):
        faults_of(made, work(made), died=True)


@pytest.mark.slow
def test_each_way_to_end_a_process_is_found_where_it_is(
    tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(rehearsal.VARIABLE, "3")
    monkeypatch.setattr(rehearsal, "MOST_BYTES", 1 << 30)
    made = job(tmp_path, tiny, ("a", "crash", "b", "abort"), ("exit", "sleep"), ("a", "!crash", "b"), ("eat", "!sleep"))
    found = faults_of(made, work(made), died=True)
    assert found == (
        Fault(item=0, result=1, stage="decode", reason="crashed"),
        Fault(item=0, result=3, stage="decode", reason="crashed"),
        Fault(item=1, result=0, stage="decode", reason="crashed"),
        Fault(item=1, result=1, stage="decode", reason="too-slow"),
        Fault(item=2, result=1, stage="read", reason="crashed"),
        Fault(item=3, result=0, stage="decode", reason="too-much-memory"),
        Fault(item=3, result=1, stage="read", reason="too-slow"),
    )


@pytest.mark.slow
def test_a_worker_makes_the_shard_after_an_attempt_that_died_and_its_views_know(tmp_path: Path, tiny: str) -> None:
    made = job(tmp_path, tiny, ("a", "crash", "b"), ("a", "!abort", "b"), ("c",))
    unit = work(made)
    file = unit.file(made.format)
    Path(made.out).mkdir(parents=True)
    worklog.begin(made.out, file)
    worker = TokenizeUnit(made, "digest", 0.0, raises=True)
    (receipt,) = worker.process(unit.to_json())
    rejects = read_rejects(f"{made.out}/{Path(file).stem}.rejects.jsonl")
    assert [(r.reject.key, r.reject.stage, r.reject.reason, r.place, r.item) for r in rejects] == [
        ("0/1", "decode", "crashed", 1, 0),
        ("1", "read", "crashed", 4, 1),
    ]
    (log,) = worklog.read_logs(made.out).values()
    assert (log.state, log.rows, dict(log.rejects)) == ("done", 4, {"crashed": 2})
    views = Work(unit=unit.unit, views=(1, 2), keys_sha256=json.loads(receipt)["keys_sha256"])
    (of_views,) = worker.process(views.to_json())  # in this process, which the same examples would end
    assert json.loads(of_views)["keys_sha256"] == views.keys_sha256
    assert json.loads(of_views)["rows"] == 8


def visent(flawed: Path | None, *arguments: str | Path, limit: int = 600) -> "subprocess.CompletedProcess[str]":
    paths = {"PYTHONPATH": str(flawed)} if flawed else {}
    environment = os.environ | paths | {rehearsal.VARIABLE: str(limit)}
    command = [sys.executable, "-m", "visent", "tokenize", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    folder = tmp_path / "flawed"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(FLAWED)
    return folder


def pictures(folder: Path, **bad: str) -> Path:
    """Pictures of which some, by number, have a word behind their end that a flawed library cannot bear."""
    write_pictures(folder, 12)
    for number, word in bad.items():
        (folder / f"{number[1:]}.png").write_bytes(picture_bytes(int(number[1:])) + word.encode())
    return folder


def folder_of(source: Path, out: Path, tiny: str) -> tuple[str | Path, ...]:
    return ("folder", source, "--out", out, "--tokenizer", tiny, "--items-per-shard", "6",
            "--max-reject-fraction", "0.5")  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(found.items()) if not name.startswith("log/")}


@pytest.mark.slow
def test_a_crash_costs_one_command_of_one_process_and_is_retried_like_any_reject(
    tmp_path: Path, tiny: str, flawed: Path
) -> None:
    source = pictures(tmp_path / "in", n002="CRASH", n008="CRASH")
    command = folder_of(source, tmp_path / "d", tiny)
    for _ in range(2):  # once for each shard that has one
        assert visent(flawed, *command).returncode == -signal.SIGSEGV
    done = visent(flawed, *command)
    assert done.returncode == 0, done.stderr
    made = contents(tmp_path / "d")
    assert b'"stage": "decode", "reason": "crashed"' in made["train-00000-of-00002.rejects.jsonl"]
    again = visent(flawed, "--retry-rejects", tmp_path / "d", "--reason", "crashed")
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path / "d") == made
    healed = visent(None, "--retry-rejects", tmp_path / "d")
    assert healed.returncode == 0, healed.stderr
    assert visent(None, *folder_of(source, tmp_path / "whole" / "d", tiny)).returncode == 0
    assert contents(tmp_path / "d") == contents(tmp_path / "whole" / "d")


@pytest.mark.slow
def test_worker_processes_get_over_a_crash_by_themselves(tmp_path: Path, tiny: str, flawed: Path) -> None:
    source = pictures(tmp_path / "in", n002="CRASH", n003="CRASH", n008="CRASH")
    command = folder_of(source, tmp_path / "d", tiny)
    done = visent(flawed, *command, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    alone = folder_of(source, tmp_path / "alone" / "d", tiny)
    codes = [visent(flawed, *alone).returncode for _ in range(3)]
    assert codes == [-signal.SIGSEGV, -signal.SIGSEGV, 0]
    assert contents(tmp_path / "d") == contents(tmp_path / "alone" / "d")
    assert len(read_rejects(str(tmp_path / "d" / "train-00000-of-00002.rejects.jsonl"))) == 2


@pytest.mark.slow
def test_a_picture_without_end_is_passed_after_an_interrupted_run(tmp_path: Path, tiny: str, flawed: Path) -> None:
    source = pictures(tmp_path / "in", n004="SLEEP")
    command = folder_of(source, tmp_path / "d", tiny)
    process = subprocess.Popen(
        [sys.executable, "-m", "visent", "tokenize", *map(str, command)], cwd=ROOT, stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(flawed)},
    )  # fmt: skip
    log = tmp_path / "d" / "log" / "train-00000-of-00002.json"
    while not log.exists():
        assert process.poll() is None, "it ended before it began"
    process.kill()
    process.wait()
    done = visent(flawed, *command, limit=4)
    assert done.returncode == 0, done.stderr
    rejects = read_rejects(str(tmp_path / "d" / "train-00000-of-00002.rejects.jsonl"))
    assert [(r.reject.key, r.reject.reason) for r in rejects] == [("004", "too-slow")]
    assert len(read_rejects(str(tmp_path / "d" / "train-00001-of-00002.rejects.jsonl"))) == 0
