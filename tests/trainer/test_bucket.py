"""A run whose folder is a Google Cloud Storage bucket, of an emulator in this process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manifests import files

pytest.importorskip("gcp_storage_emulator.server", reason="pip install -e '.[dev]'")
from benchmarks.faults import buckets

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--set", "model.hidden=32", "--set", "model.mlp=48", "--set", "model.heads=2", "--set", "model.layers=2",
         "--set", "stages.images.batch_sentences=8", "--set", "stages.images.warmup_steps=0",
         "--set", "stages.images.steps=6", "--set", "stages.sequences.steps=0",
         "--set", "stages.sequences.warmup_steps=0", "--set", "log_every=1", "--set", "checkpoint_every=2",
         "--set", "keep_checkpoints=1"]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket():
    """The URL of a bucket, reachable through the environment by this process and those that it starts."""
    with buckets.bucket("gs") as served, buckets.here(served) as url:
        yield url


def start(manifest, out):
    command = [sys.executable, "-m", "visent", "train", "tiny", "--manifest", str(manifest), "--out", str(out), *SMALL]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process):
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return err


def lines_of(folder):
    return [json.loads(line) for line in files.read_bytes(files.join(folder, "metrics.jsonl")).decode().splitlines()]


def steps_in(folder):
    whole = [name for name in files.list_names(folder) if name.isdecimal()]
    return sorted(int(name) for name in whole if files.exists(files.join(folder, name, "commit_success.txt")))


def test_a_run_in_a_bucket_is_killed_goes_on_and_is_read_by_others(manifest, tmp_path, bucket):
    finish(start(manifest, tmp_path / "local"))
    url = f"{bucket}/runs/one"
    process = start(manifest, url)
    while process.poll() is None and not steps_in(f"{url}/checkpoints"):
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it was killed"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    err = finish(start(manifest, url))
    assert "Traceback" not in err
    assert steps_in(f"{url}/checkpoints") == [6]
    here, there = lines_of(tmp_path / "local"), lines_of(url)
    assert [(line["step"], line["loss"]) for line in here] == [(line["step"], line["loss"]) for line in there]
    script = f"from trainer.run_folder import open_run; run = open_run({url!r}); run.params(); print(run.step)"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=os.environ, text=True, capture_output=True)
    assert found.stdout.strip() == "6", found.stderr


def test_a_bucket_that_is_not_there_is_one_line(manifest, bucket):
    process = start(manifest, "gs://nothing-of-this-name/run")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("error: cannot write gs://nothing-of-this-name/run/config.json")
    assert "Traceback" not in err
