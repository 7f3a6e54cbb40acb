"""Bits per token and reading rate of the ways to store codes, and the rate of the reader that composes sentences.

    python benchmarks/storage.py [--rows 50000]

Codes are random over 8192 (the worst case, 13 bits of information each) and, apart, Zipf-distributed. Rates are on one
core, best of three, from files in the page cache. The default format follows from these numbers: byte-stream-split with
zstd level 1 is nearest to the floor at every shard size; a dictionary reads faster, but its entries stand in every row
group, which costs a shard of 500 rows a bit and more per token.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import save
from rich.console import Console
from rich.table import Table

from manifests.corpus import Corpus
from manifests.dataset import DatasetFacts, write_facts
from manifests.lock import resolve
from manifests.schema import Row, Schema
from manifests.shards import ShardWriter, read_codes
from manifests.testing import TINY_CARD
from tokenizer.card import TokenizerCard
from visent.progress import track

TOKENS, CODEBOOK, GROUP = 256, 8192, 8192
CARD = TokenizerCard(**{**TINY_CARD.to_json(), "image_size": 256, "grid": 16, "codebook_size": CODEBOOK})
SCHEMA = Schema(roles={"image": "still"}, card=CARD)
LIST = pa.list_(pa.field("element", pa.uint16(), nullable=False), TOKENS)


def main() -> None:
    """Measures every candidate, prints the tables and saves the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000, help="rows of 256 tokens in the large shard")
    rows = parser.parse_args().rows
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    random = np.random.default_rng(0)
    uniform = random.integers(0, CODEBOOK, (rows, TOKENS), dtype=np.uint16)
    zipf = (random.zipf(1.2, (rows, TOKENS)) % CODEBOOK).astype(np.uint16)
    results: dict[str, Any] = {"rows": rows, "formats": {}, "reader": {}}
    with tempfile.TemporaryDirectory() as folder, track("formats", len(CANDIDATES), "formats") as progress:
        for name, candidate in CANDIDATES.items():
            results["formats"][name] = measure(candidate, Path(folder), {"random": uniform, "zipf": zipf})
            progress.advance()
    with tempfile.TemporaryDirectory() as folder:
        results["reader"] = reader(Path(folder), uniform)
    show(results)
    save("storage", results)


def measure(candidate: "Candidate", folder: Path, codes: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns bits per token of large and small shards, and rates in millions of tokens per second."""
    write, read = candidate
    path = str(folder / "shard")
    result = {}
    for kind, data in codes.items():
        for size, part in (("", data), (" 500 rows", data[:500])):
            name = write(path, part)
            result[f"bits {kind}{size}"] = Path(name).stat().st_size * 8 / part.size
            assert np.array_equal(read(name), part)
    data = codes["random"]
    name = write(path, data)
    result["write M/s"] = data.size / best(lambda: write(path, data)) / 1e6
    result["read M/s"] = data.size / best(lambda: read(name)) / 1e6
    return result


def best(action: Callable[[], object]) -> float:
    """Returns the shortest of three runs in seconds."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


Candidate = tuple[Callable[[str, np.ndarray], str], Callable[[str], np.ndarray]]


def parquet(as_binary: bool = False, **options: Any) -> Candidate:
    """A candidate in plain pyarrow, keys and meta left out."""

    def write(path: str, codes: np.ndarray) -> str:
        if as_binary:
            column = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(TOKENS * 2), len(codes), [None, pa.py_buffer(codes.tobytes())]
            )
        else:
            column = pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), type=LIST)
        table = pa.table({"image": column})
        pq.write_table(table, path, row_group_size=GROUP, write_statistics=False, **options)
        return path

    def read(path: str) -> np.ndarray:
        column = pq.read_table(path, use_threads=False)["image"].combine_chunks()
        if as_binary:
            return np.frombuffer(column.buffers()[1], np.uint16, len(column) * TOKENS).reshape(-1, TOKENS)
        return column.flatten().to_numpy().reshape(-1, TOKENS)

    return write, read


def records(options: str) -> Candidate:
    """A candidate in ArrayRecord, codes only."""

    def write(path: str, codes: np.ndarray) -> str:
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(path, options)
        for row in codes:
            writer.write(row.tobytes())
        writer.close()
        return path

    def read(path: str) -> np.ndarray:
        from array_record.python.array_record_module import ArrayRecordReader

        reader = ArrayRecordReader(path)
        count = reader.num_records()
        parts = [b"".join(reader.read(i, min(i + 2048, count))) for i in range(0, count, 2048)]
        return np.frombuffer(b"".join(parts), np.uint16).reshape(-1, TOKENS)

    return write, read


def shards(suffix: str) -> Candidate:
    """What visent writes: with key, view and meta, through its own writer and reader."""

    def write(path: str, codes: np.ndarray) -> str:
        name = f"{path}.{suffix}"
        with ShardWriter(name, SCHEMA) as writer:
            writer.append([Row(key=f"{i:08d}", view=0, codes={"image": row}, meta={}) for i, row in enumerate(codes)])
        return name

    return write, lambda path: read_codes(path, SCHEMA, "image")[0]


BSS = {"use_dictionary": False, "column_encoding": {"image.list.element": "BYTE_STREAM_SPLIT"}}
CANDIDATES: dict[str, Candidate] = {
    "list, byte-stream-split, zstd 1": parquet(compression="zstd", compression_level=1, **BSS),
    "list, byte-stream-split, zstd 3": parquet(compression="zstd", compression_level=3, **BSS),
    "list, dictionary, zstd 1": parquet(compression="zstd", compression_level=1, use_dictionary=True),
    "list, plain, zstd 1": parquet(compression="zstd", compression_level=1, use_dictionary=False),
    "fixed-size binary, zstd 1": parquet(as_binary=True, compression="zstd", compression_level=1, use_dictionary=False),
    "fixed-size binary, none": parquet(as_binary=True, compression="none", use_dictionary=False),
    "arrayrecord, uncompressed": records("group_size:1,uncompressed"),
    "arrayrecord, zstd 1": records("group_size:1,zstd:1"),
    "visent parquet (default)": shards("parquet"),
    "visent arrayrecord": shards("arrayrecord"),
}


def reader(folder: Path, codes: np.ndarray) -> dict[str, float]:
    """Returns the first batch's seconds and then the rates of shuffled sentences in millions of tokens per second."""
    os.environ["VISENT_CACHE"] = str(folder / "cache")
    results = {}
    for suffix in ("parquet", "arrayrecord"):
        lock = resolve(write_corpus(folder / suffix, codes, suffix))
        corpus = Corpus(lock)
        started = time.perf_counter()
        corpus.sentences("images", np.arange(256), 0)
        results[f"{suffix}: first batch, s"] = time.perf_counter() - started
        for stage, batch in (("images", 4096), ("sequences", 512)):
            read = lambda step=0, s=stage, b=batch, c=corpus: [  # noqa: E731
                c.sentences(s, np.arange(i * b, (i + 1) * b), 0) for i in range(4)
            ]
            read()
            tokens = 4 * batch * lock.stages[stage].context
            results[f"{suffix}: {stage} at {lock.stages[stage].context}, M/s"] = tokens / best(read) / 1e6
    pick = np.random.default_rng(0).integers(0, len(codes), 65536)
    results["gather from memory, M/s"] = pick.size * TOKENS / best(lambda: codes[pick]) / 1e6
    return results


def write_corpus(folder: Path, codes: np.ndarray, suffix: str) -> str:
    """Writes the codes as a dataset of five tasks in shards of 5,000 rows, and returns its manifest's path."""
    folder.mkdir()
    infos = []
    for number, part in enumerate(np.array_split(codes, max(1, len(codes) // 5000))):
        with ShardWriter(str(folder / f"train-{number:05d}.{suffix}"), SCHEMA) as writer:
            rows = [Row(key=f"{i:08d}", view=0, codes={"image": row}, meta={}) for i, row in enumerate(part)]
            writer.append(rows)
            infos.append(writer.close())
    write_facts(str(folder), DatasetFacts(name="codes", schema=SCHEMA, shards=infos, config={}))
    tasks = "".join(f'[tasks.t{i}]\ndataset = "codes"\nkind = "single"\nsentence = ["image"]\n' for i in range(5))
    stages = "".join(
        f"[stages.{stage}]\ncontext = {context}\nshare = {{ single = 1.0 }}\n"
        for stage, context in (("images", 256), ("sequences", 4096))
    )
    path = folder / "manifest.toml"
    path.write_text(f'version = 1\n[datasets]\ncodes = "."\n{tasks}{stages}')
    return str(path)


def show(results: dict[str, Any]) -> None:
    """Prints the tables."""
    names = list(next(iter(results["formats"].values())))
    table = Table("format", *names, title=f"Storage of {results['rows']:,} rows of {TOKENS} tokens, one core")
    for name, values in results["formats"].items():
        table.add_row(name, *(f"{values[key]:.2f}" if "bits" in key else f"{values[key]:.0f}" for key in names))
    console = Console(width=150)
    console.print(table)
    rates = Table("reader, shuffled, five tasks", "")
    for name, value in results["reader"].items():
        rates.add_row(name, f"{value:.2f}" if name.endswith(" s") else f"{value:.0f}")
    console.print(rates)


if __name__ == "__main__":
    main()
