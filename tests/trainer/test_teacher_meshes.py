"""What a mesh must not change for a student: eight devices that XLA makes of one processor, in a process of its own."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from trainer import model as llama
from trainer.batches import Batch
from trainer.config import ComputeConfig, DistillConfig, ModelConfig, RunConfig, StageConfig
from trainer.distill import TeacherModel
from trainer.mesh import layout, make_mesh, over_batch
from trainer.step import make_state, make_step
from trainer.teach import make_ask

ROOT = Path(__file__).resolve().parents[2]
STUDENT = ModelConfig(name="student", hidden=32, mlp=48, heads=4, layers=2, codebook_size=64)
TEACHER = dataclasses.replace(STUDENT, name="teacher", hidden=64, special_tokens=36, init_std=0.2)


def report(data, fsdp, tensor, microbatches, kind):
    """Losses and divergences of two steps with a teacher beside the student, or with its four likeliest codes."""
    compute = ComputeConfig(data=data, fsdp=fsdp, tensor=tensor, loss_chunk_tokens=64)
    stage = StageConfig(steps=9, batch_sentences=16, learning_rate=1e-2, final_learning_rate=1e-3, context=16,
                        microbatches=microbatches)  # fmt: skip
    how = DistillConfig(**{kind: "x"}, temperature=1.5)
    config = RunConfig(recipe="mesh", model=STUDENT, stages={"s": stage}, compute=compute, distill=how)
    mesh, teacher = make_mesh(compute), TeacherModel(TEACHER, compute)
    params = llama.init(TEACHER, 3)
    params = jax.device_put(params, layout(mesh, params))
    codes = np.random.default_rng(0).integers(0, 64, (16, 16)).astype(np.uint16)
    batch = jax.device_put(Batch(codes, np.zeros(16, np.int32)), over_batch(mesh))
    with jax.set_mesh(mesh):
        if kind == "cached":
            batch = batch._replace(likeliest=make_ask(teacher, 4, mesh)(params, batch.codes))
        step = make_step(config, stage, 0, 1, mesh, teacher if kind == "teacher" else None)
        state, found = make_state(config, mesh), []
        for _ in range(2):
            state, metrics = step(state, batch, params if kind == "teacher" else None)
            found += [float(metrics.loss), float(metrics.tasks.divergence[0]), float(metrics.gradient_norm)]
    return {"found": found, "bytes": sum(x.nbytes for x in jax.tree.leaves(params)),
            "on_first": sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(params))}  # fmt: skip


@pytest.mark.slow
def test_a_mesh_and_microbatches_change_neither_losses_nor_divergence():
    meshes = [(2, 2, 2, 2, "teacher"), (1, 4, 2, 1, "cached")]
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, json.dumps(meshes)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one = {kind: report(1, 1, 1, 1, kind) for kind in ("teacher", "cached")}
    for sizes, other in zip(meshes, json.loads(done.stdout), strict=True):
        # A code's log-probability may be rounded to another float16 where the teacher's sums have another order.
        tolerance = 1e-4 if sizes[-1] == "teacher" else 1e-3
        np.testing.assert_allclose(other["found"], one[sizes[-1]]["found"], rtol=tolerance)
        assert other["on_first"] < other["bytes"] / 3  # the teacher lies in parts, too


if __name__ == "__main__":
    print(json.dumps([report(*sizes) for sizes in json.loads(sys.argv[1])]))
