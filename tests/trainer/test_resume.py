"""Runs that are killed while they save, and go on with other devices."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--set", "model.hidden=32", "--set", "model.mlp=48", "--set", "model.heads=2", "--set", "model.layers=2",
         "--set", "stages.images.batch_sentences=8", "--set", "stages.images.warmup_steps=2",
         "--set", "stages.sequences.batch_sentences=8", "--set", "stages.sequences.warmup_steps=0",
         "--set", "stages.images.steps=12", "--set", "stages.sequences.steps=12", "--set", "log_every=1",
         "--set", "checkpoint_every=1"]  # fmt: skip

pytestmark = pytest.mark.slow


def start(manifest, out, devices, *more):
    """Starts `visent train` on so many fake devices."""
    command = [sys.executable, "-m", "visent", "train", "tiny", "--manifest", manifest, "--out", out, *SMALL, *more]
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, env=os.environ | flags, text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def finish(process):
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


def kill_while_saving(process, checkpoints, step):
    """Kills the run as soon as a checkpoint of `step` or later is begun and not whole; returns its step."""
    while process.poll() is None:
        unfinished = [path.name.split(".")[0] for path in checkpoints.glob("*.orbax-checkpoint-tmp")]
        if any(int(name) >= step for name in unfinished):
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return max(map(int, unfinished))
        time.sleep(0.0005)
    pytest.fail(f"it ended before step {step}: {process.communicate()[1]}")


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def steps_in(checkpoints):
    return {int(path.name) for path in checkpoints.iterdir() if path.name.isdecimal()}


@pytest.fixture(scope="module")
def whole(manifest, tmp_path_factory):
    """An undisturbed run on one device."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(manifest, folder, 1))
    return folder


def test_a_run_killed_while_it_saves_goes_on_on_four_then_two_devices(manifest, whole, tmp_path):
    """Eight devices, then four, then two: the same batches, and the losses of an undisturbed run on one."""
    out = tmp_path / "killed"
    first = kill_while_saving(start(manifest, out, 8, "--set", "compute.fsdp=2", "--set", "compute.tensor=2"),
                              out / "checkpoints", 4)  # fmt: skip
    assert first - 1 in steps_in(out / "checkpoints")
    second = kill_while_saving(start(manifest, out, 4, "--set", "compute.fsdp=4"), out / "checkpoints", 14)
    assert {12, second - 1} <= steps_in(out / "checkpoints")
    finish(start(manifest, out, 2, "--set", "stages.sequences.microbatches=2"))
    assert steps_in(out / "checkpoints") == {12, 23, 24}
    resumed = lines_of(out)
    assert [line["step"] for line in resumed] == list(range(1, 25))
    for a, b in zip(lines_of(whole), resumed, strict=True):
        losses = [{name: task["loss"] for name, task in line["per_task"].items()} for line in (a, b)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-3)
        assert a["loss"] == pytest.approx(b["loss"], abs=2e-4)


def test_a_run_killed_again_and_again_while_it_saves_has_bitwise_the_losses_of_one_that_was_not(
    manifest, whole, tmp_path
):
    out = tmp_path / "killed"
    for step in (1, 12, 18):
        kill_while_saving(start(manifest, out, 1), out / "checkpoints", step)
    finish(start(manifest, out, 1))
    losses = [[(line["step"], line["loss"]) for line in lines_of(run)] for run in (whole, out)]
    assert losses[0] == losses[1]
    ends = [(run / "eval.jsonl").read_text().splitlines() for run in (whole, out)]
    assert [json.loads(line)["per_task"] for line in ends[0]] == [json.loads(line)["per_task"] for line in ends[1]]
