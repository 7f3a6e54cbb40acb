"""DeLVM's evaluation: foreground segmentation on Pascal-5i, and the tasks' loss, accuracy and perplexity."""

from collections.abc import Mapping
from typing import Any

from manifests.dataset import load_facts
from manifests.lock import Lock
from trainer.generate import Sampling
from trainer.protocols.part import Part, Protocol
from visent.errors import UserError

FOLDS = 4
SOURCE = "pascal5i"


def delvm() -> Protocol:
    """Four splits of Pascal-5i, three pairs of the query's class as prompt, as its demo has them.

    That decodes greedily: it gives a temperature of 0.1 and top-p of 0.75, but does not ask for sampling.
    """
    return Protocol(
        name="delvm",
        about="DeLVM's tables: foreground segmentation on Pascal-5i with 3 pairs; loss, accuracy, perplexity by task",
        parts=tuple(foreground(fold, pairs=3, sampling=Sampling(temperature=0.0)) for fold in range(FOLDS)),
    )


def foreground(fold: int, *, pairs: int, sampling: Sampling) -> Part:
    """Returns the part of one split of Pascal-5i; its dataset is `visent tokenize pascal5i --fold`."""
    name = f"foreground, Pascal-5i split {fold}"
    return Part(name=name, paper=name, data=f"{SOURCE}-{fold}", kind="foreground", given="image", made="mask",
                figures=("foreground-miou",), pairs=pairs, sampling=sampling)  # fmt: skip


def fine_tuned(lock: Lock) -> bool:
    """Tells whether a run was trained on Pascal-5i itself, rather than judged on it without ever seeing it.

    A task or dataset of that name says so, and so do the facts of a dataset that has another name, where it is there.
    """
    tasks = [task.task for stage in lock.stages.values() for task in stage.tasks]
    named = {name for task in tasks for name in (task.name, task.dataset)}
    return any(name.startswith(SOURCE) for name in named) or any(_config(lock, name) for name in lock.datasets)


def seen(lock: Lock, part: Part) -> str:
    """Returns a warning where a run was fine-tuned on the classes that a part holds out, "" where it was not."""
    if part.kind != "foreground":
        return ""
    folds = {
        int(_config(lock, name).get("options", {}).get("fold", 0)) for name in lock.datasets if _config(lock, name)
    }
    others = sorted(fold for fold in folds if part.data != f"{SOURCE}-{fold}")
    if not others or not part.data.startswith(SOURCE):
        return ""
    return (
        f"the run was fine-tuned with split {', '.join(map(str, others))} held out, so it has seen the classes of this "
        "one: judge each split with the run that was fine-tuned without it"
    )


def _config(lock: Lock, dataset: str) -> Mapping[str, Any]:
    """Returns how a dataset was made, if it is one of Pascal-5i that is there; the corpus need not be."""
    try:
        found = load_facts(lock.folder(dataset)).config
    except UserError:
        return {}
    return found if found.get("source") == SOURCE else {}
