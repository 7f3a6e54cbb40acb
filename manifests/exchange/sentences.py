"""A range of a stage's sentences, in blocks; and as Parquet, with the rows that each was made of.

The file has one row a sentence: `sentence` (its number), `task`, `dataset`, `tokens` (list<uint16>), and for each of
its images in order `keys`, `views`, `roles` and `frames` (null for a still). What it was made from (lock digest,
stage, split, seed, tokenizer card) stands in the file's key-value metadata under `visent`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int32, Int64, UInt16

from manifests import canonical, files
from manifests.corpus import Corpus
from manifests.lineage import ReadExample, Reads, examples_of
from manifests.lock import Lock
from visent.errors import UserError
from visent.progress import track

TOKENS_AT_ONCE = 1 << 21  # of a block, 4 MiB; also of a row group
Block = tuple[Int64[np.ndarray, "b"], UInt16[np.ndarray, "b context"], Int32[np.ndarray, "b"]]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Sentences `first` to `end - 1` of a stage, as training with this seed reads them."""

    lock: Lock
    stage: str
    first: int
    end: int
    seed: int = 0
    split: str = "train"

    def __post_init__(self) -> None:
        self.lock.stage(self.stage)
        if not 0 <= self.first < self.end:
            raise UserError(f"--sentences is {self.first}:{self.end}, expected FIRST:END with 0 <= FIRST < END")

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def context(self) -> int:
        """Tokens of each sentence."""
        return self.lock.stage(self.stage).context

    def to_json(self) -> dict[str, Any]:
        """Returns what decides the sentences, as plain JSON values."""
        return {
            "lock": self.lock.digest, "stage": self.stage, "context": self.context, "split": self.split,
            "seed": self.seed, "first": self.first, "end": self.end, "card": self.lock.card.to_json(),
        }  # fmt: skip

    def blocks(self, corpus: Corpus, name: str) -> Iterator[Block]:
        """Yields (numbers, codes, task ids) block by block, with progress."""
        size = max(TOKENS_AT_ONCE // self.context, 1)
        with track(name, len(self), "sentences") as progress:
            for start in range(self.first, self.end, size):
                numbers = np.arange(start, min(start + size, self.end), dtype=np.int64)
                yield numbers, *corpus.sentences(self.stage, numbers, self.seed)
                progress.advance(len(numbers))

    def codes(self, name: str) -> Iterator[UInt16[np.ndarray, "b context"]]:
        """Yields the codes alone."""
        for _, codes, _ in self.blocks(Corpus(self.lock, split=self.split), name):
            yield codes


def schema(selection: Selection) -> pa.Schema:
    """Returns the columns of the file, with what they were made from."""
    words, numbers = pa.list_(pa.string()), pa.list_(pa.int32())
    columns = {"sentence": pa.int64(), "task": pa.string(), "dataset": pa.string(), "tokens": pa.list_(pa.uint16()),
               "keys": words, "views": numbers, "roles": words, "frames": numbers}  # fmt: skip
    return pa.schema(columns, metadata={b"visent": canonical.canonical_json(selection.to_json())})


def write_parquet(selection: Selection, path: str) -> None:
    """Writes the sentences to one Parquet file, in row groups of bounded size.

    Raises:
        UserError: the target cannot be written, or a shard is missing or changed.
    """
    corpus = Corpus(selection.lock, split=selection.split)
    reads = Reads(corpus=corpus, stage=selection.stage, batch=1, seed=selection.seed)
    target = schema(selection)
    with files.writing(path) as temporary, pq.ParquetWriter(
        temporary, target, compression="zstd", compression_level=1,
        use_dictionary=["task", "dataset", "roles.list.element"],
        column_encoding={"tokens.list.element": "BYTE_STREAM_SPLIT"},
    ) as writer:  # fmt: skip
        for numbers, codes, _ in selection.blocks(corpus, f"write {files.name(path)}"):
            table = _table(numbers, codes, list(examples_of(reads, numbers)), target)
            writer.write_table(table, row_group_size=len(table))


def _table(
    numbers: Int64[np.ndarray, "b"], codes: UInt16[np.ndarray, "b context"], examples: list[ReadExample],
    target: pa.Schema,
) -> pa.Table:  # fmt: skip
    offsets = np.arange(len(codes) + 1, dtype=np.int32) * codes.shape[1]
    first = {example.sentence: example for example in reversed(examples)}
    slots: dict[int, list[tuple[str | None, int, str, int | None]]] = {number: [] for number in numbers.tolist()}
    for example in examples:
        slots[example.sentence] += [(example.key, example.view, role, frame) for role, frame in example.images]
    columns: list[pa.Array] = [
        pa.array(numbers),
        pa.array([first[number].task for number in numbers.tolist()]),
        pa.array([first[number].dataset for number in numbers.tolist()]),
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(codes.reshape(-1))),
    ]
    for part, field in enumerate(("keys", "views", "roles", "frames")):
        values = [[slot[part] for slot in each] for each in slots.values()]
        columns.append(pa.array(values, target.field(field).type))
    return pa.Table.from_arrays(columns, schema=target)
