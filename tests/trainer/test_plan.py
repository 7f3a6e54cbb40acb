"""What a run takes of a machine, and how a dry run says it."""

import dataclasses
import json
import re

import pytest
from click.testing import CliRunner

from trainer import machine, plan, recipes
from trainer.commands.train import train
from trainer.config import ComputeConfig, ModelConfig
from visent.errors import UserError
from visent.progress import duration

H200 = machine.of_chip("NVIDIA H200", 8)


def test_time_is_flops_over_the_chips_peak_and_the_assumed_share():
    config = recipes.make("lvm-lite", "300m")
    found = plan.on(H200, config)["images"]
    again = plan.FORWARD_AGAIN if found.remat == "full" else 1
    flops = 262_378_881_024 * config.model.flops_per_token(256) * again
    assert found.seconds == pytest.approx(flops / (8 * 989e12 * machine.OF_PEAK))
    assert "x 40%, an assumption: nothing was measured" in H200.basis
    assert plan.on(machine.of_chip("NVIDIA H200", 16), config)["images"].seconds < found.seconds


def test_a_stage_that_does_not_fit_is_told_in_how_many_microbatches_it_would():
    one = machine.of_chip("NVIDIA H200", 1)
    config = recipes.make("lvm-lite", "1b")
    found = plan.on(one, config)["images"]
    assert found.fits is False
    assert found.microbatches is not None
    split = dataclasses.replace(config.stages["images"], microbatches=found.microbatches)
    changed = dataclasses.replace(config, stages={"images": split})
    assert plan.on(one, changed)["images"].fits is True


def test_a_model_too_large_for_a_chip_fits_where_fsdp_divides_it():
    config = recipes.make("lvm-lite", "3b")
    alone = plan.on(machine.of_chip("NVIDIA A100-SXM4-40GB", 8), config)["sequences"]
    assert (alone.fits, alone.microbatches) == (False, None)
    spread = dataclasses.replace(config, compute=dataclasses.replace(config.compute, fsdp=8))
    divided = plan.on(machine.of_chip("NVIDIA A100-SXM4-40GB", 8), spread)["sequences"]
    assert divided.memory.parameters == pytest.approx(alone.memory.parameters / 8, rel=1e-6)
    assert divided.microbatches is not None


def test_less_is_computed_again_where_microbatches_leave_room():
    found = plan.on(H200, recipes.make("lvm-lite", "1b"))["images"]
    assert found.remat == "full"
    assert found.without_remat is not None
    config = recipes.make("lvm-lite", "1b")
    split = dataclasses.replace(config.stages["images"], microbatches=found.without_remat)
    assert plan.on(H200, dataclasses.replace(config, stages={"images": split}))["images"].remat == "none"


def test_a_teacher_adds_its_forward_pass():
    config, teacher = recipes.make("delvm", "300m"), recipes.MODELS["1b"]
    (alone,), (taught,) = (plan.on(H200, config, other).values() for other in (None, teacher))
    more = 40_000 * 262_144 * teacher.flops_per_token(2048) / 3 / H200.flops
    assert taught.seconds - alone.seconds == pytest.approx(more)


def test_an_unknown_chip_and_a_mesh_of_another_size_are_named():
    with pytest.raises(UserError, match="unknown chip 'NVIDIA H20': did you mean 'NVIDIA H200'"):
        machine.of_chip("NVIDIA H20", 1)
    config = recipes.make("lvm-lite")
    with pytest.raises(UserError, match="wants 6 devices, there are 8"):
        plan.on(H200, dataclasses.replace(config, compute=ComputeConfig(fsdp=3)))


def test_here_a_product_is_timed():
    model = ModelConfig(name="x", hidden=64, mlp=128, heads=2, layers=2)
    found = machine.here(model, ComputeConfig())
    assert found.platform == "cpu"
    assert found.memory is None
    assert 1e8 < found.flops < 1e14
    assert re.search(r"2048 x 64 by 64 x 128 in float32, timed now at [\d.]+ TFLOP/s", found.basis)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (61.0, "1 min 1 s"), (3600.0, "1 h"), (1e5, "1 d 3 h"), (9e8, "10,416 d 16 h")]
)
def test_durations_are_read_in_two_units(seconds, text):
    assert duration(seconds) == text


def test_a_dry_run_prints_settings_and_estimates_for_a_named_chip(manifest, tmp_path):
    how = ["--set", "stages.*.steps=20", "--chip", "TPU v5p", "--chips", "4", "--set", "compute.fsdp=2"]
    out = tmp_path / "run"
    result = CliRunner().invoke(train, ["tiny", "-m", str(manifest), "--out", str(out), "--dry-run", *how])
    assert result.exit_code == 0, result.output
    settings, _ = json.JSONDecoder().raw_decode(result.output)
    assert settings["stages"]["sequences"]["steps"] == 20
    words = " ".join(result.output.split())
    assert "estimated for 4 x TPU v5p (2 data x 2 fsdp x 1 tensor), GB of each device" in words
    assert "time: FLOPs / (4 x 459 TFLOP/s" in words
    assert "85% of 95.0 GB is planned with" in words
    assert not out.exists()


def test_a_dry_run_checks_the_run_that_is_started_from(manifest, tmp_path):
    with pytest.raises(UserError, match="has no checkpoints"):
        CliRunner().invoke(train, ["tiny", "-m", str(manifest), "--dry-run", "--from", str(tmp_path / "nowhere")],
                           catch_exceptions=False)  # fmt: skip


def test_a_chip_is_not_trained_on(manifest, tmp_path):
    with pytest.raises(UserError, match="--chip is for estimates alone"):
        CliRunner().invoke(train, ["tiny", "-m", str(manifest), "--out", str(tmp_path / "run"), "--chip", "TPU v4"],
                           catch_exceptions=False)  # fmt: skip
