"""LVM-Lite's claim: the same tokens as single images (context 256) and as sixteen-image sentences (context 4096).

python benchmarks/two_stages.py [--models 300m 600m 1b] [--tokens 65536]

Each model trains on the same number of tokens a step at both contexts, with materialised attention (as the paper's
baseline computes it) and with the kernel that is fastest here. The paper gives 2.7, 1.7 and 1.8 times for 300M, 600M
and 1B. On a CPU the defaults are small models: what a longer context costs depends on width, so they have factors of
their own.
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
from training import Case, step_seconds

from trainer.config import ComputeConfig

PAPER = {"300m": 2.7, "600m": 1.7, "1b": 1.8}
SHORT, LONG = 256, 4096


def main() -> None:
    """Measures, prints a table and stores the results."""
    on_cpu = jax.default_backend() == "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tiny", "80m"] if on_cpu else list(PAPER))
    parser.add_argument("--tokens", type=int, default=LONG if on_cpu else 65_536, help="of one step")
    parser.add_argument("--codebook", type=int, default=1024 if on_cpu else 8192)
    parser.add_argument("--steps", type=int, default=3 if on_cpu else 10)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    table = Table("model", "attention", f"s at {SHORT}", f"s at {LONG}", "times", "the paper's")
    for model in options.models:
        for name, kernel in (("materialised", "xla"), ("fastest", "auto")):
            short, long = (seconds(model, context, kernel, options) for context in (SHORT, LONG))
            results[f"{model}, {name}"] = {"short": short, "long": long, "times": long / short}
            table.add_row(model, name, f"{short:.3f}", f"{long:.3f}", f"{long / short:.2f}", str(PAPER.get(model, "")))
    Console().print(table)
    facts = {"device": jax.devices()[0].device_kind, "tokens": options.tokens, "codebook": options.codebook}
    machine.save("two_stages", {**facts, "seconds of a step": results, "the paper's times": PAPER})


def seconds(model: str, context: int, kernel: Any, options: Any) -> float:
    """Returns the median time of a step of so many tokens."""
    case = Case(model, context, options.tokens // context)
    return step_seconds(case, ComputeConfig(attention=kernel), options.codebook, options.steps)


if __name__ == "__main__":
    main()
