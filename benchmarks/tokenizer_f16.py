"""Encode rate of the f16-8192 network against diffusers' VQModel under torch: same weights and images, turn by turn.

python benchmarks/tokenizer_f16.py [--torch-python /path/to/python] [--images 8] [--rounds 5]

The weights are random, which changes no time. On a CPU both compute in float32, with as many threads, and torch in
either memory format. On a GPU torch is compiled and channels-last, in each precision that both have. torch may live in
another environment: it runs in a process of its own, which sleeps while the other one is measured.
"""

import argparse
import dataclasses
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from machine import save
from rich.console import Console
from rich.table import Table

from tokenizer.checkpoints import write
from tokenizer.checkpoints.network import read_out
from tokenizer.precision import PRECISIONS
from tokenizer.testing import random_model
from tokenizer.tokenizer import Tokenizer
from tokenizer.vqgan import F16_8192, VQGAN

ON_GPU = ("float32", "tf32", "bfloat16")  # precisions that torch has too


class Torch:
    """The other process."""

    def __init__(self, python: str, folder: Path) -> None:
        self._folder = folder
        command = [python, str(Path(__file__).with_name("torch_peer.py")), str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions = self._answer()

    def encode(self, how: dict[str, Any], batch_size: int) -> float:
        """Returns the seconds for all images."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"how": how, "batch_size": batch_size}) + "\n")
        self._process.stdin.flush()
        return float(self._answer()["seconds"])

    @property
    def codes(self) -> np.ndarray:
        """Those of the last call."""
        return np.asarray(np.load(self._folder / "codes.npy"))

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("torch's process ended; --torch-python must name one with torch, diffusers and numpy")
        return dict(json.loads(line))


def share(folder: Path, images: np.ndarray) -> VQGAN:
    """Draws weights whose codes are many, and writes them in diffusers' layout beside the images."""
    model = random_model(F16_8192, 0)
    latents = np.asarray(nnx.jit(VQGAN.latents)(model, jnp.asarray(images[:2], jnp.float32) / 255))
    draws = np.random.default_rng(0).normal(latents.mean((0, 1, 2)), latents.std((0, 1, 2)), model.codebook.shape)
    model.codebook[...] = jnp.asarray(draws, jnp.float32)
    write(read_out(model, "float32"), "diffusers", folder / "vqvae")
    np.save(folder / "images.npy", images)
    return model


def pictures(count: int) -> np.ndarray:
    """Returns uint8[count, 256, 256, 3] of random colours, coarse and fine."""
    coarse, fine = (np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8) for side in (16, 256))
    return np.asarray(coarse.repeat(16, axis=1).repeat(16, axis=2) // 4 * 3 + fine // 4, np.uint8)


def gflop_per_image() -> float:
    """Returns what one image costs to encode by the definition of a convolution, as the compiler counts."""
    model = nnx.eval_shape(lambda: VQGAN(F16_8192, nnx.Rngs(0)))
    cost = nnx.jit(VQGAN.encode).lower(model, jnp.zeros((1, 256, 256, 3))).cost_analysis()
    assert cost is not None
    return float(cost["flops"]) / 1e9


def peak_tflops(precision: str) -> float:
    """Returns the rate of a large matrix product in a precision, in TFLOP/s."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jnp.ones((side, side), jnp.bfloat16 if precision == "bfloat16" else jnp.float32)
    how = jax.lax.Precision.HIGHEST if precision == "float32" else jax.lax.Precision.HIGH
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=how))
    times = [seconds(lambda: product(matrix).block_until_ready()) for _ in range(6)]
    return 2 * side**3 / min(times) / 1e12


def seconds(run: Callable[[], Any]) -> float:
    """Returns the time of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(model: VQGAN, torch: Torch, images: np.ndarray, precision: str, rounds: int) -> dict[str, Any]:
    """Encodes the images in turn with both, and returns rates, peak and agreement in one precision."""
    on_cpu = jax.default_backend() == "cpu"
    card = dataclasses.replace(read_out(model, "float32").card(name="random"), precision=precision)
    ours = Tokenizer(model, card)
    ways = {
        f"torch {'compiled ' * (not on_cpu)}{'channels-last' if last else 'plain'}": {
            "channels_last": last, "compiled": not on_cpu, "precision": precision,
        }
        for last in ((True, False) if on_cpu else (True,))
    }  # fmt: skip
    runs = {name: functools.partial(torch.encode, how, ours.batch_size) for name, how in ways.items()}
    agreement = 0.0
    codes = ours.encode(images)  # compiles
    for run in runs.values():
        run()
        agreement = max(agreement, float((torch.codes == codes).mean()))
    times: dict[str, list[float]] = {name: [] for name in ("visent", *runs)}
    for _ in range(rounds):
        times["visent"].append(seconds(lambda: ours.encode(images)))
        for name, run in runs.items():
            times[name].append(run())
    rates = {name: len(images) / statistics.median(values) for name, values in times.items()}
    best = max(rate for name, rate in rates.items() if name != "visent")
    return {
        "precision": precision, "batch_size": ours.batch_size, "images_per_s": rates, "seconds": times,
        "times_torch": rates["visent"] / best, "same_tokens": agreement, "matmul_tflops": peak_tflops(precision),
    }  # fmt: skip


def main() -> None:
    """Measures and stores the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", default=sys.executable, help="of an environment with torch and diffusers")
    parser.add_argument("--images", type=int, help="in one measurement; 8 on a CPU, else 1024")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    on_cpu = jax.default_backend() == "cpu"
    images = pictures(options.images or (8 if on_cpu else 1024))
    with tempfile.TemporaryDirectory() as folder:
        model = share(Path(folder), images)
        torch = Torch(options.torch_python, Path(folder))
        runs = [measure(model, torch, images, name, options.rounds) for name in ON_GPU[: 1 if on_cpu else None]]
        torch.close()
    results = {"device": jax.devices()[0].device_kind, "torch": torch.versions, "gflop_per_image": gflop_per_image()}
    show({**results, "runs": runs})
    save("tokenizer_f16", {**results, "images": len(images), "runs": runs})


def show(results: dict[str, Any]) -> None:
    """Prints the rates."""
    cost = results["gflop_per_image"] / 1e3
    table = Table("precision", "", "images/s", "TFLOP/s", "of the matrix product", title="f16-8192, encode")
    for run in results["runs"]:
        for name, rate in run["images_per_s"].items():
            share_of_peak = f"{rate * cost / run['matmul_tflops']:.0%}"
            table.add_row(run["precision"], name, f"{rate:.2f}", f"{rate * cost:.2f}", share_of_peak)
    console = Console()
    console.print(table)
    console.print(f"one image is {1e3 * cost:.0f} GFLOP by the definition; Winograd's method needs fewer")
    for run in results["runs"]:
        about = PRECISIONS[run["precision"]].about
        console.print(
            f"{run['precision']} ({about}): {run['times_torch']:.2f} times torch's best, "
            f"{run['same_tokens']:.2%} same tokens"
        )


if __name__ == "__main__":
    main()
