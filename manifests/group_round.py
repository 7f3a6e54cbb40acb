"""One round over all examples of a task, in groups of one class: which example stands in which sentence.

Each class is shuffled and cut into groups; what is left of the classes, other examples in each round, makes groups of
several classes. The groups are laid into a table with a row for each sentence, class after class down its columns, so
that no class comes twice in a row unless it has more groups than there are rows; then each column is shuffled by
itself, and each row.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from manifests.order import mix

EMPTY = np.iinfo(np.int64).min  # kind of a place in the table that belongs to another round


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """The first row of the table ends the sentence that the round before began, the last begins one that the next ends.

    `kinds` are the classes of the groups, other numbers below 0 for groups of several classes, or EMPTY.
    """

    first: Int64[np.ndarray, "ahead"]  # examples that end a group
    table: Int64[np.ndarray, "rows columns images"]
    kinds: Int64[np.ndarray, "rows columns"]
    last: Int64[np.ndarray, "behind"]  # examples that begin a group
    key: UInt64[np.ndarray, "1"]

    @cached_property
    def line(self) -> Int64[np.ndarray, "examples"]:
        """All examples in the order in which they are read."""
        return np.concatenate([self.first, self.table[self.kinds != EMPTY].reshape(-1), self.last])

    def avoiding(
        self, begun: Int64[np.ndarray, "n"], classes: Int64[np.ndarray, "examples"]
    ) -> Int64[np.ndarray, "examples"]:
        """Returns the line, the end of the sentence that holds the examples `begun` exchanged where it must be.

        First groups are exchanged so that no class comes twice, then examples, so that none does.
        """
        table, kinds = self.table.copy(), self.kinds.copy()
        for column in np.flatnonzero(kinds[0] != EMPTY).tolist():
            own, others = kinds[0, column], np.concatenate([classes[begun], np.delete(kinds[0], column)])
            if not (np.isin(own, others) or np.isin(table[0, column], begun).any()):
                continue
            fits = (kinds >= 0) & ~np.isin(kinds, others) & ~(kinds == own).any(axis=1, keepdims=True)
            fits[0] = fits[-1] = False
            if len(choices := np.flatnonzero(fits)):
                other = np.unravel_index(
                    choices[int(_draw(self.key, column, 8)[-1] % np.uint64(len(choices)))], fits.shape
                )
                for part in (table, kinds):
                    part[0, column], part[other] = part[other].copy(), part[0, column].copy()
        line = replace(self, table=table, kinds=kinds).line
        self._exchange(line, begun, classes)
        return line

    def _exchange(
        self, line: Int64[np.ndarray, "examples"], begun: Int64[np.ndarray, "n"], classes: Int64[np.ndarray, "examples"]
    ) -> None:
        head = len(self.first) + int((self.kinds[0] != EMPTY).sum()) * self.table.shape[2]
        clashes = np.flatnonzero(np.isin(line[:head], begun)).tolist()
        if not clashes:
            return
        free = ~np.isin(line, begun)
        free[:head] = False
        free[len(line) - len(self.last) - int((self.kinds[-1] != EMPTY).sum()) * self.table.shape[2] :] = False
        for place in clashes:
            same = np.flatnonzero(free & (classes[line] == classes[line[place]]))
            choices = same if len(same) else np.flatnonzero(free)
            other = choices[int(_draw(self.key, place + 1, 9)[-1] % np.uint64(len(choices)))]
            line[place], line[other] = line[other], line[place]
            free[other] = False


def arranged(
    classes: Int64[np.ndarray, "examples"], images: int, per_sentence: int, head: int, key: UInt64[np.ndarray, "1"]
) -> Round:
    """Returns the round that a key decides; its first `head` examples end a sentence of the round before."""
    groups, left = _groups(classes, images, key)
    ahead, behind = head % images, (len(classes) - head) % images  # of the groups that the round's ends cut
    if len(left) < ahead + behind:  # one is taken apart for them
        apart = int(_draw(key, 1, 1)[0] % np.uint64(len(groups)))
        left, groups = np.concatenate([left, groups[apart]]), np.delete(groups, apart, axis=0)
    mixed = left[ahead : len(left) - behind].reshape(-1, images)
    every = np.concatenate([groups, mixed])
    kinds = np.concatenate([classes[groups[:, 0]], -1 - np.arange(len(mixed), dtype=np.int64)])
    used = _used(len(classes), images, per_sentence, head)
    placed = _placed(kinds, used, key)
    return Round(
        first=left[:ahead],
        table=np.where(used[:, :, None], every[placed] if len(every) else -1, -1),
        kinds=np.where(used, kinds[placed] if len(every) else EMPTY, EMPTY),
        last=left[len(left) - behind :],
        key=key,
    )


def _draw(key: UInt64[np.ndarray, "1"], count: int, purpose: int) -> UInt64[np.ndarray, "count"]:
    return mix(mix(key, purpose), np.arange(count, dtype=np.uint64))


def _groups(
    classes: Int64[np.ndarray, "examples"], images: int, key: UInt64[np.ndarray, "1"]
) -> tuple[Int64[np.ndarray, "groups images"], Int64[np.ndarray, "left"]]:
    """Returns whole groups, class after class in a random order, and the examples that are left of the classes."""
    sizes = np.bincount(classes)
    by_turn = np.argsort(_draw(key, len(sizes), 2), kind="stable")
    turn = np.empty_like(by_turn)
    turn[by_turn] = np.arange(len(sizes))
    ordered = np.lexsort((_draw(key, len(classes), 3), turn[classes]))
    lengths = sizes[by_turn]
    within = np.arange(len(classes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    whole = within < np.repeat(lengths // images * images, lengths)
    return ordered[whole].reshape(-1, images), ordered[~whole]


def _used(examples: int, images: int, per_sentence: int, head: int) -> Bool[np.ndarray, "rows columns"]:
    """Returns which places of the table are groups of this round."""
    sentences, rest = divmod(examples - head, per_sentence)
    used = np.zeros((sentences + 2, per_sentence // images), bool)
    used[0, used.shape[1] - head // images :] = True
    used[1:-1] = True
    used[-1, : rest // images] = True
    return used


def _placed(
    kinds: Int64[np.ndarray, "groups"], used: Bool[np.ndarray, "rows columns"], key: UInt64[np.ndarray, "1"]
) -> Int64[np.ndarray, "rows columns"]:
    """Returns which group stands where; 0 in places that are not used."""
    sizes = used.sum(axis=0)
    placed = np.zeros(used.shape, np.int64)
    column = np.repeat(np.arange(used.shape[1]), sizes)
    placed.T[used.T] = np.lexsort((_draw(key, len(kinds), 4), column))
    for number, start in enumerate((np.cumsum(sizes) - sizes).tolist()):
        if 0 < start < len(kinds) and kinds[start] == kinds[start - 1]:
            _part(kinds, placed, used, number, int(kinds[start]), key)
    full = placed[1:-1]
    shuffled = np.argsort(_draw(key, full.size, 6).reshape(full.shape), axis=1)
    placed[1:-1] = np.take_along_axis(full, shuffled, axis=1)
    return placed


def _part(
    kinds: Int64[np.ndarray, "groups"], placed: Int64[np.ndarray, "rows columns"],
    used: Bool[np.ndarray, "rows columns"], column: int, kind: int, key: UInt64[np.ndarray, "1"],
) -> None:  # fmt: skip
    """Moves groups within a column so that the kind with which it begins is in no row that has it already."""
    there = ((kinds[placed[:, :column]] == kind) & used[:, :column]).any(axis=1)
    here = (kinds[placed[:, column]] == kind) & used[:, column]
    clash, free = np.flatnonzero(there & here), np.flatnonzero(~there & ~here & used[:, column])
    free = free[np.argsort(_draw(key, len(free), 5))][: len(clash)]
    clash = clash[: len(free)]
    placed[clash, column], placed[free, column] = placed[free, column], placed[clash, column]
