"""Loss, accuracy and perplexity of each task on a held-out split."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Int64, UInt16

from manifests.corpus import Corpus
from trainer.losses import SentenceSums

SEED = 0  # of held-out sentences: the same ones for every run and step


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """How well one task's held-out sentences are predicted."""

    sentences: int
    tokens: int
    loss: float  # nats per token
    accuracy: float  # how often the likeliest code was right

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {**self.__dict__, "perplexity": self.perplexity}


@dataclass(frozen=True, kw_only=True)
class Heldout:
    """The held-out sentences of a stage, read once."""

    codes: UInt16[np.ndarray, "n context"]
    task: Int64[np.ndarray, " n"]  # place in `tasks`
    tasks: list[str]
    missing: list[str]  # tasks without a held-out row


def read(corpus: Corpus, stage: str, most_sentences: int) -> Heldout:
    """Reads each task's held-out sentences once through, at most `most_sentences` of each."""
    missing = corpus.missing_tasks(stage)
    tasks = [task for task in corpus.task_names(stage) if task not in missing]
    codes = [np.empty((0, corpus.lock.stage(stage).context), np.uint16)]
    numbers = []
    for place, task in enumerate(tasks):
        per_sentence = corpus.lock.stage(stage).task(task).examples_per_sentence
        count = min(most_sentences, max(1, corpus.examples(stage, task) // per_sentence))
        codes.append(corpus.task_sentences(stage, task, np.arange(count, dtype=np.int64), SEED))
        numbers += [place] * count
    return Heldout(codes=np.concatenate(codes), task=np.array(numbers, np.int64), tasks=tasks, missing=missing)


def score(
    heldout: Heldout,
    evaluate: Callable[[Any, Any], SentenceSums],
    params: Any,
    batch_sentences: int,
    put: Callable[[np.ndarray], Any] = jax.numpy.asarray,
) -> Mapping[str, TaskScore]:
    """Scores every task; batches all have `batch_sentences` rows, the last one padded with rows that do not count.

    `put` lays a batch over the devices.
    """
    if not len(heldout.codes):
        return {}
    loss, correct = [], []
    for start in range(0, len(heldout.codes), batch_sentences):
        part = heldout.codes[start : start + batch_sentences]
        padded = np.pad(part, ((0, batch_sentences - len(part)), (0, 0)))
        sums = evaluate(params, put(padded))
        loss.append(np.asarray(sums.loss)[: len(part)])
        correct.append(np.asarray(sums.correct)[: len(part)])
    return {
        task: _task_score(np.concatenate(loss), np.concatenate(correct), heldout, place)
        for place, task in enumerate(heldout.tasks)
    }


def _task_score(loss: np.ndarray, correct: np.ndarray, heldout: Heldout, place: int) -> TaskScore:
    mine = heldout.task == place
    tokens = int(mine.sum()) * heldout.codes.shape[1]
    return TaskScore(
        sentences=int(mine.sum()),
        tokens=tokens,
        loss=float(loss[mine].sum(dtype=np.float64)) / tokens,
        accuracy=float(correct[mine].sum(dtype=np.float64)) / tokens,
    )
