"""The cost of a step with a teacher against a plain step: beside the student, and with its likeliest codes cached.

python benchmarks/distillation.py [--cases 300m:1b:2048:32 80m:1b:2048:32] [--top-k 64]

A case is student:teacher:context:sentences of a step. A plain step takes 3 times the student's forward pass in FLOPs, a
teacher beside it one forward pass of its own: `FLOPs` is the ratio of both steps, `time` the ratio measured, and
`time / FLOPs` what should stay under 1.15. Steps of all kinds take turns, so that a machine's moods fall on all.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import machine
from rich.console import Console
from rich.table import Table
from training import network

from trainer import model as llama
from trainer.batches import Batch, Likeliest
from trainer.choosing import choose_kernel
from trainer.config import ComputeConfig, DistillConfig, RunConfig, StageConfig
from trainer.distill import TeacherModel
from trainer.mesh import layout, make_mesh, over_batch
from trainer.step import make_state, make_step

ON_CPU = ("tiny:tiny:256:16", "tiny:80m:256:8")
ON_ACCELERATOR = ("300m:1b:2048:32", "80m:1b:2048:32")
KINDS = ("plain", "teacher", "cached")


@dataclasses.dataclass(frozen=True)
class Case:
    """One pair of models and one shape."""

    student: str
    teacher: str
    context: int
    sentences: int

    @classmethod
    def parse(cls, text: str) -> "Case":
        """Reads `student:teacher:context:sentences`."""
        student, teacher, context, sentences = text.split(":")
        return cls(student, teacher, int(context), int(sentences))

    def __str__(self) -> str:
        return f"{self.student} from {self.teacher}, {self.sentences} x {self.context}"


def step_seconds(case: Case, compute: ComputeConfig, codebook: int, top_k: int, steps: int) -> dict[str, float]:
    """Returns the median time of a step of each kind, compilation left out."""
    mesh = make_mesh(compute)
    with jax.set_mesh(mesh):
        runs = {kind: _runner(case, compute, codebook, top_k, kind, mesh) for kind in KINDS}
        times: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in range(steps + 1):
            for kind, run in runs.items():
                began = time.perf_counter()
                run()
                times[kind].append(time.perf_counter() - began)
    return {kind: statistics.median(taken[1:]) for kind, taken in times.items()}


def _runner(case: Case, compute: ComputeConfig, codebook: int, top_k: int, kind: str, mesh: Any) -> Callable[[], None]:
    """Returns a function that does one compiled step and waits for it."""
    how = {"plain": DistillConfig(), "teacher": DistillConfig(teacher="x"), "cached": DistillConfig(cached="x")}[kind]
    stage = StageConfig(steps=1, batch_sentences=case.sentences, learning_rate=1e-4, final_learning_rate=1e-5,
                        context=case.context)  # fmt: skip
    student, teacher = network(case.student, codebook), network(case.teacher, codebook)
    compute = choose_kernel(student, compute, case.context, mesh).compute
    config = RunConfig(recipe="benchmark", model=student, stages={"s": stage}, compute=compute, distill=how)
    model, params = None, None
    if kind == "teacher":
        own = choose_kernel(teacher, dataclasses.replace(compute, remat="none", attention="auto"), case.context, mesh)
        model = TeacherModel(teacher, own.compute)
        params = llama.cast(llama.init(teacher, 1), own.compute, trained=False)
        params = jax.device_put(params, layout(mesh, params))
    batch = jax.device_put(_batch(case, codebook, top_k if kind == "cached" else 0), over_batch(mesh))
    state = [make_state(config, mesh)]
    step = make_step(config, stage, 0, 1, mesh, model).lower(state[0], batch, params).compile()

    def run() -> None:
        state[0], metrics = step(state[0], batch, params)
        jax.block_until_ready(metrics)

    return run


def _batch(case: Case, codebook: int, top_k: int) -> Batch:
    """Returns random codes, with random likeliest ones where `top_k` is not 0."""
    random, shape = np.random.default_rng(0), (case.sentences, case.context)
    codes = random.integers(0, codebook, shape).astype(np.uint16)
    if not top_k:
        return Batch(codes, np.zeros(case.sentences, np.int32))
    first = random.integers(0, codebook, (*shape, 1))
    likeliest = ((first + np.arange(top_k)) % codebook).astype(np.uint16)
    logs = np.broadcast_to(-np.log(2.0 + np.arange(top_k)) - 2, likeliest.shape).astype(np.float16)
    return Batch(codes, np.zeros(case.sentences, np.int32), Likeliest(likeliest, logs))


def measure(case: Case, compute: ComputeConfig, options: Any) -> dict[str, Any]:
    """Returns the figures of one case."""
    seconds = step_seconds(case, compute, options.codebook, options.top_k, options.steps)
    student, teacher = (network(name, options.codebook).flops_per_token(case.context)
                        for name in (case.student, case.teacher))  # fmt: skip
    ratio = 1 + teacher / 3 / student
    return {
        "seconds": seconds,
        "flops_ratio": ratio,
        "time_ratio": seconds["teacher"] / seconds["plain"],
        "time_over_flops": seconds["teacher"] / seconds["plain"] / ratio,
        "cached_time_ratio": seconds["cached"] / seconds["plain"],
        "cached_bytes_per_token": 4 * options.top_k,
    }


def main() -> None:
    """Measures, prints a table and stores the results."""
    on_cpu = jax.default_backend() == "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=Case.parse, metavar="STUDENT:TEACHER:CONTEXT:SENTENCES",
                        default=[Case.parse(case) for case in (ON_CPU if on_cpu else ON_ACCELERATOR)])  # fmt: skip
    parser.add_argument("--codebook", type=int, default=1024 if on_cpu else 8192)
    parser.add_argument("--top-k", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5 if on_cpu else 20)
    parser.add_argument("--remat", default="auto")
    options = parser.parse_args()
    results = {}
    table = Table("step", "plain", "teacher", "FLOPs", "time", "time / FLOPs", f"cached top {options.top_k}")
    for case in options.cases:
        found = results[str(case)] = measure(case, ComputeConfig(remat=options.remat), options)
        table.add_row(str(case), *(f"{found['seconds'][kind] * 1e3:,.1f} ms" for kind in ("plain", "teacher")),
                      f"x {found['flops_ratio']:.2f}", f"x {found['time_ratio']:.2f}",
                      f"{found['time_over_flops']:.2f}", f"x {found['cached_time_ratio']:.2f}")  # fmt: skip
    Console().print(table)
    facts = {"device": jax.devices()[0].device_kind, "devices": jax.device_count(), "codebook": options.codebook}
    machine.save("distillation", {**facts, "top_k": options.top_k, "steps": results})


if __name__ == "__main__":
    main()
