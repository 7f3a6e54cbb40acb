"""What a manifest asks of the data: sentences, epochs and deficits per task, and the views that would close them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from manifests.dataset import DatasetFacts, load_facts
from manifests.lock import check_tokenizers, count_split
from manifests.manifest import Manifest
from manifests.sentence import at_stored_rate, grammar


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
    sentences: Mapping[str, float] = field(default_factory=dict)  # planned, in place of the manifest's

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
        schedules = {name: [{"from": start, "share": share} for start, share in pieces]
                     for name, pieces in self.schedules.items()}  # fmt: skip
        found = {"tasks": rows, "views": [asdict(choice) for choice in self.choices], "unread": self.unread}
        return found | ({"schedules": schedules} if schedules else {})

    @property
    def schedules(self) -> dict[str, list[tuple[int, dict[str, float]]]]:
        """From which sentence on tasks have which shares, in the stages where that changes."""
        pieces = {name: self.manifest.pieces(name, self.sentences.get(name)) for name in self.manifest.stages}
        return {name: own for name, own in pieces.items() if len(own) > 1}

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
    planned = {name: float(stage.sentences) for name, stage in manifest.stages.items() if stage.sentences}
    planned |= sentences or {}
    rows = [row for name in manifest.stages for row in _stage_rows(manifest, facts, name, planned.get(name))]
    return Report(manifest=manifest, rows=rows, sentences=sentences or {})


def _stage_rows(
    manifest: Manifest, facts: Mapping[str, DatasetFacts], stage_name: str, planned: float | None
) -> list[TaskBalance]:
    stage = manifest.stages[stage_name]
    rows: list[TaskBalance] = []
    for name, share in manifest.task_shares(stage_name, planned).items():
        fact, views = facts[manifest.tasks[name].dataset], manifest.datasets[manifest.tasks[name].dataset].views
        task = at_stored_rate(manifest.tasks[name], fact.stored_fps)
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
