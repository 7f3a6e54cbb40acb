"""Images generated per second at several batch sizes, and by transformers' `generate` with a static cache beside them.

    python benchmarks/generation.py --model 300m --batches 1 16 256 --peer-python ~/torch/bin/python
    python benchmarks/generation.py --model tiny --batches 1 4 --prompt-images 1 --tokens-per-image 64

A prompt is one pair and a query, and one image follows (LVM-Lite's in-context generation); codes are drawn among the
100 likeliest. Weights and prompts are random, which changes nothing about speed. On a GPU both compute in bfloat16 and
transformers compiles its step by itself, as it does for a static cache; on a CPU both compute in float32. The peer runs
in a process of another Python, which needs torch and transformers, after visent at each batch size.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the peer needs memory of the same GPU
sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import machine
import numpy as np
from rich.console import Console
from rich.table import Table

from trainer import model as llama
from trainer import recipes
from trainer.config import ModelConfig
from trainer.generate import Sampling, generate

PEER = Path(__file__).with_name("generation_peer.py")


def seconds(model: ModelConfig, params: llama.Params, batch: int, prompt: int, new: int, repeats: int) -> float:
    """Returns the median time of one batch, compilation left out."""
    prompts = np.random.default_rng(0).integers(0, model.codebook_size, (batch, prompt)).astype(np.uint16)
    times = []
    for repeat in range(repeats + 1):
        began = time.perf_counter()
        generate(params, model, prompts, new, Sampling(seed=repeat), batch=batch, devices=jax.local_devices()[:1])
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def peer_seconds(python: str, what: dict[str, Any]) -> dict[str, Any]:
    """Returns what the peer printed: its median time and versions."""
    run = subprocess.run([python, str(PEER), json.dumps(what)], capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{python} {PEER} failed:\n{run.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Measures, prints a table and stores the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="300m")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--prompt-images", type=int, default=3)
    parser.add_argument("--tokens-per-image", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python", help="Python with torch and transformers; left out without it")
    options = parser.parse_args()
    model, new = recipes.MODELS[options.model], options.tokens_per_image
    prompt = options.prompt_images * new
    params = llama.init(model, 0)
    shape = {"vocabulary": model.vocabulary, "prompt": prompt + 1, "new": new, "repeats": options.repeats}
    sizes = {name: getattr(model, name) for name in ("hidden", "mlp", "heads", "layers")}
    table = Table("batch", "visent images/s", "ms per token", "transformers images/s", "times", title=options.model)
    rows = []
    for batch in options.batches:
        own = seconds(model, params, batch, prompt, new, options.repeats)
        row: dict[str, Any] = {"batch": batch, "seconds": own, "images_per_second": batch / own}
        shown = ["-", "-"]
        if options.peer_python:
            peer = peer_seconds(options.peer_python, {**sizes, **shape, "batch": batch})
            row |= {"peer": peer, "peer_images_per_second": batch / peer["seconds"], "times": peer["seconds"] / own}
            shown = [f"{row['peer_images_per_second']:.2f}", f"{row['times']:.2f}"]
        rows.append(row)
        table.add_row(str(batch), f"{row['images_per_second']:.2f}", f"{own / new * 1000:.2f}", *shown)
    Console().print(table)
    device = jax.devices()[0].device_kind
    machine.save("generation", {"model": dataclasses.asdict(model), "device": device, "tokens_per_image": new,
                                "prompt_images": options.prompt_images, "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()
