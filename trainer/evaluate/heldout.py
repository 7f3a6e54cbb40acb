"""Loss, accuracy and perplexity of each task, and by position, on a held-out split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int64, UInt16

from manifests.corpus import Corpus
from manifests.lock import Lock
from trainer.config import ModelConfig
from trainer.evaluate.scores import TaskScore, task_score
from trainer.evaluate.tokens import Evaluation

SEED = 0  # of held-out sentences: the same ones for every run and step
TOKENS_AT_ONCE = 16_384  # of one device


@dataclass(frozen=True, kw_only=True)
class Heldout:
    """The held-out sentences of a stage, read once."""

    codes: UInt16[np.ndarray, "n context"]
    task: Int64[np.ndarray, " n"]  # place in `tasks`
    tasks: list[str]
    roles: list[tuple[str, ...]]  # of the images of each task's sentences
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
    return Heldout(
        codes=np.concatenate(codes),
        task=np.array(numbers, np.int64),
        tasks=tasks,
        roles=[_roles(corpus.lock, stage, task) for task in tasks],
        missing=missing,
    )


def _roles(lock: Lock, stage: str, task: str) -> tuple[str, ...]:
    """Returns the role of each image of a sentence; "any" where every sentence has another order."""
    grammar = lock.grammar(stage, task)
    if lock.stage(stage).task(task).task.role_order == "permuted":
        return ("any",) * grammar.images_per_sentence
    return tuple(grammar.roles[role] for role in grammar.role.tolist())


def batch_size(heldout: Heldout, parts: int, most: int | None = None) -> int:
    """Returns how many sentences to score at a time, a multiple of the `parts` that a batch is split into.

    So many that each device has `TOKENS_AT_ONCE`, but not more than there are, nor than `most`.
    """
    count, context = heldout.codes.shape
    wanted = max(1, TOKENS_AT_ONCE // context) * parts
    return int(max(parts, min(wanted, -(-count // parts) * parts, (most or wanted) // parts * parts)))


def score(
    heldout: Heldout,
    model: ModelConfig,
    evaluate: Evaluation,
    params: Any,
    batch_sentences: int,
    put: Callable[[np.ndarray], Any] = jax.numpy.asarray,
    done: Callable[[int], object] = lambda count: None,
) -> Mapping[str, TaskScore]:
    """Scores every task; batches all have `batch_sentences` rows, the last one padded with rows that do not count.

    `put` lays a batch over the devices; `done` is told after each how many more sentences are scored.
    """
    if not len(heldout.codes):
        return {}
    loss, correct = [], []
    for start in range(0, len(heldout.codes), batch_sentences):
        part = heldout.codes[start : start + batch_sentences]
        padded = np.pad(part, ((0, batch_sentences - len(part)), (0, 0)))
        found = evaluate(params, put(padded))
        loss.append(np.asarray(found.loss)[: len(part)])
        correct.append(np.asarray(found.correct)[: len(part)])
        done(len(part))
    losses, hits = np.concatenate(loss), np.concatenate(correct)
    known = _known(model, losses.shape[1])
    return {
        task: task_score(losses[heldout.task == place], hits[heldout.task == place], heldout.roles[place], known)
        for place, task in enumerate(heldout.tasks)
    }


def _known(model: ModelConfig, context: int) -> Bool[np.ndarray, " context"]:
    """Returns the positions that a model predicts: all, without a begin token all but the first."""
    known = np.ones(context, bool)
    known[0] = model.begin is not None
    return known
