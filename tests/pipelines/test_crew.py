"""Worker processes die with their command: real processes and a real signal."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_media import write_pictures

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")]


def start(source: Path, out: Path, tiny: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "visent", "tokenize", "folder", str(source), "--out", str(out),
               "--tokenizer", tiny, "--items-per-shard", "4",
               "--", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]  # fmt: skip
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)


def workers(group: int) -> list[int]:
    """The worker processes of a group that are alive."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, _, of_group = (place / "stat").read_text().rpartition(")")[2].split()[:3]
            if (
                int(of_group) == group
                and state != "Z"
                and b"pipelines.runners.worker" in (place / "cmdline").read_bytes()
            ):
                found.append(int(place.name))
        except OSError:
            continue
    return found


def wait_for_workers(process: "subprocess.Popen[str]") -> list[int]:
    ends = time.monotonic() + PATIENCE
    while not (found := workers(process.pid)) and time.monotonic() < ends:
        assert process.poll() is None, "it ended before it had workers"
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("moment", [0.0, 0.5, 3.0], ids=["starting", "importing", "at-work"])
def test_workers_of_a_killed_command_end_by_themselves(tmp_path: Path, tiny: str, moment: float) -> None:
    process = start(write_pictures(tmp_path / "in", 400), tmp_path / "d", tiny)
    assert wait_for_workers(process)
    time.sleep(moment)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    ends = time.monotonic() + PATIENCE
    while workers(process.pid) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not workers(process.pid)
