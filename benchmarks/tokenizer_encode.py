"""Encode and decode rate of a tokenizer, beside the matrix product the same machine reaches in the same run.

python benchmarks/tokenizer_encode.py [--tokenizer default] [--images 256]
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from machine import save
from rich.console import Console
from rich.table import Table

from tokenizer.cost import flops_per_image
from tokenizer.load import load
from tokenizer.tokenizer import Tokenizer

REPEATS = 5


def seconds(run: Callable[[], Any]) -> float:
    """Returns the median time of a call, the first one (which compiles) left out."""
    jax.block_until_ready(run())
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_gflops(side: int = 2048) -> float:
    """Returns the rate of a large float32 matrix product, in GFLOP/s."""
    matrix = jnp.ones((side, side), jnp.float32)
    return 2 * side**3 / seconds(jax.jit(lambda: matrix @ matrix.T)) / 1e9


def main() -> None:
    """Measures and stores the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", default="default")
    parser.add_argument("--images", type=int, default=256)
    options = parser.parse_args()
    loaded = load(options.tokenizer)
    size = loaded.card.image_size
    images = np.random.default_rng(0).integers(0, 256, (options.images, size, size, 3), np.uint8)
    codes = loaded.encode(images)
    peak, cost = peak_gflops(), flops_per_image(loaded) / 1e9
    results: dict[str, Any] = {"matmul_gflops": peak, "encode_gflop_per_image": cost, "batches": []}
    table = Table("batch", "encode images/s", "GFLOP/s", "of the matrix product", "decode images/s")
    for batch in (1, 4, 8, 16, 32):
        tokenizer = Tokenizer(loaded.model, loaded.card, batch)
        encode = options.images / seconds(functools.partial(tokenizer.encode, images))
        decode = options.images / seconds(functools.partial(tokenizer.decode, codes))
        results["batches"].append({"batch": batch, "encode_per_s": encode, "decode_per_s": decode})
        rate = encode * cost
        mark = "*" if batch == loaded.batch_size else ""
        table.add_row(f"{batch}{mark}", f"{encode:.1f}", f"{rate:.0f}", f"{rate / peak:.0%}", f"{decode:.1f}")
    console = Console()
    console.print(table)
    console.print(f"float32 matrix product {peak:.0f} GFLOP/s; one image {cost:.2f} GFLOP; * is the default batch")
    save("tokenizer_encode", results)


if __name__ == "__main__":
    main()
