"""Putting the shards of a retry in place of those that were there, so that a kill at any moment loses nothing.

A retry makes its shards in `retry/` in the dataset's folder; meanwhile the dataset stays as it is. When all are there,
`retry/adopt.json` is written: from then on they belong to the dataset, and whichever command of `visent tokenize` comes
next ends what was begun. Until it has, the dataset has no `dataset.json`, and no receipt that is not its shard's.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from manifests import files
from manifests.dataset import FACTS_FILE, DatasetFacts, write_facts
from manifests.receipts import read_receipts
from manifests.schema import Schema
from manifests.shards import ShardInfo, receipt_name, rejects_name
from pipelines.alone import alone
from pipelines.job import JOB_FILE
from pipelines.resuming.settle import begun_config
from visent.errors import UserError
from visent.progress import track

FOLDER = "retry"
ADOPT_FILE = "adopt.json"
PLAN_FILE = "plan.json"  # what a retry makes: the digest of each shard's work
AT_ONCE = 32  # files of a bucket


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """What is to be put in place; `facts` is the dataset as it was: its name, schema and shards."""

    shards: Sequence[str]  # file names
    unchanged: Sequence[str]  # those of them whose bytes are those that are there
    lists: Sequence[str]  # of inputs, where items are others now, and then the configuration
    facts: Mapping[str, Any] | None  # None where it was unfinished

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        facts = None if self.facts is None else dict(self.facts)
        shards = {"shards": list(self.shards), "unchanged": list(self.unchanged)}
        return {**shards, "lists": list(self.lists), "facts": facts}


def facts_kept(facts: DatasetFacts) -> dict[str, Any]:
    """Returns what has to be known of a dataset's facts to write them anew."""
    return {"name": facts.name, "schema": facts.schema.to_json(), "shards": [shard.file for shard in facts.shards]}


def staged(folder: str) -> str:
    """Returns where a dataset's retry makes its shards."""
    return files.join(folder, FOLDER)


def adopt(folder: str, adoption: Adoption) -> None:
    """Puts all shards of a retry in place.

    Raises: `UserError` when the folder cannot be written; the next command goes on.
    """
    files.write_json(files.join(staged(folder), ADOPT_FILE), adoption.to_json())
    finish_retry(folder)


def finish_begun(folder: str) -> None:
    """Ends an adoption that was begun, as the folder's only writer.

    Raises: `UserError`.
    """
    if files.exists(files.join(staged(folder), ADOPT_FILE)):
        with alone(folder):
            finish_retry(folder)


def finish_retry(folder: str) -> None:
    """Ends an adoption that was begun; does nothing where there is none.

    Raises: `UserError` when the folder cannot be written, or what was to be adopted is gone.
    """
    plan = files.join(staged(folder), ADOPT_FILE)
    try:
        value = files.read_json(plan)
    except FileNotFoundError:
        return
    adoption = Adoption(**value)
    files.remove(files.join(folder, FACTS_FILE))
    there, unchanged = files.list_sizes(staged(folder)), set(adoption.unchanged)
    ready = [file for file in adoption.shards if receipt_name(file) in there]
    _each(folder, "put in place", ready, lambda file: _put(folder, file, there, file in unchanged))
    for name in adoption.lists:
        if files.exists(files.join(staged(folder), name)):
            files.move(files.join(staged(folder), name), files.join(folder, name))
    if adoption.facts is not None:
        _write_facts(folder, adoption.facts)
    # The plan is the last to go: without it what is there would be a retry that has only begun.
    rest = [name for name in files.list_names(staged(folder)) if name != ADOPT_FILE]
    _each(folder, "clear retry/", rest, lambda name: files.remove(files.join(staged(folder), name)))
    files.remove(staged(folder))


def _each(folder: str, label: str, names: Sequence[str], act: Callable[[str], None]) -> None:
    """Does something to each file; in a bucket to many at once, as each takes several requests."""
    with track(label, len(names), "files") as progress, ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(act, names) if files.is_url(folder) else map(act, names):
            progress.advance()


def _put(folder: str, file: str, there: Mapping[str, int], unchanged: bool) -> None:
    """Puts one shard in place; its receipt goes first and comes last, so that one that is there is right."""
    receipt, rejects = receipt_name(file), rejects_name(file)
    info = ShardInfo.from_json(files.read_json(files.join(staged(folder), receipt)))
    files.remove(files.join(folder, receipt))
    if file in there and not unchanged:
        files.move(files.join(staged(folder), file), files.join(folder, file))
    if rejects in there:
        files.move(files.join(staged(folder), rejects), files.join(folder, rejects))
    elif not info.rejects:
        files.remove(files.join(folder, rejects))
    files.move(files.join(staged(folder), receipt), files.join(folder, receipt))


def _write_facts(folder: str, kept: Mapping[str, Any]) -> None:
    found = read_receipts(folder, kept["shards"])
    lost = [file for file in kept["shards"] if file not in found]
    if lost:
        raise UserError(f"{folder} lost {lost[0]} while a retry was put in place: run the same `visent tokenize` again")
    config = begun_config(folder)
    if config is None:
        raise UserError(f"{folder} lost {JOB_FILE}: put it back from a copy, or tokenize into another --out")
    schema = Schema.from_json(kept["schema"])
    shards = [found[file] for file in kept["shards"]]
    write_facts(folder, DatasetFacts(name=kept["name"], schema=schema, shards=shards, config=config))
