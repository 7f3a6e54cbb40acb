"""What a manifest asks of the data: sentences, epochs and deficits per task, and the views that would close them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from manifests import edit, files
from manifests.dataset import DatasetFacts, load_facts
from manifests.lock import check_tokenizers, count_split
from manifests.manifest import Manifest, load, parse_text
from manifests.sentence import grammar
from visent.errors import unknown


@dataclass(frozen=True, kw_only=True)
class TaskBalance:
    """One task in one stage. Sentences and tokens are of the training split."""

    stage: str
    task: str
    kind: str
    dataset: str
    context: int
    examples: int  # with enough frames for the sentence
    ineligible: int  # clips with too few
    val_examples: int
    views: int  # that the manifest reads, the original included
    views_made: int  # that exist
    examples_per_sentence: int
    wanted_share: float
    natural_share: float  # what the original examples alone would give
    wanted_sentences: float
    max_epochs: float

    @property
    def rows(self) -> int:
        """Distinct rows, each example in each view."""
        return self.examples * self.views

    @property
    def sentences(self) -> float:
        """Sentences until every row was seen once."""
        return self.rows / self.examples_per_sentence

    @property
    def tokens(self) -> float:
        """Tokens until every row was seen once."""
        return self.sentences * self.context

    @property
    def epochs(self) -> float:
        """How often each row is seen when the wanted sentences were read."""
        return self.wanted_sentences / self.sentences if self.sentences else math.inf

    @property
    def deficit(self) -> float:
        """Wanted sentences that `max_epochs` epochs do not give; 0 where there are enough."""
        return max(0.0, self.wanted_sentences - self.max_epochs * self.sentences)


@dataclass(frozen=True, kw_only=True)
class ViewChoice:
    """The number of views that closes one dataset's deficit, and why."""

    dataset: str
    before: int
    needed: int
    views: int  # `needed`, or the limit
    reason: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """All tasks of all stages, in the order of the manifest."""

    manifest: Manifest
    rows: Sequence[TaskBalance]
    choices: Sequence[ViewChoice] = field(default_factory=tuple)

    def stage(self, name: str) -> list[TaskBalance]:
        """Returns the rows of one stage."""
        return [row for row in self.rows if row.stage == name]

    def available_share(self, row: TaskBalance) -> float:
        """Returns the share that a task's rows, views included, have of all rows of its stage."""
        return row.sentences / max(sum(other.sentences for other in self.stage(row.stage)), 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        rows = [
            {**asdict(row), "rows": row.rows, "sentences": row.sentences, "tokens": row.tokens,
             "available_share": self.available_share(row), "deficit": row.deficit,
             "epochs": row.epochs if math.isfinite(row.epochs) else None}
            for row in self.rows
        ]  # fmt: skip
        return {"tasks": rows, "views": [asdict(choice) for choice in self.choices], "unread": self.unread}

    @property
    def unread(self) -> list[str]:
        """Tasks that no stage reads."""
        read = {row.task for row in self.rows}
        return [task for task in self.manifest.tasks if task not in read]


def load_all(manifest: Manifest) -> dict[str, DatasetFacts]:
    """Returns the facts of every dataset of a manifest.

    Raises:
        UserError: one is missing or unfinished, or tokenizers differ.
    """
    facts = {name: load_facts(manifest.folder(name)) for name in manifest.datasets}
    if facts:
        check_tokenizers(facts)
    return facts


def analyse(
    manifest: Manifest, facts: Mapping[str, DatasetFacts], sentences: Mapping[str, float] | None = None
) -> Report:
    """Computes what every task has and what its stage wants of it.

    `sentences` plans a stage's sentences in place of the manifest's; a stage without a plan wants as many as its
    tasks have once, without views.

    Raises:
        UserError: an unknown stage or role, or a context that does not fit.
    """
    for stage in sentences or {}:
        manifest.stage(stage)
    planned = {name: (sentences or {}).get(name, stage.sentences) for name, stage in manifest.stages.items()}
    rows = [row for name in manifest.stages for row in _stage_rows(manifest, facts, name, planned[name])]
    return Report(manifest=manifest, rows=rows)


def _stage_rows(
    manifest: Manifest, facts: Mapping[str, DatasetFacts], stage_name: str, planned: float | None
) -> list[TaskBalance]:
    stage = manifest.stages[stage_name]
    rows: list[TaskBalance] = []
    for name, share in manifest.task_shares(stage_name).items():
        task = manifest.tasks[name]
        fact, views = facts[task.dataset], manifest.datasets[task.dataset].views
        rule = grammar(task, fact.schema.roles, stage.context, fact.schema.tokens_per_image)
        train = count_split(fact, "train", rule.frames_needed, views)
        val = count_split(fact, "val", rule.frames_needed, 1)
        rows.append(
            TaskBalance(
                stage=stage_name, task=name, kind=task.kind, dataset=task.dataset, context=stage.context,
                examples=train.eligible, ineligible=train.examples - train.eligible, val_examples=val.eligible,
                views=views, views_made=fact.views(), examples_per_sentence=rule.examples_per_sentence,
                wanted_share=share, natural_share=0.0, wanted_sentences=0.0, max_epochs=manifest.balance.max_epochs,
            )
        )  # fmt: skip
    natural = [row.examples / row.examples_per_sentence for row in rows]
    total = planned if planned is not None else sum(natural)
    return [
        replace(row, natural_share=own / max(sum(natural), 1e-9), wanted_sentences=row.wanted_share * total)
        for row, own in zip(rows, natural, strict=True)
    ]


def choose_views(report: Report) -> list[ViewChoice]:
    """Returns the views of every dataset that a stage reads, so that no row is seen more than `max_epochs` times.

    A dataset of several tasks gets the views of its neediest; a task in several stages is counted over all of them.
    """
    limits = report.manifest.balance
    neediest: dict[str, tuple[int, str]] = {}
    for task in dict.fromkeys(row.task for row in report.rows):
        rows = [row for row in report.rows if row.task == task]
        seen = sum(row.wanted_sentences * row.examples_per_sentence for row in rows)
        examples = min(row.examples for row in rows)
        needed = max(1, math.ceil(seen / (examples * limits.max_epochs) - 1e-9)) if examples else 1
        reason = f"{task} reads {seen:,.0f} examples and has {examples:,}, each row at most {limits.max_epochs:g} times"
        dataset = rows[0].dataset
        if needed > neediest.get(dataset, (0, ""))[0]:
            neediest[dataset] = (needed, f"{reason}: {needed} view{'s' if needed > 1 else ''}")
    return [
        ViewChoice(
            dataset=dataset,
            before=report.manifest.datasets[dataset].views,
            needed=needed,
            views=min(needed, limits.max_views),
            reason=reason + (f", limited by max_views = {limits.max_views}" if needed > limits.max_views else ""),
        )
        for dataset, (needed, reason) in neediest.items()
    ]


def apply(
    path: str,
    *,
    sentences: Mapping[str, float] | None = None,
    close_with: str | None = None,
    write: bool = True,
) -> tuple[Report, Report]:
    """Balances a manifest file: writes `views` where they change, with the reason as a comment.

    Returns the reports before and after; `after.choices` says what was decided. With "repeat" (in the manifest or as
    `close_with`) nothing is written: deficits are closed by more epochs, and those above `max_epochs` stay.

    Raises:
        UserError: the manifest or its datasets are wrong, or the file cannot be written.
    """
    manifest = load(path)
    facts = load_all(manifest)
    before = analyse(manifest, facts, sentences)
    close_with = close_with or manifest.balance.close_deficit_with
    if close_with not in ("augment", "repeat"):
        raise unknown("way to close a deficit", close_with, ("augment", "repeat"))
    choices = choose_views(before) if close_with == "augment" else []
    text = files.read_bytes(path).decode()
    for choice in choices:
        if choice.views != choice.before:
            text = edit.set_views(text, choice.dataset, choice.views, f"balance: {choice.reason}")
    after_manifest = parse_text(text, path)
    after = replace(analyse(after_manifest, facts, _plan(before)), choices=tuple(choices))
    if write and text != files.read_bytes(path).decode():
        files.write_bytes(path, text.encode())
    return before, after


def _plan(report: Report) -> dict[str, float]:
    """Returns the sentences that a report planned, so that another compares on the same plan."""
    totals: dict[str, float] = {}
    for row in report.rows:
        totals[row.stage] = totals.get(row.stage, 0.0) + row.wanted_sentences
    return totals
