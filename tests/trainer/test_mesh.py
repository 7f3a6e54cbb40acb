"""What a mesh must not change, and what it must divide; eight devices that XLA makes of one processor."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from on_devices import MODEL, STEPS, report

from trainer import batches, recipes
from trainer.config import ComputeConfig
from trainer.loop import train
from trainer.mesh import AXES, check_model, make_mesh
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def on_eight(manifest, *wanted):
    """Reports of meshes (data, fsdp, tensor, microbatches) of eight devices, from a process of its own."""
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("on_devices.py")
    command = [sys.executable, str(script), str(manifest), json.dumps(wanted)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def alone(manifest):
    """One device, one microbatch."""
    return report(str(manifest), 1, 1, 1, 1)


@pytest.fixture(scope="module")
def all_axes(manifest):
    """Eight devices over all three axes, in two microbatches."""
    return on_eight(manifest, (2, 2, 2, 2))[0]


def same_results(one, other):
    assert len(one["losses"]) == STEPS
    assert other["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert other["norms"] == pytest.approx(one["norms"], rel=1e-4)
    loss, correct, tokens = (np.array(sums) for sums in zip(*other["tasks"], strict=True))
    np.testing.assert_array_equal(tokens, np.array(one["tasks"])[:, 2])
    np.testing.assert_allclose(loss, np.array(one["tasks"])[:, 0], rtol=1e-5)
    np.testing.assert_allclose(correct, np.array(one["tasks"])[:, 1], atol=1)


def test_three_axes_and_microbatches_change_no_result(alone, all_axes):
    same_results(alone, all_axes)


def test_the_first_state_is_the_same_to_the_bit_on_every_mesh(alone, all_axes):
    assert all_axes["first_state"] == alone["first_state"]


def test_parameters_and_moments_are_divided_among_fsdp_and_tensor(alone, all_axes):
    """Norms and counts, which are small, lie everywhere."""
    assert alone["bytes_on_first"] == alone["bytes"] == all_axes["bytes"]
    assert all_axes["bytes_on_first"] < alone["bytes"] / 4 * 1.1


def test_no_device_ever_holds_the_whole_first_state(alone, all_axes):
    assert all_axes["making"] < alone["making"] / 4 * 1.1


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(8, 1, 1, 1), (1, 8, 1, 2), (4, 1, 2, 4), (2, 4, 1, 1)])
def test_no_mesh_changes_results_and_each_divides_what_it_says(alone, manifest, sizes):
    found = on_eight(manifest, sizes)[0]
    same_results(alone, found)
    assert found["first_state"] == alone["first_state"]
    assert found["bytes_on_first"] < alone["bytes"] / (sizes[1] * sizes[2]) * 1.2


def test_sizes_that_are_not_the_number_of_devices_are_refused():
    with pytest.raises(UserError, match=r"2 \(data\) x 3 \(fsdp\) x 1 \(tensor\) wants 6 devices, there are 1.*--set"):
        make_mesh(ComputeConfig(data=2, fsdp=3))
    with pytest.raises(UserError, match="wants 4 devices"):
        make_mesh(ComputeConfig(tensor=4))


def abstract(data, fsdp, tensor):
    return AbstractMesh((data, fsdp, tensor), AXES)


def test_a_mesh_that_does_not_divide_the_model_is_refused_with_a_size_that_does():
    model = recipes.MODELS["300m"]
    check_model(model, abstract(1, 8, 4))
    with pytest.raises(UserError, match=r"compute.tensor is 16: model 300m has heads 8.*--set compute.tensor=8"):
        check_model(model, abstract(1, 1, 16))
    with pytest.raises(UserError, match=r"compute.fsdp is 3: model 300m has hidden 1024.*--set compute.fsdp=2"):
        check_model(model, abstract(1, 3, 1))
    with pytest.raises(UserError, match=r"compute.fsdp is 16.*hidden 48.*32 parts \(with tensor\).*=12"):
        check_model(dataclasses.replace(MODEL, hidden=48, heads=2), abstract(1, 16, 2))


def test_a_batch_that_does_not_fit_the_mesh_is_refused_before_anything_is_written(config, lock, tmp_path):
    stages = {"images": dataclasses.replace(config.stages["images"], batch_sentences=6, microbatches=3)}
    config = dataclasses.replace(config, stages=stages)
    train_would = abstract(2, 2, 1)
    with pytest.raises(UserError, match=r"is 6: expected a multiple of 12, for 4 parts of the mesh in 3 microbatches"):
        batches.check_divides(6, 3, train_would, "images")
    with pytest.raises(UserError, match="wants 2 devices, there are 1"):
        train(dataclasses.replace(config, compute=ComputeConfig(data=2)), lock, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_rows_of_a_host_are_those_of_its_devices():
    mesh = make_mesh(ComputeConfig())
    rows = batches.own_rows(mesh, 12)
    np.testing.assert_array_equal(rows, np.arange(12))
    codes = np.arange(24, dtype=np.uint16).reshape(12, 2)
    np.testing.assert_array_equal(jax.device_get(batches.spread(mesh, rows, 12, codes)), codes)
