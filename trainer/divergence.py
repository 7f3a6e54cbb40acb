"""What is said where training diverges: the step, what it read, and how to go on."""

from itertools import islice

from manifests.corpus import Corpus
from manifests.lineage import ReadExample, Reads, examples_of_step
from trainer.config import StageConfig
from trainer.metrics import Diverged
from visent.errors import UserError

SHOWN = 4  # examples in the message


def explanation(
    diverged: Diverged,
    corpus: Corpus,
    stage: str,
    config: StageConfig,
    first: int,
    seed: int,
    kept: int | None,
    run: str,
) -> UserError:
    """Describes a loss or gradient that is not finite: the batch's lineage and the last good checkpoint.

    `first` is the step of the run `run` at which the stage begins, `kept` that of the newest checkpoint.
    """
    batch = diverged.step - 1 - first
    start = batch * config.batch_sentences
    fix = f"--set stages.{stage}.learning_rate={config.learning_rate / 3:.2g} --allow-other-settings"
    good = f"the last good checkpoint, step {kept}, is kept; to go on from it" if kept else (
        "no checkpoint was written before; to begin again"
    )  # fmt: skip
    broken = f", in tasks {', '.join(diverged.tasks)}" if diverged.tasks else ""
    reads = Reads(corpus=corpus, stage=stage, batch=config.batch_sentences, seed=seed)
    return UserError(
        f"{diverged.what} is {diverged.value} at step {diverged.step} (stage {stage!r}{broken}, sentences {start} to "
        f"{start + config.batch_sentences - 1}), which read {_examples(reads, batch, diverged.tasks)}; visent lineage "
        f"{run} --stage {stage} --step {batch} lists all of it; {good} use a lower rate, as {fix}"
    )


def _examples(reads: Reads, batch: int, tasks: list[str]) -> str:
    """Returns the first examples of a batch, those of `tasks` alone where there are any, by their keys."""
    try:
        found = _first(reads, batch, tasks, keys=True)
    except UserError:  # the shards are gone: where the rows were is known from the lock
        found = _first(reads, batch, tasks, keys=False)
    shown = [f"{each.task} {each.key or f'{each.shard} row {each.row}'}" for each in found[:SHOWN]]
    return ", ".join(shown) + (" and more" if len(found) > SHOWN else "")


def _first(reads: Reads, batch: int, tasks: list[str], *, keys: bool) -> list[ReadExample]:
    every = examples_of_step(reads, batch, keys=keys)
    return list(islice((each for each in every if not tasks or each.task in tasks), SHOWN + 1))
