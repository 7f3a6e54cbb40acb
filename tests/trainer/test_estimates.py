"""Memory from shapes alone, against what XLA's own compiler says of the compiled step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from trainer import estimates
from trainer.batches import Batch
from trainer.config import ComputeConfig, ModelConfig, RunConfig, StageConfig
from trainer.mesh import make_mesh, over_batch
from trainer.step import make_step, placed_shapes

SHAPE = {"hidden": 64, "mlp": 176, "heads": 4, "layers": 6, "codebook_size": 448}
ONE = {"data": 1, "fsdp": 1, "tensor": 1}


def stage_of(context: int, batch: int, microbatches: int = 1) -> StageConfig:
    return StageConfig(steps=9, batch_sentences=batch, context=context, microbatches=microbatches, learning_rate=1e-3,
                       final_learning_rate=1e-4)  # fmt: skip


def bytes_of_xla(model: ModelConfig, compute: ComputeConfig, stage: StageConfig) -> int:
    """What the compiled step holds on a device: its arguments, and all that is there beside them at once."""
    config = RunConfig(recipe="x", model=model, compute=compute, stages={"s": stage})
    mesh = make_mesh(compute)
    place: Any = jax.ShapeDtypeStruct
    lies = over_batch(mesh)
    codes = place((stage.batch_sentences, stage.context), jnp.uint16, sharding=lies)
    tasks = place((stage.batch_sentences,), jnp.int32, sharding=lies)
    with jax.set_mesh(mesh):
        step = make_step(config, stage, 0, 1, mesh)
        found = step.lower(placed_shapes(config, mesh), Batch(codes, tasks)).compile().memory_analysis()
    return (found.argument_size_in_bytes + found.temp_size_in_bytes + found.output_size_in_bytes
            - found.alias_size_in_bytes)  # fmt: skip


CASES: list[tuple[dict[str, Any], dict[str, Any], tuple[int, ...]]] = [
    ({}, {"remat": "none"}, (256, 4)),
    ({"codebook_size": 8128, "layers": 3}, {"remat": "dots", "loss_chunk_tokens": 256}, (256, 4, 2)),
]
MORE_CASES: list[tuple[dict[str, Any], dict[str, Any], tuple[int, ...]]] = [
    ({}, {"remat": "full"}, (64, 8)),
    ({}, {"remat": "dots"}, (256, 4)),
    ({}, {"remat": "full"}, (512, 4)),
    ({}, {"remat": "none", "attention": "xla"}, (512, 4)),
    ({}, {"remat": "full", "attention": "xla"}, (512, 4)),
    ({"embedding": "codebook"}, {"remat": "none"}, (64, 8)),
    ({"hidden": 128, "mlp": 512, "heads": 2, "layers": 3}, {"remat": "none"}, (256, 4)),
    ({"hidden": 128, "mlp": 512, "heads": 2, "layers": 4}, {"remat": "none", "block_tokens": 64}, (512, 4)),
    ({"hidden": 128, "mlp": 512, "heads": 2, "layers": 4}, {"remat": "full", "block_tokens": 64}, (512, 4)),
    ({"codebook_size": 8128, "layers": 3}, {"remat": "none"}, (256, 4)),
]


def check_case(shape: dict[str, Any], how: dict[str, Any], read: tuple[int, ...]) -> None:
    model = ModelConfig(name="x", **{**SHAPE, **shape})
    compute = estimates.settled(ComputeConfig(data=1, **how), "cpu")
    stage = stage_of(*read)
    found = bytes_of_xla(model, compute, stage)
    guess = estimates.memory(model, compute, stage, ONE).total
    assert found / estimates.FACTOR < guess < found * estimates.FACTOR


@pytest.mark.parametrize(("shape", "how", "read"), CASES)
def test_memory_is_within_a_factor_of_what_xla_takes(shape, how, read):
    check_case(shape, how, read)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "how", "read"), MORE_CASES)
def test_memory_is_within_a_factor_of_what_xla_takes_in_other_ways_of_computing(shape, how, read):
    check_case(shape, how, read)


LARGE = ModelConfig(name="1b", hidden=2048, mlp=5504, heads=16, layers=22)
ON_GPU = estimates.settled(ComputeConfig(remat="none"), "gpu")


def test_parameters_moments_and_gradients_of_the_1b_model():
    """float32 parameters and two moments; the gradient, and matrices in bfloat16."""
    found = estimates.memory(LARGE, ON_GPU, stage_of(4096, 8), ONE)
    assert found.parameters == 12 * LARGE.parameters
    assert found.gradients == 6 * LARGE.parameters
    divided = estimates.memory(LARGE, ON_GPU, stage_of(4096, 8), {"data": 1, "fsdp": 4, "tensor": 2})
    assert divided.parameters == found.parameters // 8
    assert divided.activations < found.activations / 3


def test_every_remat_needs_less_than_the_one_before():
    totals = [estimates.memory(LARGE, dataclasses.replace(ON_GPU, remat=remat), stage_of(4096, 8), ONE).total
              for remat in estimates.REMATS]  # fmt: skip
    assert totals == sorted(totals, reverse=True)
    assert len(set(totals)) == 3


def test_the_cheapest_remat_that_fits_is_chosen():
    stage = stage_of(4096, 8)
    for remat in estimates.REMATS:
        compute = dataclasses.replace(ON_GPU, remat=remat)
        room = int(estimates.memory(LARGE, compute, stage, ONE).total / estimates.SPARE) + 1
        assert estimates.cheapest_remat(LARGE, ON_GPU, stage, ONE, room) == remat
    assert estimates.cheapest_remat(LARGE, ON_GPU, stage, ONE, None) == "none"
    assert estimates.cheapest_remat(LARGE, ON_GPU, stage, ONE, 1) == "full"


def test_microbatches_are_as_few_as_fit():
    stage, limit = stage_of(4096, 512), int(141e9)
    compute = dataclasses.replace(ON_GPU, remat="auto")
    count = estimates.fewest_microbatches(LARGE, compute, stage, ONE, limit)
    assert count is not None
    assert count > 1
    full = dataclasses.replace(ON_GPU, remat="full")
    for parts, fits in ((count, True), (count // 2, False)):
        split = dataclasses.replace(stage, microbatches=parts)
        assert (estimates.memory(LARGE, full, split, ONE).total <= estimates.SPARE * limit) is fits
    assert estimates.fewest_microbatches(LARGE, compute, stage, ONE, int(1e9)) is None
