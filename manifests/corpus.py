"""The reader: composes sentences from rows, as a pure function of (lock digest, seed, sentence numbers)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, UInt16, UInt64

from manifests import order
from manifests.columns import ColumnCache
from manifests.groups import GroupedOrder
from manifests.lanes import LanedOrder, lanes_for
from manifests.lock import Lock, LockedTask
from manifests.order import WholeOrder
from manifests.rows import DatasetReader
from manifests.schema import Schema
from manifests.sentence import STILL, Grammar, choose_frames, role_orders
from visent.errors import UserError, unknown

Order = WholeOrder | LanedOrder | GroupedOrder
PREFETCHING = 4  # threads that fetch shards ahead of their batch


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
        self._orders: dict[tuple[str, str, int], Order] = {}
        self._grammars: dict[tuple[str, str], Grammar] = {}

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
        ids, within = locked.mixture.tasks_of(numbers)
        codes = np.empty((len(numbers), locked.context), np.uint16)
        for number in np.unique(ids):
            here = np.flatnonzero(ids == number)
            self._read(stage, locked.tasks[number].task.name, within[here], seed, codes, here)
        return codes, ids

    def prefetch(self, stage: str, numbers: Int64[np.ndarray, "b"], seed: int) -> None:
        """Starts to fetch and decode, in threads, what these sentences need; an error is raised when they are read."""
        ids, within = self.lock.stage(stage).mixture.tasks_of(np.asarray(numbers, np.int64))
        for number in np.unique(ids).tolist():
            task = self.lock.stage(stage).tasks[number].task.name
            self._threads.submit(self._fetch, stage, task, within[ids == number], seed)

    def _fetch(self, stage: str, task: str, numbers: Int64[np.ndarray, "b"], seed: int) -> None:
        slots = self.slots(stage, task, numbers, seed)
        for number, role in enumerate(slots.grammar.roles):
            for shard in slots.reader.unopened(role, np.unique(slots.shard[slots.role == number])):
                self._threads.submit(slots.reader.column, shard, role)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(PREFETCHING, thread_name_prefix="prefetch")

    def task_sentences(
        self, stage: str, task: str, numbers: Int64[np.ndarray, "b"], seed: int
    ) -> UInt16[np.ndarray, "b context"]:
        """Returns sentences of one task, by their numbers among the sentences of that task.

        Raises:
            UserError: unknown stage or task, no rows in this split, or a shard that is missing or changed.
        """
        numbers = np.asarray(numbers, np.int64)
        codes = np.empty((len(numbers), self.lock.stage(stage).context), np.uint16)
        self._read(stage, task, numbers, seed, codes, np.arange(len(numbers)))
        return codes

    def _read(
        self,
        stage: str,
        task: str,
        numbers: Int64[np.ndarray, "b"],
        seed: int,
        codes: UInt16[np.ndarray, "n context"],
        places: Int64[np.ndarray, "b"],
    ) -> None:
        """Writes sentences of one task to rows of `codes`: each image is copied once, from its memory map."""
        slots = self.slots(stage, task, numbers, seed)
        shard, row, frame, roles = (part.reshape(-1) for part in (slots.shard, slots.row, slots.frame, slots.role))
        images = codes.reshape(-1, self.lock.card.tokens_per_image)
        place = (places[:, None] * slots.shard.shape[1] + np.arange(slots.shard.shape[1])).reshape(-1)
        for number, role in enumerate(slots.grammar.roles):
            at = np.flatnonzero(roles == number)
            slots.reader.gather_into(images, place[at], role, shard[at], row[at], frame[at])

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
                "role": rule.roles[slots.role[0, s]],
                "frame": None if slots.frame[0, s] == STILL else int(slots.frame[0, s]),
                "example": int(rule.example[s]),
            }
            for s in range(rule.images_per_sentence)
        ]

    def slots(self, stage: str, task: str, numbers: Int64[np.ndarray, "b"], seed: int) -> "Slots":
        """Returns where each image of sentences of one task lies. Shards are opened only for unequal clip lengths.

        Raises:
            UserError: unknown stage or task, no rows in this split, or a shard that is missing or changed.
        """
        locked = self.lock.stage(stage).task(task)
        rule = self._grammar(stage, task)
        if not self._rows(locked)[0]:
            raise UserError(f"task {task!r} of stage {stage!r} has no row in split {self.split!r}: tokenize its "
                            f"dataset {locked.task.dataset!r} with --holdout, or leave the task out")  # fmt: skip
        example, view = self.order(stage, task, seed).rows_of(numbers)
        reader = self.reader(locked.task.dataset)
        shard, row = reader.locate(example, view, rule.frames_needed)
        role, frame = (np.broadcast_to(part, (len(numbers), len(part))) for part in (rule.role, rule.frame))
        if locked.task.role_order == "permuted":
            keys = _sentence_keys(numbers, order.key_of(task, stage, seed, "roles"))
            role, frame = rule.arranged(role_orders(len(rule.roles), keys))
        if rule.frames_per_clip:
            chosen = _frames(reader, locked, rule, shard, row, _sentence_keys(numbers, order.key_of(task, stage, seed)))
            at_frame = chosen[np.arange(len(numbers))[:, None], rule.example, np.maximum(frame, 0)]
            frame = np.where(frame == STILL, STILL, at_frame)
        at = rule.example
        return Slots(grammar=rule, reader=reader, shard=shard[:, at], row=row[:, at], view=view[:, at], role=role,
                     frame=frame)  # fmt: skip

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

    def order(self, stage: str, task: str, seed: int) -> Order:
        """Returns the order in which a task's examples are read: in lanes where it has many shards, or by class."""
        if (stage, task, seed) not in self._orders:
            self._orders[stage, task, seed] = self._make_order(stage, task, seed)
        return self._orders[stage, task, seed]

    def _make_order(self, stage: str, task: str, seed: int) -> Order:
        locked, rule = self.lock.stage(stage), self._grammar(stage, task)
        mine = locked.task(task)
        examples, views = self._rows(mine)
        reader, key = self.reader(mine.task.dataset), order.key_of(task, stage, seed)
        if group := mine.task.group:
            return GroupedOrder(reader.classes(group.by), images=group.images, views=views, key=key,
                                per_sentence=rule.examples_per_sentence)  # fmt: skip
        sizes = reader.eligible_sizes(rule.frames_needed)
        if not lanes_for(len(sizes)):
            return WholeOrder(examples=examples, views=views, per_sentence=rule.examples_per_sentence, key=key)
        return LanedOrder(sizes, mixture=locked.mixture, task=locked.tasks.index(mine), views=views,
                          per_sentence=rule.examples_per_sentence, key=key)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Slots:
    """Where each image of a batch of sentences lies; arrays are (sentence, slot). `frame` is STILL for a still."""

    grammar: Grammar
    reader: DatasetReader
    shard: Int64[np.ndarray, "b s"]
    row: Int64[np.ndarray, "b s"]
    view: Int64[np.ndarray, "b s"]
    role: Int64[np.ndarray, "b s"]  # index into the grammar's roles
    frame: Int64[np.ndarray, "b s"]


def _sentence_keys(numbers: Int64[np.ndarray, "b"], key: int) -> UInt64[np.ndarray, "b"]:
    return order.mix(np.full(numbers.shape, key, np.uint64), numbers.astype(np.uint64))


def _frames(
    reader: DatasetReader,
    locked: LockedTask,
    rule: Grammar,
    shard: Int64[np.ndarray, "b e"],
    row: Int64[np.ndarray, "b e"],
    sentence: UInt64[np.ndarray, "b"],
) -> Int64[np.ndarray, "b e count"]:
    """Returns the frames that are chosen of each example, by the keys of its sentence; all its clip roles use them."""
    role = rule.roles[int(rule.role[np.flatnonzero(rule.frame != STILL)[0]])]
    lengths = reader.lengths(role, shard, row)
    keys = order.mix(sentence[:, None], np.arange(rule.examples_per_sentence, dtype=np.uint64))
    return choose_frames(locked.task.frames, rule.frames_per_clip, lengths, keys)
