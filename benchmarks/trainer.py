"""Tokens per second of training and of generating with one model, on this machine: `python benchmarks/trainer.py`."""

import argparse
import dataclasses
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

import machine

from trainer import recipes
from trainer.batches import Batch
from trainer.config import RunConfig, StageConfig
from trainer.generate import BATCH, Sampling, generate
from trainer.mesh import make_mesh
from trainer.step import init_state, make_step

PROMPT, NEW = 256, 768  # tokens; one image given, three generated


def step_seconds(config: RunConfig, stage: StageConfig, context: int, steps: int) -> float:
    """Returns the median time of one step on random codes, compilation left out."""
    codes = np.random.default_rng(0).integers(0, config.model.codebook_size, (stage.batch_sentences, context))
    batch = Batch(codes.astype(np.uint16), np.zeros(stage.batch_sentences, np.int32))
    state = init_state(config)
    step = make_step(config, stage, 0, 1, make_mesh(config.compute)).lower(state, batch).compile()
    times = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def generate_seconds(config: RunConfig) -> float:
    """Returns the time in which one batch of samples gets `NEW` tokens, compilation left out."""
    params = init_state(config).params
    prompts = np.zeros((BATCH, PROMPT), np.uint16)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        generate(params, config.model, prompts, NEW, Sampling())
        times.append(time.perf_counter() - began)
    return min(times[1:])


def main() -> None:
    """Measures, prints a table and stores the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--codebook", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=4096, help="of one step")
    parser.add_argument("--contexts", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    config = recipes.make("tiny", options.model)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, codebook_size=options.codebook))
    results = {}
    table = Table("work", "tokens/s", "TFLOP/s", title=f"{options.model}, {config.model.parameters:,} parameters")
    for context in options.contexts:
        batch = max(options.tokens // context, 1)
        stage = dataclasses.replace(config.stages["images"], batch_sentences=batch)
        rate = batch * context / step_seconds(config, stage, context, options.steps)
        teraflops = rate * config.model.flops_per_token(context) / 1e12
        results[f"train, context {context}"] = {"tokens_per_second": rate, "teraflops": teraflops, "batch": batch}
        table.add_row(f"train, {batch} x {context}", f"{rate:,.0f}", f"{teraflops:.3f}")
    rate = BATCH * NEW / generate_seconds(config)
    results["generate"] = {"tokens_per_second": rate, "batch": BATCH, "prompt": PROMPT, "new": NEW}
    table.add_row(f"generate, {BATCH} x {NEW} after {PROMPT}", f"{rate:,.0f}", "")
    Console().print(table)
    machine.save("trainer", {"model": options.model, "parameters": config.model.parameters, **results})


if __name__ == "__main__":
    main()
