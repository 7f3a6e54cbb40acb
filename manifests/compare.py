"""Two manifests, or two states of one, in sentences and tokens."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from manifests.balance import Report, TaskBalance


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """What one task reads in one stage; tokens are those wanted of the stage's plan."""

    share: float
    views: int
    sentences: float
    tokens: float
    epochs: float

    @classmethod
    def of(cls, row: TaskBalance) -> "Amounts":
        """Takes them from a report's row."""
        wanted = row.wanted_sentences
        return cls(share=row.wanted_share, views=row.views, sentences=wanted, tokens=wanted * row.context,
                   epochs=row.epochs if row.examples else 0.0)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One task of one stage in two manifests; None where one does not read it."""

    stage: str
    task: str
    before: Amounts | None
    after: Amounts | None

    @property
    def same(self) -> bool:
        """Whether nothing of it differs."""
        return self.before == self.after

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


def compare(before: Report, after: Report) -> Sequence[Difference]:
    """Returns every task of every stage of either report, in the order of the second, then of the first."""
    old = {(row.stage, row.task): Amounts.of(row) for row in before.rows}
    new = {(row.stage, row.task): Amounts.of(row) for row in after.rows}
    return [
        Difference(stage=stage, task=task, before=old.get((stage, task)), after=new.get((stage, task)))
        for stage, task in dict.fromkeys([*new, *old])
    ]
