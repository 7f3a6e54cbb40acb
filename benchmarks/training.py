"""What the training benchmarks share: a step on random codes, timed, and transformers' step beside it."""

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from trainer import recipes
from trainer.batches import Batch, own_rows, spread
from trainer.choosing import choose_kernel, choose_remat
from trainer.config import ComputeConfig, ModelConfig, RunConfig, StageConfig
from trainer.mesh import make_mesh
from trainer.step import make_state, make_step


@dataclasses.dataclass(frozen=True)
class Case:
    """One shape: `model:context:sentences`, as in 300m:4096:4."""

    model: str
    context: int
    sentences: int

    @classmethod
    def parse(cls, text: str) -> "Case":
        """Reads `model:context:sentences`."""
        model, context, sentences = text.split(":")
        return cls(model, int(context), int(sentences))

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.context * self.sentences

    def __str__(self) -> str:
        return f"{self.model}, {self.sentences} x {self.context}"


def network(name: str, codebook: int) -> ModelConfig:
    """Returns a model of the recipes over a codebook of so many codes."""
    return dataclasses.replace(recipes.MODELS[name], codebook_size=codebook)


def step_seconds(case: Case, compute: ComputeConfig, codebook: int, steps: int) -> float:
    """Returns the median time of one step on random codes, compilation left out."""
    stage = StageConfig(steps=steps, batch_sentences=case.sentences, learning_rate=1e-4, final_learning_rate=1e-5,
                        context=case.context)  # fmt: skip
    model, mesh = network(case.model, codebook), make_mesh(compute)
    compute = choose_kernel(model, compute, case.context, mesh).compute
    compute = choose_remat(model, compute, stage, mesh).compute
    config = RunConfig(recipe="benchmark", model=model, stages={"s": stage}, compute=compute)
    codes = np.random.default_rng(0).integers(0, codebook, (case.sentences, case.context)).astype(np.uint16)
    with jax.set_mesh(mesh):
        state = make_state(config, mesh)
        tasks = np.zeros(case.sentences, np.int32)
        batch = spread(mesh, own_rows(mesh, case.sentences), case.sentences, Batch(codes, tasks))
        step = make_step(config, stage, 0, 1, mesh).lower(state, batch).compile()
        times = []
        for _ in range(steps + 1):
            began = time.perf_counter()
            state, metrics = step(state, batch)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def peer_seconds(python: str, case: Case, codebook: int, steps: int) -> dict[str, Any]:
    """Returns what transformers' Llama under torch.compile takes for the same step, in a process of its own."""
    model = network(case.model, codebook)
    what = {"hidden": model.hidden, "mlp": model.mlp, "heads": model.heads, "layers": model.layers,
            "vocabulary": model.vocabulary, "batch": case.sentences, "context": case.context,
            "steps": steps}  # fmt: skip
    command = [python, str(Path(__file__).with_name("llama_peer.py")), json.dumps(what)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        print(result.stderr[-2000:], file=sys.stderr)
        raise SystemExit(f"{python} could not train transformers' Llama: it must have torch and transformers")
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def product_flops(dtype: Any, size: int | None = None) -> float:
    """Returns the rate of a large matrix product of JAX on one device, the limit of every step, in FLOP/s."""
    side = size or (2048 if jax.default_backend() == "cpu" else 8192)
    a = jnp.ones((side, side), dtype)
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(a))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(product(a))
        times.append(time.perf_counter() - began)
    return 2 * side**3 / min(times)
