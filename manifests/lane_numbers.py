"""The lanes of one task's sentences: sentence g of a stage belongs to lane `g mod lanes`, whatever its task."""

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
    """Lane and rank in it of each of a task's sentences, and back. Part p begins at its sentence `begun[p]`."""

    def __init__(self, mixture: Mixture, task: int, lanes: int) -> None:
        parts = mixture.parts_of(task)
        if (ends := mixture.ends(task)) is not None:  # its last round of reading has an end too: lanes take turns
            parts.append(Part(begun=ends, start=0, places=np.arange(lanes, dtype=np.int64), period=lanes))
        self._tables = [_table(part, lanes) for part in parts]
        self.begun = np.array([part.begun for part in parts], np.int64)
        lengths = np.diff(self.begun).tolist()
        each = [table.before(length) for table, length in zip(self._tables, lengths, strict=False)]
        self._before = np.cumsum([np.zeros(lanes, np.int64), *each], axis=0)  # part, lane -> sentences before the part

    def part(self, number: int) -> int:
        """Returns the part that a sentence is in."""
        return int(np.searchsorted(self.begun, number, side="right")) - 1

    def of(self, numbers: Int64[np.ndarray, "n"]) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
        """Returns the lane of each of the task's sentences, and how many of its lane come before it."""
        which = np.searchsorted(self.begun, numbers, side="right") - 1
        lane, rank = np.empty_like(numbers), np.empty_like(numbers)
        for number in np.unique(which).tolist():
            here, table = which == number, self._tables[number]
            times, place = np.divmod(numbers[here] - table.begun, len(table.lane))
            mine = lane[here] = table.lane[place]
            rank[here] = self._before[number, mine] + times * table.per_lane[mine] + table.rank[place]
        return lane, rank

    def member(self, lane: int, rank: int) -> int:
        """Returns the task's sentence that has `rank` others of its lane before it."""
        number = int(np.searchsorted(self._before[:, lane], rank, side="right")) - 1
        table = self._tables[number]
        times, place = divmod(rank - int(self._before[number, lane]), int(table.per_lane[lane]))
        return table.begun + times * len(table.lane) + int(table.members[table.first[lane] + place])

    def before(self, number: int, part: int) -> tuple[Int64[np.ndarray, "lanes"], int]:
        """Returns the sentences of each lane before a sentence, and its lane, as if no part came after `part`."""
        table = self._tables[part]
        lane = int(table.lane[(number - table.begun) % len(table.lane)])
        return np.asarray(self._before[part] + table.before(number - table.begun)), lane


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
