"""The reader: composes sentences from rows, as a pure function of (lock digest, seed, sentence numbers)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, Shaped, UInt16

from manifests import files, order
from manifests.columns import Column, ColumnCache
from manifests.lock import Lock, LockedTask
from manifests.schema import Schema
from manifests.sentence import STILL, Grammar, choose_frames
from manifests.shards import ShardInfo
from visent.errors import UserError, unknown
from visent.progress import track

MAX_OPEN = 400  # columns mapped at once by a dataset; each holds a file descriptor, of which systems allow 1,024


class DatasetReader:
    """Random access to the rows of one split of one dataset, in all their views."""

    def __init__(self, folder: str, schema: Schema, found: Sequence[ShardInfo], views: int, cache: ColumnCache) -> None:
        self._folder, self._schema, self._shards, self._cache = folder, schema, list(found), cache
        firsts = [info for info in found if info.first_view == 0]
        unit_of = {info.unit: i for i, info in enumerate(firsts)}
        sizes = np.array([info.examples for info in firsts], np.int64)
        self._ends = np.cumsum(sizes)
        self._sizes = sizes
        self._shard_of = np.full((len(firsts), views), -1, np.int64)  # unit, view -> shard
        self._first_row = np.zeros((len(firsts), views), np.int64)  # unit, view -> where the view begins in it
        for number, info in enumerate(found):
            for view in range(info.first_view, min(info.last_view + 1, views)):
                self._shard_of[unit_of[info.unit], view] = number
                self._first_row[unit_of[info.unit], view] = (view - info.first_view) * info.examples
        self._columns: dict[tuple[int, str], Column] = {}
        self._keys_read: dict[int, Shaped[np.ndarray, n]] = {}

    @property
    def tokens_per_image(self) -> int:
        """Codes of one image."""
        return self._schema.tokens_per_image

    @property
    def examples(self) -> int:
        """Examples of the split."""
        return int(self._sizes.sum())

    def locate(
        self, examples: Int64[np.ndarray, "*n"], views: Int64[np.ndarray, "*n"]
    ) -> tuple[Int64[np.ndarray, "*n"], Int64[np.ndarray, "*n"]]:
        """Returns the shard of each (example, view), and the row in it."""
        unit = np.searchsorted(self._ends, examples, side="right")
        row = examples - (self._ends[unit] - self._sizes[unit])
        return self._shard_of[unit, views], self._first_row[unit, views] + row

    def column(self, shard: int, role: str) -> Column:
        """Returns one role of one shard, checked and mapped on first use."""
        if (shard, role) not in self._columns:
            if len(self._columns) >= MAX_OPEN:
                self._columns.pop(next(iter(self._columns)))
            info = self._shards[shard]
            path = files.join(self._folder, info.file)
            self._columns[shard, role] = self._cache.column(path, info, self._schema, role)
        return self._columns[shard, role]

    def undecoded(self, role: str) -> list[int]:
        """Returns the shards whose column of a role is not in the cache."""
        return [n for n, info in enumerate(self._shards) if not self._cache.has(info, role)]

    def lengths(
        self, role: str, shard: Int64[np.ndarray, "*n"], row: Int64[np.ndarray, "*n"]
    ) -> Int64[np.ndarray, "*n"]:
        """Returns the number of frames of a clip role in each of the rows; a shard of one length is not opened."""
        result = np.zeros(shard.size, np.int64)
        rows = row.reshape(-1)
        for number, here in _by_shard(shard.reshape(-1)):
            if len(self._shards[number].frames) == 1:
                result[here] = next(iter(self._shards[number].frames))
                continue
            offsets = self.column(number, role).offsets
            assert offsets is not None
            result[here] = offsets[rows[here] + 1] - offsets[rows[here]]
        return result.reshape(shard.shape)

    def gather(
        self,
        role: str,
        shard: Int64[np.ndarray, "n"],
        row: Int64[np.ndarray, "n"],
        frame: Int64[np.ndarray, "n"],
    ) -> UInt16[np.ndarray, "n t"]:
        """Returns one image of each of the rows; `frame` is ignored for a still role."""
        result = np.empty((len(shard), self._schema.tokens_per_image), np.uint16)
        for number, here in _by_shard(shard):
            column = self.column(number, role)
            image = row[here] if column.offsets is None else column.offsets[row[here]] + frame[here]
            result[here] = column.images[image]
        return result

    def clip_lengths(self, role: str) -> Int64[np.ndarray, "n"]:
        """Returns the number of frames of every example, in view 0 (views cannot differ, `keys_sha256` tells)."""
        example = np.arange(self.examples, dtype=np.int64)
        return self.lengths(role, *self.locate(example, np.zeros_like(example)))

    def keys(self, shard: Int64[np.ndarray, "n"], row: Int64[np.ndarray, "n"]) -> list[str]:
        """Returns the key of each of the rows."""
        result = np.empty(len(shard), object)
        for number, here in _by_shard(shard):
            result[here] = self._keys(number)[row[here] % self._shards[number].examples]
        return [key.decode() for key in result]

    def all_keys(self) -> Iterator[tuple[int, Shaped[np.ndarray, "n"]]]:
        """Yields the keys of all examples as UTF-8, shard by shard, with the number of the first."""
        for unit, number in enumerate(self._shard_of[:, 0].tolist()):
            yield int(self._ends[unit] - self._sizes[unit]), self._keys(number)

    def find(self, key: str) -> int | None:
        """Returns the number of the example with a key, or None where there is none; reads keys until it is found."""
        wanted = key.encode()
        with track(f"looking for {key}", len(self._sizes), "shards") as progress:
            for start, keys in self.all_keys():
                progress.advance()
                at = np.flatnonzero(keys == wanted)
                if len(at):
                    return start + int(at[0])
        return None

    def file(self, shard: int) -> str:
        """Returns the name of a shard."""
        return self._shards[shard].file

    def _keys(self, shard: int) -> Shaped[np.ndarray, "n"]:
        if shard not in self._keys_read:
            if len(self._keys_read) >= MAX_OPEN:
                self._keys_read.pop(next(iter(self._keys_read)))
            path = files.join(self._folder, self._shards[shard].file)
            self._keys_read[shard] = self._cache.keys(path, self._shards[shard], self._schema)
        return self._keys_read[shard]


def _by_shard(shard: Int64[np.ndarray, "n"]) -> Iterator[tuple[int, Int64[np.ndarray, "m"]]]:
    """Yields each shard that occurs, and where."""
    sorted_by_shard = np.argsort(shard, kind="stable")
    numbers, starts = np.unique(shard[sorted_by_shard], return_index=True)
    yield from zip(numbers.tolist(), np.split(sorted_by_shard, starts[1:]), strict=True)


class Corpus:
    """Reads the sentences that a lock describes, of one split.

    Example:
        corpus = Corpus(load_lock("manifest.lock.json"))
        codes, tasks = corpus.sentences("images", np.arange(step * 32, (step + 1) * 32), seed=0)
    """

    def __init__(self, lock: Lock, *, split: str = "train", cache_dir: Path | None = None) -> None:
        known = sorted({shard.split for dataset in lock.datasets.values() for shard in dataset.shards} | {"train"})
        if split not in known:
            raise unknown("split", split, known)
        self.lock, self.split = lock, split
        self._cache = ColumnCache(cache_dir)
        self._readers: dict[str, DatasetReader] = {}
        self._eligible: dict[tuple[str, int], Int64[np.ndarray, n] | None] = {}
        self._grammars: dict[tuple[str, str], Grammar] = {}
        self._prepared: set[str] = set()

    def task_names(self, stage: str) -> list[str]:
        """Returns the tasks of a stage; task ids of `sentences` are places in this list."""
        return [task.task.name for task in self.lock.stage(stage).tasks]

    def missing_tasks(self, stage: str) -> list[str]:
        """Returns the tasks of a stage that have no row in this split: they cannot be evaluated on it."""
        return [t.task.name for t in self.lock.stage(stage).tasks if not self._rows(t)[0]]

    def examples(self, stage: str, task: str) -> int:
        """Returns the eligible examples of a task in this split."""
        return self._rows(self.lock.stage(stage).task(task))[0]

    def sentences(
        self, stage: str, numbers: Int64[np.ndarray, "b"], seed: int
    ) -> tuple[UInt16[np.ndarray, "b context"], Int32[np.ndarray, "b"]]:
        """Returns the sentences of these global numbers, mixed by share, and the id of each one's task.

        Raises:
            UserError: unknown stage, a task without rows in this split, or a shard that is missing or changed.
        """
        numbers = np.asarray(numbers, np.int64)
        locked = self.lock.stage(stage)
        self._prepare(stage)
        ids, within = order.tasks_of(numbers, tuple(task.count for task in locked.tasks))
        codes = np.empty((len(numbers), locked.context), np.uint16)
        for number in np.unique(ids):
            here = np.flatnonzero(ids == number)
            codes[here] = self.task_sentences(stage, locked.tasks[number].task.name, within[here], seed)
        return codes, ids

    def task_sentences(
        self, stage: str, task: str, numbers: Int64[np.ndarray, "b"], seed: int
    ) -> UInt16[np.ndarray, "b context"]:
        """Returns sentences of one task, by their numbers among the sentences of that task.

        Raises:
            UserError: unknown stage or task, no rows in this split, or a shard that is missing or changed.
        """
        slots = self.slots(stage, task, np.asarray(numbers, np.int64), seed)
        images = np.empty((*slots.shard.shape, self.lock.card.tokens_per_image), np.uint16)
        for number, role in enumerate(slots.grammar.roles):
            at = np.flatnonzero(slots.grammar.role == number)
            flat = (part[:, at].reshape(-1) for part in (slots.shard, slots.row, slots.frame))
            images[:, at] = slots.reader.gather(role, *flat).reshape(len(images), len(at), -1)
        return images.reshape(len(images), -1)

    def describe(self, stage: str, task: str, number: int, seed: int) -> list[dict[str, Any]]:
        """Returns what stands in each image slot of one sentence: key, view, role, frame and example in it.

        `frame` is None for a still role; `example` counts the examples of the sentence.
        """
        slots = self.slots(stage, task, np.array([number], np.int64), seed)
        rule, keys = slots.grammar, slots.reader.keys(slots.shard[0], slots.row[0])
        return [
            {
                "key": keys[s],
                "view": int(slots.view[0, s]),
                "role": rule.roles[rule.role[s]],
                "frame": None if rule.frame[s] == STILL else int(slots.frame[0, s]),
                "example": int(rule.example[s]),
            }
            for s in range(rule.images_per_sentence)
        ]

    def _prepare(self, stage: str) -> None:
        """Checks and decodes, with progress, the shards of a stage that the cache does not have yet."""
        if stage in self._prepared:
            return
        wanted: dict[tuple[str, str], None] = {}
        for locked in self.lock.stage(stage).tasks:
            wanted |= dict.fromkeys((locked.task.dataset, role) for role in locked.task.sentence)
        missing = [(d, number, role) for d, role in wanted for number in self.reader(d).undecoded(role)]
        if missing:
            with track(f"decoding shards of {stage}", len(missing), "columns") as progress:
                for dataset, number, role in missing:
                    self.reader(dataset).column(number, role)
                    progress.advance()
        self._prepared.add(stage)

    def slots(self, stage: str, task: str, numbers: Int64[np.ndarray, "b"], seed: int) -> "Slots":
        """Returns where each image of sentences of one task lies. Shards are opened only for unequal clip lengths.

        Raises:
            UserError: unknown stage or task, no rows in this split, or a shard that is missing or changed.
        """
        locked = self.lock.stage(stage).task(task)
        rule = self._grammar(stage, task)
        examples, views = self._rows(locked)
        if not examples:
            raise UserError(f"task {task!r} of stage {stage!r} has no row in split {self.split!r}: tokenize its "
                            f"dataset {locked.task.dataset!r} with --holdout, or leave the task out")  # fmt: skip
        key = order.key_of(task, stage, seed)
        example, view = order.rows_of(
            numbers, examples=examples, views=views, per_sentence=rule.examples_per_sentence, key=key
        )
        reader = self.reader(locked.task.dataset)
        eligible = self.eligible(stage, task)
        shard, row = reader.locate(example if eligible is None else eligible[example], view)
        frame = np.zeros((len(numbers), rule.images_per_sentence), np.int64)
        if rule.frames_per_clip:
            frame = _frames(reader, locked, rule, shard, row, numbers, key)
        at = rule.example
        return Slots(grammar=rule, reader=reader, shard=shard[:, at], row=row[:, at], view=view[:, at], frame=frame)

    def _rows(self, locked: LockedTask) -> tuple[int, int]:
        """Returns (eligible examples, views) of a task in this split."""
        count = locked.splits.get(self.split)
        return (count.eligible, count.views) if count else (0, 1)

    def _grammar(self, stage: str, task: str) -> Grammar:
        if (stage, task) not in self._grammars:
            self._grammars[stage, task] = self.lock.grammar(stage, task)
        return self._grammars[stage, task]

    def reader(self, dataset: str) -> DatasetReader:
        """Returns the reader of one dataset's rows, in this split."""
        if dataset not in self._readers:
            locked = self.lock.datasets[dataset]
            schema = Schema(roles=locked.roles, card=self.lock.card)
            views = locked.views if self.split == "train" else 1
            folder = self.lock.folder(dataset)
            self._readers[dataset] = DatasetReader(folder, schema, locked.split(self.split), views, self._cache)
        return self._readers[dataset]

    def eligible(self, stage: str, task: str) -> Int64[np.ndarray, "n"] | None:
        """Returns the numbers of the examples with enough frames for a task, or None where all have."""
        locked, rule = self.lock.stage(stage).task(task), self._grammar(stage, task)
        count = locked.splits[self.split]
        if count.eligible == count.examples:
            return None
        wanted = (locked.task.dataset, rule.frames_needed)
        if wanted not in self._eligible:
            lengths = self.reader(locked.task.dataset).clip_lengths(_clip_role(locked, self.lock.datasets))
            self._eligible[wanted] = np.flatnonzero(lengths >= rule.frames_needed)
        return self._eligible[wanted]


@dataclass(frozen=True, kw_only=True, eq=False)
class Slots:
    """Where each image of a batch of sentences lies; arrays are (sentence, slot). `frame` is 0 for a still."""

    grammar: Grammar
    reader: DatasetReader
    shard: Int64[np.ndarray, "b s"]
    row: Int64[np.ndarray, "b s"]
    view: Int64[np.ndarray, "b s"]
    frame: Int64[np.ndarray, "b s"]


def _clip_role(locked: LockedTask, datasets: Mapping[str, Any]) -> str:
    roles = datasets[locked.task.dataset].roles
    return next(role for role in locked.task.sentence if roles[role] == "clip")


def _frames(
    reader: DatasetReader,
    locked: LockedTask,
    rule: Grammar,
    shard: Int64[np.ndarray, "b e"],
    row: Int64[np.ndarray, "b e"],
    numbers: Int64[np.ndarray, "b"],
    key: int,
) -> Int64[np.ndarray, "b s"]:
    """Returns the frame in each slot; slots of still roles hold 0. Clip roles of one example use the same frames."""
    role = rule.roles[int(rule.role[np.flatnonzero(rule.frame != STILL)[0]])]
    lengths = reader.lengths(role, shard, row)
    sentence = order.mix(np.full(numbers.shape, key, np.uint64), numbers.astype(np.uint64))
    keys = order.mix(sentence[:, None], np.arange(rule.examples_per_sentence, dtype=np.uint64))
    chosen = choose_frames(locked.task.frames, rule.frames_per_clip, lengths, keys)
    return np.where(rule.frame == STILL, 0, chosen[:, rule.example, np.maximum(rule.frame, 0)])
