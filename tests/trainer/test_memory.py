"""What is said where the memory of a device does not suffice; here the process is given little address space."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax.sharding import AbstractMesh

from trainer import recipes
from trainer.config import ComputeConfig
from trainer.memory import advised, explained, remedies
from trainer.mesh import AXES, make_mesh
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def train(manifest, out, *more, gib=10):
    """`visent train` in a process that may use so much address space."""
    command = [sys.executable, "-m", "visent", "train", "tiny", "--manifest", str(manifest), "--out", str(out)]
    env = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "OMP_NUM_THREADS": "1"}
    command += ["--set", "model.hidden=32", "--set", "model.heads=2", "--set", "model.layers=2", *more]
    limited = ["sh", "-c", f'ulimit -v {gib * 2**20}; exec "$@"', "sh", *command]  # in KiB
    return subprocess.run(limited, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_step_that_does_not_fit_says_which_settings_need_less(manifest, tmp_path):
    done = train(manifest, tmp_path, "--set", "model.mlp=200000", "--set", "stages.images.batch_sentences=4096")
    assert done.returncode == 1, done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: out of device memory in stage 'images' (RESOURCE_EXHAUSTED: Out of memory")
    assert "--set stages.images.microbatches=2 (now 1)" in error
    assert "--set compute.remat=full" in error
    assert "Traceback" not in done.stderr


def test_a_model_that_does_not_fit_says_what_it_takes_and_over_how_many_devices_to_spread_it(manifest, tmp_path):
    done = train(manifest, tmp_path, "--set", "model.mlp=30000000")
    assert done.returncode == 1, done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: out of device memory in stage 'images'")
    assert "parameters and moments alone take 64.4 GiB of each" in error
    assert "--set compute.fsdp=2 --set compute.data=1" in error


def run(context=4096, batch=512, microbatches=1, **compute):
    config = recipes.make("lvm-lite")
    stage = dataclasses.replace(
        config.stages["sequences"], context=context, batch_sentences=batch, microbatches=microbatches
    )
    return dataclasses.replace(config, stages={"sequences": stage}, compute=ComputeConfig(**compute))


def settings_of(config, *mesh):
    return [change for change, _ in remedies(config, "sequences", AbstractMesh(mesh, AXES))]


def test_remedies_are_what_can_still_be_changed():
    assert settings_of(run(), 8, 1, 1) == [
        "--set stages.sequences.microbatches=2",
        "--set compute.remat=full",
        "--set compute.block_tokens=1024",
        "--set compute.loss_chunk_tokens=4096",
        "--set compute.fsdp=8 --set compute.data=1",
    ]
    used = run(microbatches=64, remat="full", block_tokens=512, loss_chunk_tokens=1024)
    assert settings_of(used, 1, 8, 1) == []


def test_microbatches_are_so_many_that_every_device_has_an_equal_part():
    assert settings_of(run(batch=24, microbatches=1), 8, 1, 1)[0].endswith("microbatches=3")
    assert settings_of(run(batch=24, microbatches=2), 4, 1, 1)[0].endswith("microbatches=3")


def test_other_errors_are_left_as_they_are():
    config, mesh = run(), make_mesh(ComputeConfig())
    with pytest.raises(ValueError, match="shapes"), explained(config, "sequences", mesh):
        raise ValueError("shapes differ")
    with (
        pytest.raises(UserError, match="out of device memory in stage 'sequences'"),
        explained(config, "sequences", mesh),
    ):
        jax.numpy.ones((2**50,)).block_until_ready()


def test_work_that_trains_nothing_says_what_to_change_too():
    said = r"out of device memory while generating \(.+\): use a smaller --batch"
    with pytest.raises(UserError, match=said), advised("while generating", "use a smaller --batch"):
        jax.numpy.ones((2**50,)).block_until_ready()
    with pytest.raises(ValueError, match="shapes"), advised("while generating", "use a smaller --batch"):
        raise ValueError("shapes differ")
