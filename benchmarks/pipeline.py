"""How much of the tokenizer's speed the pipeline keeps, and whether every way of running it writes the same bytes.

Efficiency is images per second of `visent tokenize` on one process, after start-up, divided by the rate of a bare loop
that only encodes ready arrays with the same tokenizer. The two alternate in rounds, and the figure is the median round,
so that other work on the machine does not decide it.

    python benchmarks/pipeline.py --images 2000
"""

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import machine
import numpy as np
from pictures import write_pictures
from rich.console import Console
from rich.table import Table

from pipelines.encoder import Encoder, shared_encoder
from pipelines.job import Job
from pipelines.sources.folder import FolderSource
from pipelines.tokenize import tokenize
from tokenizer.card import TokenizerCard
from tokenizer.images import decode_image, prepare

ROUNDS = 4  # of the bare loop and the pipeline, in turn
READY = 256  # arrays held for the bare loop, encoded again and again
MODES = {
    "one process": (),
    "four threads": ("--direct_running_mode=multi_threading", "--direct_num_workers=4"),
    "two processes": ("--direct_running_mode=multi_processing", "--direct_num_workers=2"),
}


def main() -> None:
    """Runs the benchmark and stores its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--tokenizer", default="default")
    parser.add_argument("--annotate", default="", help="as in `visent tokenize`; the default encodes the picture only")
    parser.add_argument("--bytes-of", type=int, default=256, help="pictures of the same-bytes trial; 0 leaves it out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_pictures(root / "pictures", arguments.images, per_folder=arguments.images // ROUNDS)
        annotate = tuple(name for name in arguments.annotate.split(",") if name)
        results = efficiency(root, arguments.images, arguments.tokenizer, annotate)
        if arguments.bytes_of:
            write_pictures(root / "few", arguments.bytes_of)
            results["shards_sha256"] = same_bytes(root, arguments.tokenizer)
            results["same_bytes"] = len(set(results["shards_sha256"].values())) == 1
    table = Table("figure", "value", title=f"pipeline, {arguments.images} pictures")
    for name, value in results.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    Console().print(table)
    machine.save("pipeline", results)


def efficiency(root: Path, images: int, tokenizer: str, annotate: Sequence[str]) -> dict[str, object]:
    """Alternates between the bare loop and the pipeline; each round has its own pictures and its own dataset."""
    encoder = shared_encoder(tokenizer)
    ready = _ready(sorted((root / "pictures").rglob("*.jpg"))[:READY], encoder.card)
    each = images // ROUNDS
    bare, piped, startups, encoded = [_bare(encoder, ready, each)], [], [], 0
    for folder in sorted((root / "pictures").iterdir()):
        source = FolderSource(paths=(str(folder),), items_per_unit=each)
        job = Job(out=str(root / "corpus" / folder.name), name=folder.name, annotate=tuple(annotate),
                  tokenizer=tokenizer, source=source)  # fmt: skip
        summary = tokenize(job)
        piped.append(summary.pictures_per_second)
        startups.append(summary.startup_seconds)
        encoded += summary.pictures
        bare.append(_bare(encoder, ready, each))
    ratios = [rate / statistics.mean(bare[n : n + 2]) for n, rate in enumerate(piped)]
    return {
        "images_encoded": encoded,
        "bare_images_per_second": statistics.median(bare),
        "pipeline_images_per_second": statistics.median(piped),
        "efficiency": statistics.median(ratios),
        "efficiency_of_each_round": [round(ratio, 3) for ratio in ratios],
        "startup_seconds": statistics.median(startups),
        "tokenizer": encoder.card.name,
    }


def _ready(paths: Sequence[Path], card: TokenizerCard) -> np.ndarray:
    return np.stack([prepare(decode_image(path.read_bytes()), card.preset, card.image_size) for path in paths])


def _bare(encoder: Encoder, ready: np.ndarray, images: int) -> float:
    """Returns images per second of encoding batches that lie ready."""
    started, done = time.monotonic(), 0
    while done < images:
        at = done % (len(ready) - encoder.batch_size + 1)
        encoder.encode(ready[at : at + encoder.batch_size])
        done += encoder.batch_size
    return done / (time.monotonic() - started)


def same_bytes(root: Path, tokenizer: str) -> dict[str, str]:
    """Runs the same job in every mode, as commands, and returns one sha256 over all shards for each."""
    digests = {}
    for mode, beam in MODES.items():
        out = root / mode.replace(" ", "-") / "few"
        command = [sys.executable, "-m", "visent", "tokenize", "folder", str(root / "few"), "--out", str(out),
                   "--annotate", "edge,holes", "--items-per-shard", "32", "--tokenizer", tokenizer,
                   "--", *beam]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        digest = hashlib.sha256()
        for path in sorted(out.glob("*.parquet")):
            digest.update(path.name.encode() + path.read_bytes())
        digests[mode] = digest.hexdigest()
    return digests


if __name__ == "__main__":
    main()
