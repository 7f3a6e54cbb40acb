"""Which task each sentence of a stage has, where shares may change at given sentences: index arithmetic, no state.

From a change on, the sequence of tasks begins anew with the new shares; every task counts its own sentences on, so
what it has read stays read.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int32, Int64

from manifests import order


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Sentences of a stage with the same shares."""

    start: int
    counts: tuple[int, ...]  # sentences of each task in a period; 0 for a task that is not read here

    @cached_property
    def read(self) -> Int64[np.ndarray, "read"]:
        """The tasks that are read."""
        return np.flatnonzero(self.counts)

    @cached_property
    def read_counts(self) -> tuple[int, ...]:
        """Their sentences in a period."""
        return tuple(count for count in self.counts if count)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A task's sentences in one piece: it has number `begun` next when sentence `start` comes.

    Its sentences are `start` plus `places`, and the same again every `period`.
    """

    begun: int
    start: int
    places: Int64[np.ndarray, "count"]
    period: int


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The tasks of a stage's sentences. The first piece starts at 0, the last one never ends."""

    pieces: tuple[Piece, ...]

    @cached_property
    def _starts(self) -> Int64[np.ndarray, "pieces"]:
        return np.array([piece.start for piece in self.pieces], np.int64)

    @cached_property
    def _begun(self) -> Int64[np.ndarray, "pieces tasks"]:
        """Sentences that each task had before each piece."""
        lengths = np.diff(self._starts).tolist()
        each = [_sentences(piece, length) for piece, length in zip(self.pieces, lengths, strict=False)]
        return np.cumsum([np.zeros(len(self.pieces[0].counts), np.int64), *each], axis=0)

    def tasks_of(self, numbers: Int64[np.ndarray, "b"]) -> tuple[Int32[np.ndarray, "b"], Int64[np.ndarray, "b"]]:
        """Returns the task of each sentence of the stage, and its number among the sentences of that task."""
        which = np.searchsorted(self._starts, numbers, side="right") - 1
        task, within = np.empty(len(numbers), np.int32), np.empty(len(numbers), np.int64)
        for number in np.unique(which).tolist():
            here, piece = which == number, self.pieces[number]
            index, own = order.tasks_of(numbers[here] - piece.start, piece.read_counts)
            task[here] = piece.read[index]
            within[here] = own + self._begun[number, task[here]]
        return task, within

    def numbers_of(self, within: Int64[np.ndarray, "n"], task: int) -> Int64[np.ndarray, "n"]:
        """Returns the numbers in the stage of a task's sentences: the inverse of `tasks_of`."""
        which = np.searchsorted(self._begun[:, task], within, side="right") - 1
        numbers = np.empty(len(within), np.int64)
        for number in np.unique(which).tolist():
            here, piece = which == number, self.pieces[number]
            index = int(np.searchsorted(piece.read, task))
            own = within[here] - self._begun[number, task]
            numbers[here] = piece.start + order.numbers_of(own, index, piece.read_counts)
        return numbers

    def sentences_before(self, number: int) -> Int64[np.ndarray, "tasks"]:
        """Returns how many of the first `number` sentences each task has."""
        which = int(np.searchsorted(self._starts, number, side="right")) - 1
        return np.asarray(self._begun[which] + _sentences(self.pieces[which], number - self.pieces[which].start))

    def parts_of(self, task: int) -> list[Part]:
        """Returns where a task's sentences stand, piece by piece; those that do not read it are left out."""
        return [
            Part(begun=int(begun), start=piece.start, period=sum(piece.counts),
                 places=np.flatnonzero(order.task_sequence(piece.read_counts) == np.searchsorted(piece.read, task)))
            for piece, begun in zip(self.pieces, self._begun[:, task], strict=True) if piece.counts[task]
        ]  # fmt: skip

    def ends(self, task: int) -> int | None:
        """Returns how many sentences a task has in all, or None where it is read for ever."""
        return None if self.pieces[-1].counts[task] else int(self._begun[-1, task])


def _sentences(piece: Piece, length: int) -> Int64[np.ndarray, "tasks"]:
    result = np.zeros(len(piece.counts), np.int64)
    result[piece.read] = order.sentences_before(length, piece.read_counts)
    return result
