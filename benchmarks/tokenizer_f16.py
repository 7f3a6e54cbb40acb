"""Encode rate of f16-8192, the papers' network, beside diffusers' VQModel under torch with the same weights.

python benchmarks/tokenizer_f16.py [--torch-python PYTHON] [--images 4] [--rounds 5]

Both encode the same pictures in turns, with as many threads; torch and diffusers (extra `oracles`) may live in another
environment, whose interpreter --torch-python names. On a GPU torch compiles the encoder, in each precision.
"""

import argparse
import functools
import json
import os
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
from jaxtyping import UInt8
from machine import save
from pictures import write_pictures
from rich.console import Console
from rich.table import Table

from tokenizer.checkpoints import write
from tokenizer.checkpoints.network import read_out
from tokenizer.images import decode_image, prepare
from tokenizer.testing import random_model
from tokenizer.tokenizer import Tokenizer
from tokenizer.vqgan import F16_8192, VQGAN

GFLOP_PER_IMAGE = 213.0  # of the encoder's convolutions; two a multiplication and its sum
ON_CPU = (("float32", "contiguous", "no"), ("float32", "channels-last", "no"))
ON_GPU = tuple((precision, "channels-last", "yes") for precision in ("float32", "tf32", "bfloat16"))
PEER = Path(__file__).with_name("torch_peer.py")


class Peer:
    """A process with torch that encodes when it is told to."""

    def __init__(self, python: str, folder: Path, setting: tuple[str, str, str], batch: int) -> None:
        self.setting, self._codes = setting, folder / f"{'-'.join(setting)}.npy"
        threads = len(os.sched_getaffinity(0))
        arguments = [folder / "vqvae", folder / "images.npy", self._codes, *setting, batch, threads]
        self._process = subprocess.Popen(
            [python, str(PEER), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions = self._answer()

    @property
    def codes(self) -> np.ndarray:
        """What it made of the pictures."""
        return np.asarray(np.load(self._codes))

    def seconds(self) -> float:
        """Returns the time of one more encoding."""
        assert self._process.stdin is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("the process with torch ended: name an interpreter that has torch and diffusers (--torch-python)")
        return json.loads(line)


def squares(count: int) -> UInt8[np.ndarray, "n 256 256 3"]:
    """Returns crops of the photos that the extra `demo` carries."""
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), count)
        files = sorted(Path(folder).rglob("*.jpg"))
        return np.stack([prepare(decode_image(file.read_bytes()), "crop", 256) for file in files])


def network(images: UInt8[np.ndarray, "n 256 256 3"]) -> VQGAN:
    """Returns f16-8192 of random weights, its codebook spread as the features are, so that many codes are in use."""
    model = random_model(F16_8192, 0)
    latents = np.asarray(jax.jit(model.latents)(jnp.asarray(images[:2], jnp.float32) / 255))
    mean, deviation = latents.mean((0, 1, 2)), latents.std((0, 1, 2))
    draws = np.random.default_rng(0).normal(size=(F16_8192.codebook_size, F16_8192.codebook_dim))
    model.codebook[...] = jnp.asarray(mean + deviation * draws, jnp.float32)
    return model


def timed(run: Callable[[], Any]) -> float:
    """Returns the seconds of one call."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def peak_tflops(side: int) -> float:
    """Returns the rate of a large float32 matrix product, as JAX multiplies in its highest precision."""
    matrix = jnp.ones((side, side), jnp.float32)
    product = jax.jit(functools.partial(jnp.matmul, precision="highest"))
    seconds = [timed(lambda: product(matrix, matrix)) for _ in range(6)][1:]
    return 2 * side**3 / statistics.median(seconds) / 1e12


def tokenizers(model: VQGAN, settings: tuple[tuple[str, str, str], ...], batch: int) -> dict[str, Tokenizer]:
    """Returns one of ours for each precision that the settings name."""
    checkpoint = read_out(model, "float32")
    return {
        precision: Tokenizer(
            model, checkpoint.card(name="f16-8192", preset="crop", precision=precision, about={}), batch
        )
        for precision in dict.fromkeys(precision for precision, *_ in settings)
    }


def main() -> None:
    """Measures in turns and stores the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # torch needs memory of the same GPU
    on_gpu = jax.default_backend() != "cpu"
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--images", type=int, default=512 if on_gpu else 4)
    parser.add_argument("--batch", type=int, default=128 if on_gpu else 4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    settings = ON_GPU if on_gpu else ON_CPU
    images = squares(options.images)
    model = network(images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(read_out(model, "float32"), "diffusers", folder / "vqvae")
        np.save(folder / "images.npy", images)
        ours = tokenizers(model, settings, options.batch)
        codes = {precision: tokenizer.encode(images) for precision, tokenizer in ours.items()}
        peers = [Peer(options.torch_python, folder, setting, options.batch) for setting in settings]
        times: dict[Any, list[float]] = {key: [] for key in [*ours, *settings]}
        for _ in range(options.rounds):
            for precision, tokenizer in ours.items():
                times[precision].append(timed(functools.partial(tokenizer.encode, images)))
            for peer in peers:
                times[peer.setting].append(peer.seconds())
        agreement = {peer.setting: float((peer.codes == codes[peer.setting[0]]).mean()) for peer in peers}
        for peer in peers:
            peer.close()
    report(options, times, agreement, peers[0].versions, peak_tflops(16384 if on_gpu else 2048))


def report(
    options: argparse.Namespace, times: dict[Any, list[float]], agreement: dict[Any, float], versions: Any, peak: float
) -> None:
    """Prints the table and stores the result."""
    rates = {key: options.images / statistics.median(seconds) for key, seconds in times.items()}
    table = Table(
        "network", "precision", "images/s", "TFLOP/s", f"of {peak:.2f} float32", "ours over it", "equal codes"
    )
    rows = []
    for key, rate in rates.items():
        mine = isinstance(key, str)
        name = "visent" if mine else f"torch, {key[1]}" + (", compiled" if key[2] == "yes" else "")
        precision = key if mine else key[0]
        work = rate * GFLOP_PER_IMAGE / 1000
        row = {"network": name, "precision": precision, "images_per_s": rate, "tflops": work, "share": work / peak}
        if not mine:
            row |= {"ours_over_it": rates[precision] / rate, "equal_codes": agreement[key]}
        ratio, equal = (f"{row[k]:.2%}" if k == "equal_codes" else f"{row[k]:.2f}" if k in row else "" for k in
                        ("ours_over_it", "equal_codes")) if not mine else ("", "")  # fmt: skip
        table.add_row(name, precision, f"{rate:.2f}", f"{work:.2f}", f"{work / peak:.0%}", ratio, equal)
        rows.append(row)
    Console().print(table)
    results = {"images": options.images, "batch": options.batch, "matmul_tflops": peak, "peer": versions, "rates": rows}
    save("tokenizer_f16", results)


if __name__ == "__main__":
    main()
