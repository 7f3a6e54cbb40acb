"""Trains a few steps on the devices that this process has, over several meshes, and says what came out.

Tests call it in their own process for one device, and run it as a script with XLA_FLAGS for more.
"""

import dataclasses
import hashlib
import json
import sys
from functools import partial
from typing import Any

import jax
import numpy as np

from manifests.corpus import Corpus
from manifests.lock import resolve
from trainer import batches, plan, recipes
from trainer.config import ComputeConfig, ModelConfig, RunConfig, StageConfig
from trainer.mesh import make_mesh
from trainer.step import begin_stage, init_state, make_state, make_step, placed_shapes

STEPS = 3
MODEL = ModelConfig(name="mini", hidden=32, mlp=48, heads=2, layers=2, codebook_size=64)


def configuration(data: int, fsdp: int, tensor: int, microbatches: int) -> RunConfig:
    """A run over the stage of sequences."""
    stage = StageConfig(steps=9, batch_sentences=16, learning_rate=1e-2, final_learning_rate=1e-3,
                        microbatches=microbatches, reset_moments=True)  # fmt: skip
    compute = ComputeConfig(data=data, fsdp=fsdp, tensor=tensor, loss_chunk_tokens=256)
    return dataclasses.replace(recipes.make("tiny"), model=MODEL, stages={"sequences": stage}, compute=compute)


def report(manifest: str, data: int, fsdp: int, tensor: int, microbatches: int) -> dict[str, Any]:
    """Returns losses, sums by task, what the first state was, and how much of it lies on the first device."""
    lock = resolve(manifest)
    config = plan.fit(configuration(data, fsdp, tensor, microbatches), lock)
    mesh, stage, corpus = make_mesh(config.compute), config.stages["sequences"], Corpus(lock)
    state = make_state(config, mesh)
    found: dict[str, Any] = {"first_state": digest(state), "making": bytes_of_making(config, mesh)}
    state = begin_stage(state, stage)
    rows = batches.own_rows(mesh, stage.batch_sentences)
    with jax.set_mesh(mesh):
        step = make_step(config, stage, 0, 3, mesh)
        found["losses"], found["tasks"], found["norms"] = [], [], []
        for number in range(STEPS):
            own = batches.batch(corpus, "sequences", number, stage.batch_sentences, 0, rows)
            state, metrics = step(state, batches.spread(mesh, rows, stage.batch_sentences, own))
            found["losses"].append(float(metrics.loss))
            found["norms"].append(float(metrics.gradient_norm))
            found["tasks"].append(np.stack(jax.device_get(metrics.tasks)[:3]).tolist())
    found["bytes_on_first"] = sum(part.addressable_shards[0].data.nbytes for part in jax.tree.leaves(state))
    found["bytes"] = sum(part.nbytes for part in jax.tree.leaves(state))
    return found


def digest(tree: Any) -> str:
    """Returns one value for all bits of a tree."""
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree))).hexdigest()


def bytes_of_making(config: RunConfig, mesh: Any) -> int:
    """Returns the most bytes that a device holds while it makes its part of a state."""
    lies = jax.tree.map(lambda shape: shape.sharding, placed_shapes(config, mesh))
    memory = jax.jit(partial(init_state, config), out_shardings=lies).lower().compile().memory_analysis()
    return int(memory.output_size_in_bytes + memory.temp_size_in_bytes)


if __name__ == "__main__":
    wanted = json.loads(sys.argv[2])
    print(json.dumps([report(sys.argv[1], *sizes) for sizes in wanted]))
