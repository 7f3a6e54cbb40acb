"""Which rows a step of training read, and which steps read a row: index arithmetic on the lock, no training run.

A lock says which shards are read, how many rows each has and in which order (see `order.py`), so the rows of any step
follow from the lock, a seed and the number of sentences in a batch. Only two things are not in a lock: the keys of the
rows, which are read from the shards' key columns, and, where the clips of one shard differ in length, those lengths.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from manifests.corpus import Corpus, Slots
from manifests.mixture import Mixture
from manifests.sentence import STILL
from visent.errors import UserError, unknown

SENTENCES_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class Reads:
    """How a stage is read: batch `step` holds sentences `step * batch` to `(step + 1) * batch - 1`.

    Steps count from 0 in each stage: `trainer.batches.batch` gives the codes of the same sentences, and a line of
    metrics.jsonl with `stage_step` s was written after batch s - 1.
    """

    corpus: Corpus
    stage: str
    batch: int
    seed: int

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UserError(f"--batch is {self.batch}, expected the sentences of one step, 1 or more")
        self.corpus.lock.stage(self.stage)

    @property
    def mixture(self) -> Mixture:
        """The tasks of the stage's sentences."""
        return self.corpus.lock.stage(self.stage).mixture


@dataclass(frozen=True, kw_only=True)
class ReadExample:
    """One example of one sentence: the row that was read, and its images in the order in which they stand."""

    sentence: int
    task: str
    dataset: str
    shard: str
    row: int  # in the shard
    view: int
    key: str | None  # None where keys were not asked for
    images: tuple[tuple[str, int | None], ...]  # role, and frame of a clip

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self) | {"images": [{"role": role, "frame": frame} for role, frame in self.images]}


def examples_of_step(reads: Reads, step: int, *, keys: bool = True) -> Iterator[ReadExample]:
    """Yields the examples of a batch, sentence by sentence, in the order in which they stand there.

    Raises:
        UserError: a negative step, or a shard that is missing or changed.
    """
    _check_step(step)
    for first in range(step * reads.batch, (step + 1) * reads.batch, SENTENCES_AT_ONCE):
        end = min(first + SENTENCES_AT_ONCE, (step + 1) * reads.batch)
        numbers = np.arange(first, end, dtype=np.int64)
        yield from examples_of(reads, numbers, keys=keys)


def examples_of(reads: Reads, numbers: Int64[np.ndarray, "b"], *, keys: bool = True) -> Iterator[ReadExample]:
    """Yields the examples of sentences by their global numbers; what they hold is in memory at once."""
    ids, within = reads.mixture.tasks_of(numbers)
    found: dict[int, list[ReadExample]] = {}
    for number in np.unique(ids):
        here = ids == number
        for example in _of_task(reads, int(number), numbers[here], within[here], keys):
            found.setdefault(example.sentence, []).append(example)
    for sentence in numbers.tolist():
        yield from found[sentence]


def _of_task(
    reads: Reads, number: int, sentences: Int64[np.ndarray, "b"], within: Int64[np.ndarray, "b"], keys: bool
) -> Iterator[ReadExample]:
    task = reads.corpus.lock.stage(reads.stage).tasks[number].task
    slots = reads.corpus.slots(reads.stage, task.name, within, reads.seed)
    first = np.unique(slots.grammar.example, return_index=True)[1]  # slot at which each example begins
    shard, row, view = (part[:, first] for part in (slots.shard, slots.row, slots.view))
    names = slots.reader.keys(shard.reshape(-1), row.reshape(-1)) if keys else None
    for b, sentence in enumerate(sentences.tolist()):
        for e in range(len(first)):
            yield ReadExample(
                sentence=sentence, task=task.name, dataset=task.dataset, shard=slots.reader.file(int(shard[b, e])),
                row=int(row[b, e]), view=int(view[b, e]), key=names[b * len(first) + e] if names else None,
                images=_images(slots, b, e),
            )  # fmt: skip


def _images(slots: Slots, sentence: int, example: int) -> tuple[tuple[str, int | None], ...]:
    rule = slots.grammar
    places = np.flatnonzero(rule.example == example).tolist()
    frames = [None if slots.frame[sentence, s] == STILL else int(slots.frame[sentence, s]) for s in places]
    return tuple((rule.roles[slots.role[sentence, s]], frame) for s, frame in zip(places, frames, strict=True))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One time that a key was read."""

    step: int
    sentence: int
    task: str
    example: int  # place among the examples of the sentence
    view: int


def readings_of_key(reads: Reads, key: str, step: int, task: str | None = None) -> list[Reading]:
    """Returns each time that a key was read in steps 0 to `step`, in order; for one task or all of the stage.

    The example is looked for in the key columns; where it was read is the inverse of the order of reading, so the
    work grows with the readings and not with the steps.

    Raises:
        UserError: no dataset of the stage has the key, or a shard is missing or changed.
    """
    _check_step(step)
    locked = reads.corpus.lock.stage(reads.stage)
    tasks = [locked.task(task)] if task is not None else list(locked.tasks)
    datasets = dict.fromkeys(each.task.dataset for each in tasks)
    examples = {name: reads.corpus.reader(name).find(key) for name in datasets}
    if all(example is None for example in examples.values()):
        raise UserError(f"no training row of {', '.join(examples)} has the key {key!r}: keys are those that "
                        "`visent lineage --step N` and `visent show` print")  # fmt: skip
    found: list[Reading] = []
    for number, each in enumerate(locked.tasks):
        example = examples.get(each.task.dataset) if each in tasks else None
        if example is not None:
            found += _readings(reads, number, example, step)
    return sorted(found, key=lambda reading: (reading.sentence, reading.example))


def _readings(reads: Reads, number: int, example: int, step: int) -> list[Reading]:
    locked = reads.corpus.lock.stage(reads.stage).tasks[number]
    name, needed = locked.task.name, reads.corpus.lock.grammar(reads.stage, locked.task.name).frames_needed
    among = reads.corpus.reader(locked.task.dataset).number_of(example, needed)
    if among is None:
        return []  # too short a clip: no sentence can hold it
    within, places, views = reads.corpus.order(reads.stage, name, reads.seed).sentences_of(
        among, sentences=int(reads.mixture.sentences_before((step + 1) * reads.batch)[number])
    )
    sentences = reads.mixture.numbers_of(within, number)
    return [
        Reading(step=sentence // reads.batch, sentence=sentence, task=name, example=place, view=view)
        for sentence, place, view in zip(sentences.tolist(), places.tolist(), views.tolist(), strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How often the rows of a task were read: each `times` times, and `once_more` of them one time more."""

    task: str
    sentences: int
    rows: int  # eligible examples, in each view
    read: int
    times: int
    once_more: int

    @property
    def epochs(self) -> float:
        """Mean number of times that a row was read."""
        return self.read / self.rows


def seen_by(reads: Reads, step: int) -> list[Seen]:
    """Returns how often each task's rows were read in steps 0 to `step`; from the lock alone.

    Where the last example of a sentence is cut (see `sentence.grammar`), it counts as read.
    """
    _check_step(step)
    sentences = reads.mixture.sentences_before((step + 1) * reads.batch)
    result = []
    for locked, count in zip(reads.corpus.lock.stage(reads.stage).tasks, sentences.tolist(), strict=True):
        rows, read = locked.splits["train"].rows, count * locked.examples_per_sentence
        result.append(Seen(task=locked.task.name, sentences=count, rows=rows, read=read, times=read // rows,
                           once_more=read % rows))  # fmt: skip
    return result


def _check_step(step: int) -> None:
    if step < 0:
        raise UserError(f"--step is {step}, expected 0 or more: steps count from 0 in each stage")


def only_stage(corpus: Corpus, stage: str | None) -> str:
    """Returns the stage that is meant.

    Raises:
        UserError: none was named and there are several, or there is none of this name.
    """
    names = list(corpus.lock.stages)
    if stage is None and len(names) == 1:
        return names[0]
    if stage is None:
        raise UserError(f"which stage? give --stage, one of: {', '.join(names)}")
    if stage not in names:
        raise unknown("stage", stage, names)
    return stage
