"""What `reader.py` compares with: for each library, a writer of its stock layout and its own shuffled mix of tasks.

`write(folder, tasks)` writes the codes of each task, and `sentences(folder, tasks, context)` yields sentences without
end, each of one task, shuffled and mixed in equal shares by the library itself, in one process.
"""

import importlib.metadata
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TOKENS = 256
ROWS_PER_FILE = 10_000  # in the peers' own layouts: 5 MB of codes, more for MDS and litdata do not help
SEED = 7

Codes = list[np.ndarray]  # of each task: uint16[rows, TOKENS]
Sentences = Iterator[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One library, read as its documentation shows."""

    name: str
    package: str  # on PyPI
    module: str
    write: Callable[[Path, Codes], None]
    sentences: Callable[[Path, int, int], Sentences]  # folder, tasks, context
    how: str

    def version(self) -> str | None:
        """Returns the installed version, or None where it cannot be imported."""
        try:
            __import__(self.module)
            return importlib.metadata.version(self.package)
        except ImportError:
            return None


def grain_writer(rows_per_file: int) -> Callable[[Path, Codes], None]:
    """One record a row, as visent writes them: `group_size:1`, which Grain asks for."""

    def write(folder: Path, codes: Codes) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        for task, rows in enumerate(codes):
            for number, start in enumerate(range(0, len(rows), rows_per_file)):
                writer = ArrayRecordWriter(
                    str(folder / f"{task}-{number:05d}.arrayrecord"), "group_size:1,uncompressed"
                )
                for row in rows[start : start + rows_per_file]:
                    writer.write(row.tobytes())
                writer.close()

    return write


def grain_sentences(folder: Path, tasks: int, context: int) -> Sentences:
    """`MapDataset` of each task: shuffled, repeated, decoded, batched to sentences; mixed; read by Grain's threads."""
    import grain

    def task(number: int) -> Any:
        files = sorted(str(file) for file in folder.glob(f"{number}-*.arrayrecord"))
        rows = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(files)).seed(SEED + number).shuffle()
        rows = rows.repeat(1 << 20).map(lambda record: np.frombuffer(record, np.uint16))
        return rows if context == TOKENS else rows.batch(context // TOKENS, batch_fn=np.concatenate)

    yield from grain.MapDataset.mix([task(i) for i in range(tasks)]).to_iter_dataset()


def webdataset_write(folder: Path, codes: Codes) -> None:
    """A sample of one `.npy` for each row, in tars."""
    import webdataset

    for task, rows in enumerate(codes):
        with webdataset.ShardWriter(str(folder / f"{task}-%05d.tar"), maxcount=ROWS_PER_FILE, verbose=0) as writer:
            for number, row in enumerate(rows):
                writer.write({"__key__": f"{number:09d}", "codes.npy": row})


def webdataset_sentences(folder: Path, tasks: int, context: int) -> Sentences:
    """Tars in random order, samples through a buffer of 1,000."""
    import webdataset

    def task(number: int) -> Any:
        files = sorted(str(file) for file in folder.glob(f"{number}-*.tar"))
        rows = webdataset.WebDataset(files, shardshuffle=len(files), seed=SEED).repeat().shuffle(1000)
        return rows.decode().to_tuple("codes.npy").batched(context // TOKENS)

    for (rows,) in webdataset.RandomMix([task(i) for i in range(tasks)]):
        yield np.asarray(rows).reshape(-1)


def streaming_write(folder: Path, codes: Codes) -> None:
    """MDS, an `ndarray` of fixed shape."""
    from streaming import MDSWriter

    for task, rows in enumerate(codes):
        columns = {"codes": f"ndarray:uint16:{TOKENS}"}
        with MDSWriter(out=str(folder / str(task)), columns=columns, size_limit=ROWS_PER_FILE * TOKENS * 2) as writer:
            for row in rows:
                writer.write({"codes": row})


def streaming_sentences(folder: Path, tasks: int, context: int) -> Sentences:
    """One `StreamingDataset` of a stream for each task; at more than a row, batches of one stream each."""
    from streaming import Stream, StreamingDataset

    streams = [Stream(local=str(folder / str(i)), proportion=1 / tasks) for i in range(tasks)]
    rows = context // TOKENS
    how = {"batch_size": rows, "batching_method": "per_stream"} if rows > 1 else {"batch_size": 512}
    dataset = StreamingDataset(streams=streams, shuffle=True, shuffle_seed=SEED, **how)
    while True:
        yield from _joined((sample["codes"] for sample in dataset), rows)


def _joined(rows: Iterator[np.ndarray], count: int) -> Sentences:
    """Joins so many consecutive rows to a sentence; for libraries that take them from one task."""
    for row in rows:
        yield row if count == 1 else np.concatenate([row, *itertools.islice(rows, count - 1)])


def litdata_write(folder: Path, codes: Codes) -> None:
    """Chunks of bare tokens, as for language models."""
    from litdata.streaming import Cache, TokensLoader

    for task, rows in enumerate(codes):
        cache = Cache(str(folder / str(task)), chunk_size=ROWS_PER_FILE * TOKENS, item_loader=TokensLoader(TOKENS))
        for number, row in enumerate(rows):
            cache[number] = row
        cache.done()
        cache.merge()


def litdata_sentences(composed: bool) -> Callable[[Path, int, int], Sentences]:
    """Sentences of rows shuffled one by one where `composed`, else of blocks of the context as they were written."""

    def sentences(folder: Path, tasks: int, context: int) -> Sentences:
        import torch
        from litdata import CombinedStreamingDataset, StreamingDataset
        from litdata.streaming import TokensLoader

        torch.set_num_threads(1)
        block = TOKENS if composed else context
        rows = context // block
        while True:
            parts = [StreamingDataset(str(folder / str(i)), item_loader=TokensLoader(block), shuffle=True, seed=SEED)
                     for i in range(tasks)]  # fmt: skip
            mixed = CombinedStreamingDataset(parts, seed=SEED, weights=[1 / tasks] * tasks, iterate_over_all=False,
                                             batching_method="per_stream" if rows > 1 else "stratified")  # fmt: skip
            mixed.set_batch_size(rows)
            yield from _joined(iter(mixed), rows)

    return sentences


os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")

GRAIN: dict[str, Any] = {"package": "grain", "module": "grain", "sentences": grain_sentences}
LITDATA: dict[str, Any] = {"package": "litdata", "module": "litdata", "write": litdata_write}
PEERS = (
    Peer(name="Grain, a file a task", write=grain_writer(1 << 40), **GRAIN,
         how="ArrayRecordDataSource, shuffle, batch, mix, to_iter_dataset"),
    Peer(name="Grain, 200 rows a file", write=grain_writer(200), **GRAIN, how="the same from small files"),
    Peer(name="webdataset", package="webdataset", module="webdataset", write=webdataset_write,
         sentences=webdataset_sentences, how="shuffle(1000), decode, batched, RandomMix"),
    Peer(name="MosaicML streaming", package="mosaicml-streaming", module="streaming", write=streaming_write,
         sentences=streaming_sentences, how="StreamingDataset of streams, shuffle py1e, per_stream at 4096"),
    Peer(name="litdata", **LITDATA, sentences=litdata_sentences(True),
         how="TokensLoader(256), CombinedStreamingDataset, per_stream at 4096"),
    Peer(name="litdata, fixed sentences", **LITDATA, sentences=litdata_sentences(False),
         how="TokensLoader(context): the rows of a sentence are always those written one after another"),
)  # fmt: skip
