"""How much of an evaluation's time goes into generation: a model of random weights judged on pictures and their edges.

    python benchmarks/evaluation.py [--model 300m] [--images 1000] [--tokenizer f16] [--network images=inception.pth]

Tokenizes crops of a few photos with their edges, makes their pixels, writes a run of random weights, which are as fast
as any others (so are those of `f16`, the papers' tokenizer of 8192 codes), and judges it twice by `visent evaluate
--protocol tasks`: FID, Inception Score, PSNR and SSIM of edges after one pair as prompt. The first has nothing
compiled, the second what that left; samples and sums are made anew. The limit is the design's: 90 % of the time on one
GPU. The network is by default the one that anyone can install.
"""

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
from pictures import write_pictures
from rich.console import Console
from rich.table import Table

LIMIT = 0.9  # of the time
HELD_OUT = 0.8  # of the pictures; the others are there for the prompt
MANIFEST = """\
version = 1
[datasets]
photos = "photos"
[tasks.edge]
dataset = "photos"
kind = "discriminative"
sentence = ["image", "edge"]
[stages.sequences]
context = 1024
share = { edge = 1.0 }
"""


def main() -> None:
    """Measures, prints a table and stores the results."""
    device, on_cpu = device_here()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny" if on_cpu else "300m")
    parser.add_argument("--images", type=int, default=24 if on_cpu else 1000)
    parser.add_argument("--batch", type=int, help="samples decoded together [default: as visent evaluate has it]")
    parser.add_argument("--tokenizer", default="default" if on_cpu else "f16", help="f16, or a name or folder")
    parser.add_argument("--precision", default="float32" if on_cpu else "tf32", help="of the tokenizer")
    parser.add_argument("--network", default="images=efficientnet-lite0")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.tokenizer == "f16":
            options.tokenizer = str(folder / "f16")
            subprocess.run([sys.executable, __file__, "--write-tokenizer", options.tokenizer], check=True)
        write_pictures(folder / "media", math.ceil(options.images / HELD_OUT * 1.15) + 8)
        visent(folder, "tokenize", "folder", folder / "media", "--out", folder / "photos", "--annotate", "edge",
               "--holdout", HELD_OUT, "--tokenizer", options.tokenizer, "--precision", options.precision)  # fmt: skip
        visent(folder, "pixels", folder / "photos", "--split", "val")
        (folder / "manifest.toml").write_text(MANIFEST)
        subprocess.run([sys.executable, __file__, "--write-run", str(folder), options.model], check=True)
        rows = {kind: evaluated(folder, kind, options) for kind in ("cold", "warm")}
    show(options, device, rows)
    facts = {"device": device, "model": options.model, "images": options.images, "batch": options.batch,
             "tokenizer": Path(options.tokenizer).name, "precision": options.precision, "network": options.network,
             "limit": LIMIT}  # fmt: skip
    machine.save("evaluation", {**facts, **rows})


def device_here() -> tuple[str, bool]:
    """Returns the device's kind, asked of another process: this one must hold no accelerator."""
    code = "import jax; d = jax.devices()[0]; print(jax.device_count(), 'x', d.device_kind, '|', d.platform)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    device, _, platform = said.strip().splitlines()[-1].partition(" | ")
    return device, platform == "cpu"


def visent(folder: Path, *arguments: object) -> float:
    """Runs a command; returns its seconds."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:  # of each command: sums of one evaluation would spare the next work
        env = {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"), "VISENT_CACHE": cache,
               "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # fmt: skip
        subprocess.run([sys.executable, "-m", "visent", *map(str, arguments)], check=True, env={**os.environ, **env})
    return time.perf_counter() - began


def write_run(folder: Path, name: str) -> None:
    """Writes a run of random weights that reads the dataset."""
    sys.path.insert(0, str(Path(__file__).parent.parent))  # a file of this folder is called `trainer`, too
    from manifests.lock import resolve
    from trainer import model as llama
    from trainer import plan, recipes
    from trainer.checkpoint import Checkpoints, Keep
    from trainer.config import StageConfig
    from trainer.run_facts import RunFacts
    from trainer.run_folder import RunFolder

    lock, tiny = resolve(str(folder / "manifest.toml")), recipes.make("tiny")
    stage = StageConfig(steps=1, batch_sentences=1, learning_rate=0.0, final_learning_rate=0.0, context=1024)
    config = dataclasses.replace(tiny, model=recipes.MODELS[name], stages={"sequences": stage}, evaluate_sentences=4)
    config = plan.fit(config, lock)
    facts = RunFacts(config=config, lock_digest=lock.digest, fingerprint=lock.card.fingerprint, stage="sequences")
    run = RunFolder(folder / "run")
    run.write(facts, lock)
    with Checkpoints(run.checkpoints, Keep()) as checkpoints:
        checkpoints.save_params(1, llama.init(config.model, 0), facts)


def write_tokenizer(folder: Path) -> None:
    """Writes a network of the papers' sizes with random weights."""
    from tokenizer.checkpoints.folder import save
    from tokenizer.testing import random_model
    from tokenizer.vqgan import F16_8192

    save(folder, random_model(F16_8192, 0), name="f16", about={"trained on": "nothing: random weights for a benchmark"})


def evaluated(folder: Path, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Judges the run once; returns seconds by stage, of the whole command, and generation's share of both."""
    if kind == "cold":
        subprocess.run(["rm", "-rf", str(folder / "compiled")], check=True)
    out = folder / kind
    batch = () if options.batch is None else ("--batch", options.batch)
    whole = visent(folder, "evaluate", folder / "run", "--protocol", "tasks", "--most", options.images, "--out", out,
                   "--network", options.network, "--tokenizer", options.tokenizer, *batch)  # fmt: skip
    (row,) = json.loads((out / "evaluation.json").read_text())["rows"]
    if row["samples"] != options.images:
        raise SystemExit(f"judged {row['samples']} of {options.images} images: fewer were held out")
    seconds = {stage: round(value, 3) for stage, value in row["seconds"].items()}
    judged = sum(row["seconds"].values())
    return {
        "seconds": seconds, "share": row["seconds"]["generation"] / judged, "command_seconds": round(whole, 3),
        "share_of_command": row["seconds"]["generation"] / whole,
        "images_per_second": options.images / row["seconds"]["generation"],
    }  # fmt: skip


def show(options: argparse.Namespace, device: str, rows: dict[str, dict[str, Any]]) -> None:
    """Prints the seconds of each stage, and generation's share beside its limit."""
    table = Table("stage", *rows, title=f"{options.images} images, {options.model}, {device}: seconds")
    for stage in rows["warm"]["seconds"]:
        table.add_row(stage, *(f"{row['seconds'].get(stage, 0.0):.1f}" for row in rows.values()))
    table.add_row("whole command", *(f"{row['command_seconds']:.1f}" for row in rows.values()))
    table.add_row(f"generation's share (limit on a GPU {LIMIT:.0%})", *(f"{row['share']:.1%}" for row in rows.values()))
    table.add_row("its share of the command", *(f"{row['share_of_command']:.1%}" for row in rows.values()))
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write-run"]:
        write_run(Path(sys.argv[2]), sys.argv[3])
    elif sys.argv[1:2] == ["--write-tokenizer"]:
        write_tokenizer(Path(sys.argv[2]))
    else:
        main()
