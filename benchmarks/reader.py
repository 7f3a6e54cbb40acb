"""The reader beside its peers, on one core.

    python benchmarks/reader.py [--rows 60000] [--seconds 4] [--only visent peers start memory shuffle]

Compared, in one process on one core, from files in the page cache: sentences of five tasks in equal shares, shuffled,
at context 256 (a sentence is an image) and 4096 (16 images of one task), delivered as batches of 1 M tokens in one
array. Each task has a dataset of its own of random codes, so many `--rows` of 256 tokens. Rates are tokens a second.

- visent, from shards of 200 rows (so that tasks are read in lanes): `cold` is the first pass over all rows, which
  checks and decodes every shard into the cache; `reopened` a pass of a new reader on the filled cache; `warm` the next.
- Peers, as their documentation shows, each in its own layout, in one process; see `reader_peers.py`, which also says
  how each mixes. The rate is that of `--seconds` after the first second. Those that are not installed are named.
- The limit: rows picked in random order from one memory map of all tasks, by numpy, into a new array.
- Start-up and memory, in processes of their own (`reader_child.py`). 100,000 listed shards are the real ones listed
  again under other names, and 50 tasks are 50 listings of the five datasets, so their pages are shared.
- Shuffle: how far apart a round reads rows that are neighbours in a dataset, against a perfect shuffle (in the median
  0.29 of all rows), and how many shards a batch of 512 images mixes, from the order alone, for shards of 5,000 rows.

Caveats: codes are random, the worst case for compression. Grain's cost grows with the rows of a file, so it is measured
with small files and with one a task. litdata's and MosaicML's 4096 take 16 rows in turn of one task; "fixed sentences"
is litdata without composing, which no other here does. No peer is held to exact shares or to no row twice.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import save
from reader_peers import PEERS, TOKENS, Codes, Peer
from rich.console import Console
from rich.table import Table

from manifests.corpus import Corpus
from manifests.dataset import DatasetFacts, write_facts
from manifests.lock import Lock, resolve, write_lock
from manifests.schema import Row, Schema
from manifests.shards import ShardInfo, ShardWriter
from manifests.testing import TINY_CARD
from tokenizer.card import TokenizerCard
from visent.progress import track

TASKS, CODEBOOK, ROWS_PER_SHARD = 5, 8192, 200
BATCH_TOKENS = 1 << 20
STAGES = {"images": 256, "sequences": 4096}
CARD = TokenizerCard(**{**TINY_CARD.to_json(), "image_size": 256, "grid": 16, "codebook_size": CODEBOOK})
SCHEMA = Schema(roles={"image": "still"}, card=CARD)
WARM_UP = 1.0  # seconds
PARTS = ("visent", "peers", "start", "memory", "shuffle")


def main() -> None:
    """Measures everything, prints the tables and saves the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000, help="rows of 256 tokens in each of the five datasets")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each peer and context")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure; saved if all")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    results: dict[str, Any] = {"rows": options.rows, "tasks": TASKS, "batch tokens": BATCH_TOKENS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(0)
        codes = [random.integers(0, CODEBOOK, (options.rows, TOKENS), dtype=np.uint16) for _ in range(TASKS)]
        if "visent" in options.only:
            results["rates"] = {"memory map": limit(folder, codes), **visent(folder, codes)}
        if "peers" in options.only:
            results.setdefault("rates", {}).update(peers(folder, codes, options.seconds))
        if "start" in options.only:
            results["start"] = start(folder, codes)
        if "memory" in options.only:
            results["memory"] = memory(folder, codes)
        if "shuffle" in options.only:
            results["shuffle"] = shuffle(folder)
    show(results)
    if set(options.only) == set(PARTS):
        save("reader", results)


def corpus_of(folder: Path, codes: Codes, suffix: str) -> Lock:
    """Writes each task's codes as a dataset in shards of 200 rows, once, and returns the lock of both stages."""
    if not folder.exists():
        folder.mkdir()
        with track(f"writing {suffix} shards", len(codes), "datasets") as progress:
            for number, rows in enumerate(codes):
                write_dataset(folder / f"d{number}", rows, suffix)
                progress.advance()
    return resolve(write_manifest(folder, {f"d{i}": f"d{i}" for i in range(len(codes))}))


def write_dataset(folder: Path, codes: np.ndarray, suffix: str) -> None:
    """Writes rows in shards of 200."""
    folder.mkdir()
    infos, count = [], -(-len(codes) // ROWS_PER_SHARD)
    for shard in range(count):
        part = codes[shard * ROWS_PER_SHARD : (shard + 1) * ROWS_PER_SHARD]
        with ShardWriter(str(folder / f"train-{shard:05d}-of-{count:05d}.{suffix}"), SCHEMA) as writer:
            writer.append(
                [Row(key=f"{shard:05d}{i:05d}", view=0, codes={"image": c}, meta={}) for i, c in enumerate(part)]
            )
            infos.append(writer.close())
    write_facts(str(folder), DatasetFacts(name=folder.name, schema=SCHEMA, shards=infos, config={}))


def write_manifest(folder: Path, datasets: dict[str, str]) -> str:
    """Writes a manifest with a task of single images for each dataset, and returns its path."""
    paths = "".join(f'{name} = "{path}"\n' for name, path in datasets.items())
    tasks = "".join(f'[tasks.{n}]\ndataset = "{n}"\nkind = "single"\nsentence = ["image"]\n' for n in datasets)
    stages = "".join(f"[stages.{s}]\ncontext = {c}\nshare = {{ single = 1.0 }}\n" for s, c in STAGES.items())
    path = folder / "manifest.toml"
    path.write_text(f"version = 1\n[datasets]\n{paths}{tasks}{stages}")
    return str(path)


@contextlib.contextmanager
def cache(folder: Path) -> Iterator[None]:
    """Keeps decoded columns in a folder of its own."""
    os.environ["VISENT_CACHE"] = str(folder)
    yield
    del os.environ["VISENT_CACHE"]


def limit(folder: Path, codes: Codes) -> dict[str, Any]:
    """Returns the rate of gathering rows in random order from one memory map: the physical limit of one core."""
    np.save(folder / "all.npy", np.concatenate(codes))
    rows = np.asarray(np.load(folder / "all.npy", mmap_mode="r"))
    order = np.random.default_rng(0).permutation(len(rows))
    rates = []
    for _ in range(4):
        began = time.perf_counter()
        for start in range(0, len(order), BATCH_TOKENS // TOKENS):
            rows[order[start : start + BATCH_TOKENS // TOKENS]]
        rates.append(rows.size / (time.perf_counter() - began))
    return {"how": "numpy picks rows in random order", "images": max(rates), "sequences": max(rates)}


def visent(folder: Path, codes: Codes) -> dict[str, dict[str, Any]]:
    """Returns the rates of the reader from both formats."""
    results: dict[str, dict[str, Any]] = {}
    for suffix in ("parquet", "arrayrecord"):
        lock = corpus_of(folder / suffix, codes, suffix)
        for stage in STAGES:
            with cache(folder / f"cache-{suffix}-{stage}"):
                corpus = Corpus(lock)
                rates = {"cold": read_all(corpus, stage)}
                corpus = Corpus(lock)
                rates["reopened"] = read_all(corpus, stage)
                rates["warm"] = max(read_all(corpus, stage) for _ in range(3))
                rates["warm, 64 k tokens a batch"] = max(read_all(corpus, stage, 1 << 16) for _ in range(2))
            for state, rate in rates.items():
                results.setdefault(f"visent, {suffix}, {state}", {})[stage] = rate
    return results


def read_all(corpus: Corpus, stage: str, batch_tokens: int = BATCH_TOKENS) -> float:
    """Returns the tokens a second of one pass over all rows; what does not fill a batch is left out."""
    context, batch = STAGES[stage], batch_tokens // STAGES[stage]
    rows = sum(corpus.examples(stage, task) for task in corpus.task_names(stage))
    batches = max(rows * TOKENS // context // batch, 1)
    began = time.perf_counter()
    for step in range(batches):
        corpus.sentences(stage, np.arange(step * batch, (step + 1) * batch), 0)
    return batches * batch * context / (time.perf_counter() - began)


def peers(folder: Path, codes: Codes, seconds: float) -> dict[str, dict[str, Any]]:
    """Returns the rates of the peers that are installed; for the others only that they are missing."""
    results: dict[str, dict[str, Any]] = {}
    known = {row[:8].tobytes() for rows in codes for row in rows}
    with track("peers", len(PEERS), "peers") as progress:
        for number, peer in enumerate(PEERS):
            version = peer.version()
            results[peer.name] = {"how": peer.how, "version": version}
            if version is not None:
                (folder / f"peer-{number}").mkdir()
                peer.write(folder / f"peer-{number}", codes)
                for stage, context in STAGES.items():
                    results[peer.name][stage] = peer_rate(peer, folder / f"peer-{number}", context, seconds, known)
            progress.advance(note=peer.name)
    return results


def peer_rate(peer: Peer, folder: Path, context: int, seconds: float, known: set[bytes]) -> float:
    """Returns a peer's tokens a second, its sentences laid into batches of one array each."""
    sentences = peer.sentences(folder, TASKS, context)
    first = np.asarray(next(sentences)).reshape(-1, TOKENS)
    assert all(row[:8].tobytes() in known for row in first), f"{peer.name} reads other rows than were written"
    read_batches(sentences, context, WARM_UP)
    return read_batches(sentences, context, seconds)


def read_batches(sentences: Iterator[Any], context: int, seconds: float) -> float:
    """Returns the tokens a second of whole batches."""
    batches, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        batch = np.empty((BATCH_TOKENS // context, context), np.uint16)
        for place in range(len(batch)):
            batch[place] = next(sentences)
        batches += 1
    return batches * BATCH_TOKENS / spent


def start(folder: Path, codes: Codes) -> dict[str, dict[str, float]]:
    """Returns what it takes until the first batch of 32 sentences: with 1,000 shards, and with 100,000 listed."""
    lock = corpus_of(folder / "parquet", codes, "parquet")
    results = {}
    for listed in (1_000, 100_000):
        path = folder / "parquet" / f"{listed}.lock.json"
        write_lock(str(path), listing(lock, listed // TASKS))
        for stage in STAGES:
            with cache(folder / f"cache-start-{listed}-{stage}"):
                for state in ("cold", "warm"):
                    results[f"{listed:,} shards, {stage}, {state}"] = child(path, stage, 32, 1)
    return results


def listing(lock: Lock, shards: int) -> Lock:
    """Returns the lock with so many shards in each dataset: its own, listed again as other units where they are few."""
    datasets = {}
    for name, dataset in lock.datasets.items():
        found = [renamed(dataset.shards[i % len(dataset.shards)], i, shards) for i in range(shards)]
        datasets[name] = dataclasses.replace(dataset, shards=tuple(found))
    rows = {name: sum(shard.examples for shard in dataset.shards) for name, dataset in datasets.items()}
    stages = {}
    for name, stage in lock.stages.items():
        tasks = []
        for task in stage.tasks:
            count = dataclasses.replace(task.splits["train"], examples=rows[task.task.dataset], 
                                        eligible=rows[task.task.dataset])  # fmt: skip
            tasks.append(dataclasses.replace(task, splits={**task.splits, "train": count}))
        stages[name] = dataclasses.replace(stage, tasks=tuple(tasks))
    return dataclasses.replace(lock, datasets=datasets, stages=stages)


def renamed(shard: ShardInfo, number: int, count: int) -> ShardInfo:
    """Returns a shard as the one of another unit."""
    return dataclasses.replace(shard, unit=f"train-{number:05d}-of-{count:05d}")


def memory(folder: Path, codes: Codes) -> dict[str, dict[str, float]]:
    """Returns what 64 batches of 32 sentences at context 4096 of 50 tasks take."""
    lock = corpus_of(folder / "parquet", codes, "parquet")
    names = {f"d{i}x{j}": f"d{i}" for i in range(len(lock.datasets)) for j in range(50 // len(lock.datasets))}
    path = folder / "parquet" / "fifty.lock.json"
    write_lock(str(path), resolve(write_manifest(folder / "parquet", names)))
    with cache(folder / "cache-memory"):
        return {state: child(path, "sequences", 32, 64) for state in ("first run", "cache filled")}


def child(*arguments: object) -> dict[str, float]:
    """Runs `reader_child.py`, and returns what it measured."""
    command = [sys.executable, str(Path(__file__).with_name("reader_child.py")), *map(str, arguments)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(run.stdout.splitlines()[-1]))


def shuffle(folder: Path) -> dict[str, dict[str, float]]:
    """Returns, for datasets of shards of 5,000 rows, how well a round mixes them."""
    results = {}
    for shards in (300, 2_000, 20_000):
        path = folder / f"listed-{shards}"
        path.mkdir()
        info = ShardInfo(file="a.parquet", unit="a", split="train", first_view=0, last_view=0, rows=5000,
                         rows_per_view=(5000,), bytes=1, sha256="0" * 64, keys_sha256="0" * 64)  # fmt: skip
        infos = [renamed(info, number, shards) for number in range(shards)]
        write_facts(str(path), DatasetFacts(name="listed", schema=SCHEMA, shards=infos, config={}))
        results[f"{shards:,} shards"] = quality(Corpus(resolve(write_manifest(path, {"listed": "."}))), shards)
    return results


def quality(corpus: Corpus, shards: int) -> dict[str, float]:
    """Returns distances of neighbouring rows in the first round and shards in a batch, and a perfect shuffle's."""
    examples = corpus.examples("images", "listed")
    order = corpus.order("images", "listed", 0)
    picked = np.random.default_rng(0).integers(0, examples - 1, 2_000).tolist()
    at = np.array([[int(order.sentences_of(i + d, sentences=examples)[0][0]) for d in (0, 1)] for i in picked])
    distance = np.abs(at[:, 1] - at[:, 0])
    batches = np.random.default_rng(1).integers(0, examples // 512, 50)
    mixed = [
        len(np.unique(corpus.slots("images", "listed", np.arange(b * 512, (b + 1) * 512), 0).shard)) for b in batches
    ]
    return {
        "rows": examples,
        "median rows between neighbours": float(np.median(distance)),
        "of a perfect shuffle's": float(np.median(distance) / (examples * (1 - np.sqrt(0.5)))),
        "neighbours in one batch of 512, %": float(np.mean(distance < 512) * 100),
        "neighbours in one batch, perfect, %": 100 * 2 * 512 / examples,
        "shards in a batch of 512": float(np.mean(mixed)),
        "shards in a batch, perfect": float(shards * (1 - (1 - 1 / shards) ** 512)),
    }


def show(results: dict[str, Any]) -> None:
    """Prints the tables."""
    console = Console(width=150)
    if "rates" in results:
        visent_rate = results["rates"].get("visent, parquet, warm", {})
        table = Table("reader", *(f"{s} at {c}, M tokens/s" for s, c in STAGES.items()), "visent, parquet, warm, is",
                      "", title=f"{TASKS} tasks of {results['rows']:,} rows of {TOKENS} tokens, one core")  # fmt: skip
        for name, values in results["rates"].items():
            table.add_row(name, *rate_cells(values, visent_rate), values.get("how", ""))
        console.print(table)
    for part in ("start", "memory", "shuffle"):
        if part in results:
            console.print(table_of(part, results[part]))


def rate_cells(values: dict[str, Any], visent_rate: dict[str, float]) -> list[str]:
    """Returns both rates, and how many times as fast visent is."""
    if not set(STAGES) <= set(values):
        return ["not installed", "", ""]
    times = ", ".join(f"{visent_rate[stage] / values[stage]:.2g} x" for stage in STAGES) if visent_rate else ""
    return [*(f"{values[stage] / 1e6:,.1f}" for stage in STAGES), times]


def table_of(title: str, rows: dict[str, dict[str, float]]) -> Table:
    """Returns a table with a column for each case."""
    table = Table("", *rows, title=title)
    for name in next(iter(rows.values())):
        table.add_row(
            name,
            *(f"{values[name]:,.3g}" if values[name] < 100 else f"{values[name]:,.0f}" for values in rows.values()),
        )
    return table


if __name__ == "__main__":
    main()
