"""Weaving what is made of retried items into the rows and rejects that are there, in the source's order."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from manifests.schema import Row
from manifests.shards import ShardInfo
from pipelines.job import Job, Retry, Work
from pipelines.resuming.order import DUPLICATE, Order, Placed
from pipelines.sources.base import Example, Reject


@dataclass(frozen=True, kw_only=True)
class There:
    """What is there of a unit: its receipt of view 0, the keys of its rows, its rejects in order of their places."""

    info: ShardInfo
    keys: list[str]
    rejects: list[Placed]


class WorseError(Exception):
    """An item that is read again gives less than it gave: its rejects stay as they are."""

    def __init__(self, item: int) -> None:
        super().__init__(item)
        self.item = item


def is_chosen(reject: Reject, retry: Retry) -> bool:
    """Says whether a reject is to be tried again; a key that came twice only when it is asked for."""
    if not retry.reasons:
        return reject.reason != DUPLICATE
    return reject.reason in retry.reasons or reject.stage in retry.reasons


class Merge:
    """One reading of a unit: what is to be made anew, and how it stands among the rows that are there.

    The steps are noted in the source's order, in the thread that reads; a step is there before its example is.
    """

    def __init__(self, job: Job, work: Work, there: There, again: set[int], order: Order) -> None:
        assert work.retry is not None  # for type checkers
        self._job, self._work, self._retry, self._there = job, work, work.retry, there
        self._again, self._order = again, order
        self._taken = set(there.keys)  # a key stays with the row that has it
        self._steps: list[tuple[str, str]] = []  # ("take" | "skip" | "make", key)
        self._places = len(there.keys) + len(there.rejects)
        self._row = self._reject = 0  # of those that are there, the next

    def examples(self) -> Iterator[Example]:
        """Yields what has to be made."""
        spans = {known.item: known.span for known in self._there.rejects}
        for item in sorted(self._again, key=lambda item: spans[item]):
            first, end = spans[item]
            self._keep(first)
            yield from self._changed(item, end) if item in self._retry.changed else self._same(item, end)
        self._keep(self._places)

    def _keep(self, end: int) -> None:
        """Keeps the rows and rejects up to a place."""
        for known in self._known(end):
            if isinstance(known, str):
                self._keep_row(known)
            else:
                self._order.keep_reject(known)

    def _keep_row(self, key: str) -> None:
        self._order.keep_row(key)
        self._steps.append(("take", key))

    def _known(self, end: int) -> Iterator[str | Placed]:
        """Passes the rows (their keys) and rejects that stand before a place."""
        while self._row + self._reject < end:
            if self._next_is_reject():
                self._reject += 1
                yield self._there.rejects[self._reject - 1]
            else:
                self._row += 1
                yield self._there.keys[self._row - 1]

    def _next_is_reject(self) -> bool:
        rejects, place = self._there.rejects, self._row + self._reject
        return self._reject < len(rejects) and rejects[self._reject].place == place

    def _changed(self, item: int, end: int) -> Iterator[Example]:
        """Makes all of an item whose files are others now."""
        gone = [known for known in self._known(end) if isinstance(known, str)]
        self._steps += [("skip", key) for key in gone]
        self._taken -= set(gone)
        for result in self._order.read_item(self._job.source, self._work.unit, item):
            yield from self._make(result, item)

    def _same(self, item: int, end: int) -> Iterator[Example]:
        """Makes what has no row of an item whose files are the same.

        Raises: `WorseError` unless all rows, and all rejects that are not tried again, come back in their order.
        """
        known = list(self._known(end))
        keys = [entry for entry in known if isinstance(entry, str)]
        kept = {entry.reject.key: entry for entry in known
                if isinstance(entry, Placed) and not is_chosen(entry.reject, self._retry)}  # fmt: skip
        at = 0
        for result in self._order.read_item(self._job.source, self._work.unit, item):
            if at < len(keys) and result.key == keys[at] and isinstance(result, Example):
                self._keep_row(keys[at])
                at += 1
            elif result.key in kept:
                self._order.place(kept.pop(result.key).reject, item)
            else:
                yield from self._make(result, item)
        if at < len(keys) or kept:
            raise WorseError(item)

    def _make(self, result: Example | Reject, item: int) -> Iterator[Example]:
        if isinstance(result, Example) and result.key in self._taken:
            result = Reject(key=result.key, source=result.source, stage="list", reason=DUPLICATE)
        example = self._order.place(result, item)
        if example is not None:
            self._steps.append(("make", example.key))
            yield example

    def woven(self, made: Iterator[Row], before: Iterator[Row], views: range) -> Iterator[tuple[Row, bool]]:
        """Puts the rows that were made among those that are there, view by view; says of each whether it is new."""
        pending = next(made, None)
        for view in views:
            at = 0
            while pending is not None and pending.view == view:
                at = yield from self._upto(pending.key, at, before)
                yield pending, True
                pending = next(made, None)
            yield from self._upto(None, at, before)

    def _upto(self, key: str | None, at: int, before: Iterator[Row]) -> Generator[tuple[Row, bool], None, int]:
        """Yields the rows that are there from step `at` up to the one that makes `key`; returns the step after it.

        What should have been made on the way has become a reject.
        """
        while at < len(self._steps):
            action, known = self._steps[at]
            at += 1
            if action == "make" and known == key:
                break
            if action == "take":
                yield next(before), False
            elif action == "skip":
                next(before)
        return at
