"""The commands, run as a user does: in a process of their own."""

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
         "--set", "stages.images.steps=30", "--set", "stages.sequences.steps=20", "--set", "log_every=1",
         "--set", "stages.sequences.warmup_steps=0", "--set", "checkpoint_every=3"]  # fmt: skip


def visent(*arguments, env=None, **options):
    command = [sys.executable, "-m", "visent", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | (env or {}), text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **options)  # fmt: skip


def finished(*arguments, env=None):
    process = visent(*arguments, env=env)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def losses_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


def train(manifest, out, *more, env=None):
    return finished("train", "tiny", "--manifest", manifest, "--out", out, *SMALL, *more, env=env)


def test_help_of_the_commands_shows_an_example_and_loads_nothing_heavy():
    for command in ("train", "generate"):
        code, out, _ = finished(command, "--help")
        assert code == 0
        assert f"visent {command} " in out
    heavy = "('jax', 'numpy', 'pyarrow', 'PIL')"
    script = f"import sys, trainer.commands.train; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_dry_run_prints_settings_and_costs_and_writes_nothing(manifest, tmp_path):
    code, out, err = train(manifest, tmp_path / "run", "--dry-run")
    assert code == 0, err
    assert '"codebook_size": 64' in out
    assert "parameters" in out
    assert "TFLOP/step" in out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "tinny", "-m", "x.toml"], "unknown recipe 'tinny': did you mean 'tiny'"),
        (["train", "tiny", "-m", "nothing.toml", "--out", "x"], "no manifest at nothing.toml"),
        (["train", "tiny", "-m", "x.toml", "--dry-run", "--chips", "4"], "--chips 4 says how many of --chip"),
        (["generate", "nowhere", "--task", "edge", "--out", "x"], "nowhere has no checkpoints"),
        (["generate", "nowhere", "--out", "x"], "nowhere has no checkpoints"),
    ],
)
def test_a_mistake_is_one_line_without_a_traceback(arguments, message):
    code, _, err = finished(*arguments)
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_killed_run_goes_on_with_bitwise_the_losses_of_an_undisturbed_one(manifest, tmp_path):
    assert train(manifest, tmp_path / "whole")[0] == 0
    killed = tmp_path / "killed"
    for step in (8, 37):  # once in each stage
        process = visent("train", "tiny", "--manifest", manifest, "--out", killed, *SMALL)
        while process.poll() is None and not (
            (killed / "metrics.jsonl").exists() and len(losses_of_open(killed)) >= step
        ):
            time.sleep(0.005)
        assert process.poll() is None, process.communicate()[1]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, _, err = train(manifest, killed)
    assert code == 0, err
    assert losses_of(killed) == losses_of(tmp_path / "whole")


def losses_of_open(run):
    return (run / "metrics.jsonl").read_text().splitlines()


@pytest.mark.slow
def test_four_devices_give_the_losses_of_one(manifest, tmp_path):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    short = ["--set", "stages.images.steps=4", "--set", "stages.sequences.steps=3"]
    assert train(manifest, tmp_path / "one", *short)[0] == 0
    code, _, err = train(manifest, tmp_path / "four", *short, env=flags)
    assert code == 0, err
    for (step, a), (same, b) in zip(losses_of(tmp_path / "one"), losses_of(tmp_path / "four"), strict=True):
        assert step == same
        assert a == pytest.approx(b, abs=2e-4)
    code, _, err = train(manifest, tmp_path / "odd", "--set", "stages.images.batch_sentences=6", env=flags)
    assert code == 1
    assert "multiple of 4, for 4 parts of the mesh; use --set stages.images.batch_sentences=4 or 8" in err
