"""Everything that is wrong with a manifest and its datasets, all of it at once."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from manifests import files
from manifests.balance import Report, analyse
from manifests.dataset import DatasetFacts, load_facts
from manifests.manifest import Manifest, Stage
from manifests.sentence import at_stored_rate, grammar
from visent.errors import UserError, unknown


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong ("error": it cannot be locked) or worth a look ("warning")."""

    level: Literal["error", "warning"]
    about: str  # the table of the manifest, as tasks.pose
    message: str

    def to_json(self) -> dict[str, Any]:
        """Returns the fields."""
        return asdict(self)


def check(manifest: Manifest) -> list[Finding]:
    """Returns what is wrong, in the order of the manifest: datasets, tasks, stages."""
    facts: dict[str, DatasetFacts] = {}
    findings = list(_datasets(manifest, facts))
    findings += _tokenizers(manifest, facts)
    findings += _tasks(manifest, facts)
    for name in manifest.stages:
        findings += _stage(manifest, facts, name)
    if not manifest.stages:
        findings.append(_error("stages", "no stage: add [stages.NAME] with context and share"))
    if not any(finding.level == "error" for finding in findings):
        findings += _amounts(analyse(manifest, facts))
    return findings


def _error(about: str, message: str) -> Finding:
    return Finding(level="error", about=about, message=message)


def _warning(about: str, message: str) -> Finding:
    return Finding(level="warning", about=about, message=message)


def _datasets(manifest: Manifest, facts: dict[str, DatasetFacts]) -> Iterator[Finding]:
    """Fills `facts` with those that can be read."""
    for name, dataset in manifest.datasets.items():
        about, folder = f"datasets.{name}", manifest.folder(name)
        try:
            facts[name] = load_facts(folder)
        except UserError as error:
            yield _error(about, str(error))
            continue
        there = set(files.list_names(folder))
        if gone := [shard.file for shard in facts[name].shards if shard.file not in there]:
            more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
            yield _error(about, f"{gone[0]}{more} is missing: run the same `visent tokenize` again")
        if facts[name].examples("train") and dataset.views > (made := facts[name].views()):
            yield _error(about, f"reads {dataset.views} views, {made} are made: run "
                                f"`visent tokenize --views-from {manifest.path}`, or lower views")  # fmt: skip
        if not any(task.dataset == name for task in manifest.tasks.values()):
            yield _warning(about, "no task reads it")


def _tokenizers(manifest: Manifest, facts: Mapping[str, DatasetFacts]) -> Iterator[Finding]:
    cards = {name: fact.schema.card for name, fact in facts.items()}
    prints = Counter(card.fingerprint for card in cards.values())
    usual = max(cards.values(), key=lambda card: prints[card.fingerprint], default=None)
    for name, card in cards.items():
        if usual is not None and card.fingerprint != usual.fingerprint:
            message = (
                f"holds tokens of tokenizer {card.name!r} ({card.fingerprint}), most others of {usual.name!r} "
                f"({usual.fingerprint}): tokenize it again with that one"
            )
            yield _error(f"datasets.{name}", message)


def _tasks(manifest: Manifest, facts: Mapping[str, DatasetFacts]) -> Iterator[Finding]:
    read = {task for stage in manifest.stages for task in manifest.task_shares(stage)}
    for name, task in manifest.tasks.items():
        if name not in read:
            yield _warning(f"tasks.{name}", "no stage reads it")
        if task.dataset in facts:
            roles = facts[task.dataset].schema.roles
            for role in task.sentence:
                if role not in roles:
                    yield _error(f"tasks.{name}", str(unknown(f"role of dataset {task.dataset!r}", role, roles)))


def _stage(manifest: Manifest, facts: Mapping[str, DatasetFacts], name: str) -> Iterator[Finding]:
    stage, about = manifest.stages[name], f"stages.{name}"
    for start, share in [(0, stage.share), *((change.start, change.share) for change in stage.schedule)]:
        if abs((total := sum(share.values())) - 1) > 1e-6:
            after = f" from sentence {start:,} on" if start else ""
            yield _warning(about, f"shares{after} add up to {total:g}; they are read as parts of that")
    for task in manifest.task_shares(name):
        dataset = manifest.tasks[task].dataset
        roles = facts[dataset].schema.roles if dataset in facts else {}
        if set(manifest.tasks[task].sentence) <= set(roles):
            yield from _task_in_stage(manifest, facts[dataset], stage, task)


def _task_in_stage(manifest: Manifest, facts: DatasetFacts, stage: Stage, task: str) -> Iterator[Finding]:
    try:
        timed = at_stored_rate(manifest.tasks[task], facts.stored_fps)
        grammar(timed, facts.schema.roles, stage.context, facts.schema.tokens_per_image)
    except UserError as error:
        yield _error(f"stages.{stage.name}", str(error))


def _amounts(report: Report) -> Iterator[Finding]:
    """What the tasks have, against what the stages want."""
    for row in report.rows:
        about = f"stages.{row.stage}"
        if not row.examples:
            why = f": {row.ineligible:,} clips are too short for its frames" if row.ineligible else ""
            yield _error(about, f"task {row.task!r} has no row to read{why}; take it out of the share")
        elif row.deficit:
            yield _warning(about, f"task {row.task!r} lacks {row.deficit:,.1f} sentences at {row.max_epochs:g} epochs: "
                                  "balance, lower its share, or allow more epochs")  # fmt: skip
        if row.ineligible and row.examples:
            yield _warning(about, f"task {row.task!r} leaves out {row.ineligible:,} clips that are too short")
