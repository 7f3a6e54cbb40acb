"""Killed processes, full disks, and every way of running: real processes, compared byte by byte."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_media import write_pictures

ROOT = Path(__file__).resolve().parents[2]


def command(source: Path, out: Path, tiny: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "visent", "tokenize", "folder", str(source), "--out", str(out), "--tokenizer", tiny,
            "--annotate", "edge,holes", "--items-per-shard", "4", *more]  # fmt: skip


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file; configuration files name their folders and logs times, so they are left out."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in ("job.json", "dataset.json")
    }


@pytest.mark.slow
def test_a_killed_run_repeated_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path, tiny: str) -> None:
    source = write_pictures(tmp_path / "in", 240)
    (source / "bad.png").write_bytes(b"")
    undisturbed, killed = tmp_path / "a" / "d", tmp_path / "b" / "d"
    assert run(command(source, undisturbed, tiny)).returncode == 0
    process = subprocess.Popen(
        command(source, killed, tiny), cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while len(list(killed.glob("train-*.json"))) < 5:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "dataset.json").exists()
    done = {path.name: path.stat().st_mtime_ns for path in killed.glob("train-*.json")}
    assert 5 <= len(done) < 61
    repeated = run(command(source, killed, tiny))
    assert repeated.returncode == 0, repeated.stderr
    assert digests(killed) == digests(undisturbed)
    assert {name: (killed / name).stat().st_mtime_ns for name in done} == done, "finished work was done again"
    assert not list(killed.glob(".tmp-*"))
    assert run([sys.executable, "-m", "visent", "verify", str(killed)]).returncode == 0


@pytest.mark.slow
def test_processes_and_threads_write_the_bytes_of_one_process(tmp_path: Path, tiny: str) -> None:
    source = write_pictures(tmp_path / "in", 30)
    modes = {
        "one": (),
        "threads": ("--", "--direct_running_mode=multi_threading", "--direct_num_workers=4"),
        "processes": ("--", "--direct_running_mode=multi_processing", "--direct_num_workers=2"),
    }
    found = {}
    for name, beam in modes.items():
        done = run(command(source, tmp_path / name / "d", tiny, "--holdout", "0.2", *beam))
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        found[name] = digests(tmp_path / name / "d")
    assert len(found["one"]) > 10
    assert found["one"] == found["threads"] == found["processes"]


# Lets the process write no file above 2,500 bytes: the same error path as a full disk, without one.
SMALL_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))
os.execv(sys.executable, sys.argv[1:])
"""


def on_a_full_disk(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-c", SMALL_FILES, *arguments])


def test_a_target_that_cannot_hold_the_shard_is_one_line_and_leaves_nothing_half_written(
    tmp_path: Path, tiny: str
) -> None:
    source = write_pictures(tmp_path / "in", 4)
    out = tmp_path / "d"
    done = on_a_full_disk(command(source, out, tiny, "--items-per-shard", "500"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [done.stderr.splitlines()[-1]]
    assert "cannot write" in done.stderr
    assert {path.name for path in out.iterdir()} - {"log"} == {"job.json", "listing"}
    assert run(command(source, out, tiny, "--items-per-shard", "500")).returncode == 0


@pytest.mark.slow
def test_an_error_in_a_worker_process_is_one_line(tmp_path: Path, tiny: str) -> None:
    source = write_pictures(tmp_path / "in", 8)
    beam = ("--", "--direct_running_mode=multi_processing", "--direct_num_workers=2")
    done = on_a_full_disk(command(source, tmp_path / "d", tiny, *beam))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error: cannot write" in done.stderr.splitlines()[-1]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Lets children see interrupts though this process, started in the background, may ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_run_says_so_in_one_line(tmp_path: Path, tiny: str) -> None:
    source = write_pictures(tmp_path / "in", 400)
    out = tmp_path / "d"
    process = subprocess.Popen(command(source, out, tiny), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not list(out.glob("train-*.json")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "interrupted" in errors.splitlines()[-1]
