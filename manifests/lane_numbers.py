"""The lanes of one task's sentences: sentence g of a stage belongs to lane `g mod lanes`, whatever its task.

Lanes share a round of reading out when it begins, so where shares change the lanes of the round go on as if they did
not until it ends: what was read before is then the same as without the change. Until that end a host may need blocks of
other lanes; what is read stays the same.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from manifests.mixture import Mixture, Part


@dataclass(frozen=True, eq=False)
class _Table:
    """The lanes of a task's sentences while shares stay the same: they repeat after `len(lane)` sentences."""

    begun: int  # the task's sentence that is the first of these
    lane: Int64[np.ndarray, "count"]
    rank: Int64[np.ndarray, "count"]  # how many of its lane come before each
    members: Int64[np.ndarray, "count"]  # sentences, lane by lane
    first: Int64[np.ndarray, "lanes"]  # where each lane begins among them
    per_lane: Int64[np.ndarray, "lanes"]

    def before(self, number: int) -> Int64[np.ndarray, "lanes"]:
        """Returns the sentences of each lane among the first `number` of these."""
        times, rest = divmod(number, len(self.lane))
        return np.asarray(times * self.per_lane + np.bincount(self.lane[:rest], minlength=len(self.first)))


class LaneNumbers:
    """Lane and rank in it of each of a task's sentences, and back."""

    def __init__(self, mixture: Mixture, task: int, lanes: int, *, examples: int = 1, per_sentence: int = 1) -> None:
        parts = mixture.parts_of(task)
        if (ends := mixture.ends(task)) is not None:  # its last round of reading has an end too: lanes take turns
            parts.append(Part(begun=ends, start=0, places=np.arange(lanes, dtype=np.int64), period=lanes))
        self._tables = [_table(part, lanes) for part in parts]
        rounds = -(-np.array([part.begun for part in parts], np.int64) * per_sentence // examples)
        self._used = -(-rounds * examples // per_sentence)  # from which sentence on: the first of a round
        self._before = [np.zeros(lanes, np.int64)]  # for each table, the sentences of each lane before it
        for table, start, end in zip(self._tables, self._used.tolist(), self._used[1:].tolist(), strict=False):
            self._before.append(self._before[-1] + table.before(end - table.begun) - table.before(start - table.begun))

    def of(self, numbers: Int64[np.ndarray, "n"]) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
        """Returns the lane of each of the task's sentences, and how many of its lane come before it."""
        which = np.searchsorted(self._used, numbers, side="right") - 1
        lane, rank = np.empty_like(numbers), np.empty_like(numbers)
        for number in np.unique(which).tolist():
            here, table = which == number, self._tables[number]
            times, place = np.divmod(numbers[here] - table.begun, len(table.lane))
            mine = lane[here] = table.lane[place]
            rank[here] = self._skipped(number)[mine] + times * table.per_lane[mine] + table.rank[place]
        return lane, rank

    def _skipped(self, number: int) -> Int64[np.ndarray, "lanes"]:
        """Returns what a table's own ranks lack."""
        table = self._tables[number]
        return np.asarray(self._before[number] - table.before(int(self._used[number]) - table.begun))

    def member(self, lane: int, rank: int) -> int:
        """Returns the task's sentence that has `rank` others of its lane before it."""
        number = int(np.searchsorted([before[lane] for before in self._before], rank, side="right")) - 1
        table = self._tables[number]
        times, place = divmod(rank - int(self._skipped(number)[lane]), int(table.per_lane[lane]))
        return table.begun + times * len(table.lane) + int(table.members[table.first[lane] + place])

    def before(self, number: int) -> Int64[np.ndarray, "lanes"]:
        """Returns the sentences of each lane among the task's first `number`."""
        which = int(np.searchsorted(self._used, number, side="right")) - 1
        return np.asarray(self._skipped(which) + self._tables[which].before(number - self._tables[which].begun))


def _table(part: Part, lanes: int) -> _Table:
    whole = int(np.lcm(part.period, lanes))
    every = (np.arange(whole // part.period, dtype=np.int64)[:, None] * part.period + part.places).reshape(-1)
    lane = (part.start + every) % lanes
    members = np.argsort(lane, kind="stable")
    per_lane = np.bincount(lane, minlength=lanes)
    first = np.cumsum(per_lane) - per_lane
    rank = np.empty(len(every), np.int64)
    rank[members] = np.arange(len(every)) - np.repeat(first, per_lane)
    return _Table(begun=part.begun, lane=lane, rank=rank, members=members, first=first, per_lane=per_lane)
