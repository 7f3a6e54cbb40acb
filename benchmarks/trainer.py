"""Tokens per second of training beside transformers' Llama under torch.compile: same shapes, same run.

python benchmarks/trainer.py [--peer-python /path/to/python] [--cases 300m:256:256 300m:4096:16 1b:4096:8]

A case is model:context:sentences of a step. Codes are random, which changes no time. Shares are of the rate of a large
matrix product measured in the same run and, where the chip's peak is known, of that peak (MFU), both counting the
attention that the causal mask leaves.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import jax

sys.path.insert(0, str(Path(__file__).parent.parent))

import machine
from rich.console import Console
from rich.table import Table
from training import Case, network, peer_seconds, product_flops, step_seconds

from trainer import chips
from trainer.config import ComputeConfig
from trainer.model import dtype_of

ON_CPU = ("tiny:256:16", "tiny:1024:4", "80m:256:4")
ON_ACCELERATOR = ("300m:256:256", "300m:4096:16", "1b:4096:8")


def main() -> None:
    """Measures, prints a table and stores the results."""
    on_cpu = jax.default_backend() == "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=Case.parse, metavar="MODEL:CONTEXT:SENTENCES",
                        default=[Case.parse(case) for case in (ON_CPU if on_cpu else ON_ACCELERATOR)])  # fmt: skip
    parser.add_argument("--codebook", type=int, default=1024 if on_cpu else 8192)
    parser.add_argument("--steps", type=int, default=8 if on_cpu else 20)
    parser.add_argument("--remat", default="auto")
    parser.add_argument("--peer-python", help="a Python with torch and transformers; without it no peer is measured")
    options = parser.parse_args()
    compute = ComputeConfig(remat=options.remat)
    chip = chips.find(jax.devices()[0].device_kind)
    product, peak = product_flops(dtype_of(compute)), chip.flops if chip else None
    results: dict[str, Any] = {}
    table = Table("step", "tokens/s", "TFLOP/s", "of a product", "MFU", "transformers", "times")
    for case in options.cases:
        found = measure(case, compute, options, product, peak)
        results[str(case)] = found
        table.add_row(str(case), f"{found['tokens_per_second']:,.0f}", f"{found['teraflops']:.3f}",
                      f"{found['share_of_product']:.0%}", f"{found['mfu_causal']:.1%}" if peak else "unknown chip",
                      *((f"{found['peer_tokens_per_second']:,.0f}", f"{found['times']:.2f}")
                        if options.peer_python else ("", "")))  # fmt: skip
    Console().print(table)
    facts = {"device": jax.devices()[0].device_kind, "devices": jax.device_count(), "codebook": options.codebook}
    machine.save("trainer", {**facts, "product_teraflops": product / 1e12, "peak_teraflops": peak and peak / 1e12,
                             "steps": results})  # fmt: skip


def measure(case: Case, compute: ComputeConfig, options: Any, product: float, peak: float | None) -> dict[str, Any]:
    """Returns one case's figures, with those of transformers where a Python was named."""
    rate = case.tokens / step_seconds(case, compute, options.codebook, options.steps)
    model = network(case.model, options.codebook)
    flops = rate * model.flops_per_token(case.context) / jax.device_count()
    found: dict[str, Any] = {"tokens_per_second": rate, "teraflops": flops / 1e12, "share_of_product": flops / product}
    if peak:
        full = rate * model.flops_per_token(case.context, causal=False) / jax.device_count()
        found |= {"mfu_causal": flops / peak, "mfu_full": full / peak}
    if options.peer_python:
        peer = peer_seconds(options.peer_python, case, options.codebook, options.steps)
        peer_rate = case.tokens / peer["seconds"]
        found |= {"peer": peer, "peer_tokens_per_second": peer_rate, "times": rate / peer_rate}
    return found


if __name__ == "__main__":
    main()
