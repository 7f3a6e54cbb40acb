"""The order of reading of a large task: shuffled, and yet each host reads only its part of the shards.

Sentence g of a batch belongs to lane `g mod lanes`. A round, in which every example is read once, goes like this: the
blocks (one for each unit of shards) are put in a random order and laid end to end; the lanes cut this line into
consecutive segments, each as long as the examples that the lane's sentences read in the round; a segment is shuffled
in windows. So a host that reads every h-th sentence, where h divides the lanes, needs the blocks of its segments and
no others (but those at a cut), whatever the batch size, and the global batches do not depend on h.

Where shares change within a round, the lanes read on differently: then what each lane has left is laid end to end, and
cut again by what the lanes read in the rest of the round. So nothing that was read before the change depends on it.

All of it is index arithmetic, forwards (`rows_of`) and backwards (`sentences_of`); a round costs the sorting of its
blocks. Every view of a block is one read: the views of its examples change together, round by round.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int64, UInt64

from manifests.lane_numbers import LaneNumbers
from manifests.mixture import Mixture
from manifests.order import mix, permute, unpermute

MOST_LANES = 64
BLOCKS_PER_LANE = 10  # at least; a cut between two lanes is a block that both read
FEWEST_BLOCKS = 256  # with fewer, a task is shuffled as a whole, see order.py
VIEWS = 1 << 40  # tells the keys of views from those of windows
MIXED = 1 << 19  # examples that are being shuffled at a time, those of all lanes' windows together


def lanes_for(blocks: int) -> int:
    """Returns the lanes of a task of so many blocks: a power of two, or 0 where it is shuffled as a whole."""
    if blocks < FEWEST_BLOCKS:
        return 0
    return int(min(MOST_LANES, 2 ** int(np.log2(blocks // BLOCKS_PER_LANE))))


@dataclass(frozen=True, eq=False)
class _Leg:
    """A round from its begin or from a change of shares on."""

    start: int  # examples of the task before it
    begun: Int64[np.ndarray, "lanes"]  # examples that each lane had read when it began
    cuts: Int64[np.ndarray, "lanes_plus_1"]  # where the lanes' segments begin on its line
    rest: Int64[np.ndarray, "lanes_plus_1"]  # where what lanes had left begins on it; in the first leg the cuts
    done: Int64[np.ndarray, "lanes"]  # examples that each lane had read of its segment of the leg before


@dataclass(frozen=True, eq=False)
class _Round:
    """One pass over all examples. The line of the first leg is that of the blocks."""

    legs: tuple[_Leg, ...]
    blocks: Int64[np.ndarray, "blocks"]  # in the order of the line
    ends: Int64[np.ndarray, "blocks"]  # where each of them ends on it


class LanedOrder:
    """The order of one task.

    `sizes` are the examples of each block; `task` is the task's number in the stage's `mixture`; a `window` of so many
    examples is shuffled together in each lane, by default `MIXED` in all lanes.
    """

    def __init__(
        self,
        sizes: Int64[np.ndarray, "blocks"],
        *,
        mixture: Mixture,
        task: int,
        views: int,
        per_sentence: int,
        key: int,
        window: int | None = None,
    ) -> None:
        self.lanes = lanes_for(len(sizes))
        self._sizes, self._starts = sizes, np.cumsum(sizes) - sizes
        self._examples, self._views, self._per_sentence, self._key = int(sizes.sum()), views, per_sentence, key
        self._window = max(window or MIXED // self.lanes, 4 * per_sentence)
        self._numbers = LaneNumbers(mixture, task, self.lanes)
        self._round = lru_cache(maxsize=8)(self._make_round)
        self._heads = lru_cache(maxsize=8)(self._make_heads)

    def rows_of(self, numbers: Int64[np.ndarray, "b"]) -> tuple[Int64[np.ndarray, "b e"], Int64[np.ndarray, "b e"]]:
        """Returns the examples and their views that make the sentences `numbers` of the task; as `order.rows_of`."""
        inside = np.arange(self._per_sentence, dtype=np.int64)
        rounds = (numbers[:, None] * self._per_sentence + inside) // self._examples
        own, rank = self._numbers.of(numbers)
        lane = np.broadcast_to(own[:, None], rounds.shape)
        read = rank[:, None] * self._per_sentence + inside  # examples of the lane before this one
        example, start = np.empty_like(rounds), np.broadcast_to(numbers[:, None] * self._per_sentence, rounds.shape)
        for number in np.unique(rounds).tolist():
            here = rounds == number
            example[here] = self._mended(number, self._at_first(number, start[here], lane[here], read[here]))
        return example, self._view(example, rounds)

    def sentences_of(
        self, example: int, *, sentences: int
    ) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
        """Returns where `rows_of` puts an example in the first `sentences` sentences; as `order.sentences_of`."""
        rounds = np.arange(-(-sentences * self._per_sentence // self._examples), dtype=np.int64)
        found = np.array([self._read_at(example, number) for number in rounds.tolist()], np.int64).reshape(-1, 2)
        view = self._view(np.full_like(rounds, example), rounds)
        early = found[:, 0] < sentences
        return found[early, 0], found[early, 1], view[early]

    def _read_at(self, example: int, number: int) -> tuple[int, int]:
        """Returns the sentence that reads an example in a round, and the place in it."""
        this = self._round(number)
        first = this.legs[0]
        block = int(np.searchsorted(self._starts, example, side="right")) - 1
        position = int(np.flatnonzero(this.blocks == block)[0])
        on_line = int(this.ends[position] - self._sizes[block] + example - self._starts[block])
        lane = int(np.searchsorted(first.cuts, on_line, side="right")) - 1
        start, size, key = self._windows(number, np.array([lane]), np.array([on_line - first.cuts[lane]]))
        index = int((start + unpermute(on_line - first.cuts[lane] - start, size, key))[0])
        begin, heads = self._heads(number)
        if (int(first.cuts[lane]) + index - begin) % self._examples < len(heads):
            on_line = (begin + int(np.flatnonzero(heads == example)[0])) % self._examples
            lane = int(np.searchsorted(first.cuts, on_line, side="right")) - 1
            index = on_line - int(first.cuts[lane])
        begun = first.begun
        for leg in this.legs[1:]:
            if index < leg.done[lane]:
                break
            on_line = int(leg.rest[lane] + index - leg.done[lane])
            lane = int(np.searchsorted(leg.cuts, on_line, side="right")) - 1
            index, begun = on_line - int(leg.cuts[lane]), leg.begun
        rank, place = divmod(index + int(begun[lane]), self._per_sentence)
        return self._numbers.member(lane, rank), place

    def _at_first(
        self, number: int, start: Int64[np.ndarray, "n"], lane: Int64[np.ndarray, "n"], read: Int64[np.ndarray, "n"]
    ) -> Int64[np.ndarray, "n"]:
        """Returns the places on the line of a round's first leg, before the lanes shuffle it, where examples stand.

        `start` is the first example of the task in their sentence, `read` how many their lane had read before them.
        """
        legs = self._round(number).legs
        if len(legs) == 1:
            return np.asarray(legs[0].cuts[lane] + read - legs[0].begun[lane])
        which = np.maximum(np.searchsorted([leg.start for leg in legs], start, side="right") - 1, 0)
        lane, index = lane.copy(), read - np.stack([leg.begun for leg in legs])[which, lane]
        for own in range(len(legs) - 1, 0, -1):
            here, leg = which >= own, legs[own]
            on_line = leg.cuts[lane[here]] + index[here]
            lane[here] = before = np.searchsorted(leg.rest, on_line, side="right") - 1
            index[here] = on_line - leg.rest[before] + leg.done[before]
        return np.asarray(legs[0].cuts[lane] + index)

    def _mended(self, number: int, place: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
        """Returns the examples that lanes read at places of a round's line."""
        example = self._shuffled(number, place)
        begin, heads = self._heads(number)
        from_begin = (place - begin) % self._examples
        at_head = from_begin < len(heads)
        if at_head.any():
            example[at_head] = heads[from_begin[at_head]]
        return example

    def _shuffled(self, number: int, place: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
        this = self._round(number)
        lane = np.searchsorted(this.legs[0].cuts, place, side="right") - 1
        index = place - this.legs[0].cuts[lane]
        start, size, keys = self._windows(number, lane, index)
        on_line = this.legs[0].cuts[lane] + start + permute(index - start, size, keys)
        position = np.searchsorted(this.ends, on_line, side="right")
        block = this.blocks[position]
        return np.asarray(self._starts[block] + on_line - (this.ends[position] - self._sizes[block]))

    def _windows(
        self, number: int, lane: Int64[np.ndarray, "n"], index: Int64[np.ndarray, "n"]
    ) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], np.ndarray]:
        """Returns start and size of the window around each place of a segment, and the key of its permutation."""
        cuts = self._round(number).legs[0].cuts
        length = cuts[lane + 1] - cuts[lane]
        count = np.maximum(length // self._window, 1)
        which = index * count // length
        start = -(-which * length // count)
        size = -(-(which + 1) * length // count) - start
        return start, size, _keys(self._key, np.full_like(lane, number), lane, which)

    def _make_round(self, number: int) -> _Round:
        block = np.arange(len(self._sizes), dtype=np.int64)
        blocks = np.argsort(_keys(self._key, np.full_like(block, number), block), kind="stable")
        return _Round(self._legs(number * self._examples), blocks, np.cumsum(self._sizes[blocks]))

    def _legs(self, start: int) -> tuple[_Leg, ...]:
        """Returns the legs of the round that begins with the example `start` of the task."""
        end, begun = start + self._examples, self._numbers.begun * self._per_sentence
        changes = np.unique(begun[(begun > start) & (begun < end)]).tolist()
        legs: list[_Leg] = []
        for place in [start, *changes]:
            part = self._numbers.part(place // self._per_sentence)
            read = self._read_before(place, part)
            cuts = np.concatenate([[0], np.cumsum(self._read_before(end, part) - read)])
            done = read - legs[-1].begun if legs else np.zeros_like(read)
            rest = np.concatenate([[0], np.cumsum(np.diff(legs[-1].cuts) - done)]) if legs else cuts
            legs.append(_Leg(place, read, cuts, rest, done))
        return tuple(legs)

    def _read_before(self, place: int, part: int) -> Int64[np.ndarray, "lanes"]:
        """Returns the examples of each lane among the first `place` of the task, as if no part came after `part`."""
        sentence, inside = divmod(place, self._per_sentence)
        sentences, lane = self._numbers.before(sentence, part)
        read = sentences * self._per_sentence
        read[lane] += inside
        return read

    def _crossing(self, number: int) -> tuple[int, int]:
        """Returns the sentence that began in the round before, and where what it reads of this one stands on the line.

        Without such a sentence it is -1.
        """
        if not number * self._examples % self._per_sentence:
            return -1, 0
        sentence = number * self._examples // self._per_sentence
        lane = self._numbers.of(np.array([sentence], np.int64))[0][0]
        return sentence, int(self._round(number).legs[0].cuts[lane])

    def _make_heads(self, number: int) -> tuple[int, Int64[np.ndarray, "heads"]]:
        """Returns where the end of the sentence that began in the round before stands on the line, and what is there.

        What the sentence read in the round before already is exchanged with the examples that come next, so that it
        holds no example twice.
        """
        sentence, begin = self._crossing(number)
        if sentence < 0:
            return 0, np.empty(0, np.int64)
        head = self._head_places(begin)
        heads = self._shuffled(number, head)
        start, inside = sentence * self._per_sentence, number * self._examples - sentence * self._per_sentence
        lanes, rank = self._numbers.of(np.full(inside, sentence, np.int64))
        read = rank * self._per_sentence + np.arange(inside, dtype=np.int64)
        last = self._at_first(number - 1, np.full(inside, start, np.int64), lanes, read)
        other, begin_before = self._crossing(number - 1)
        exchanged = other >= 0 and np.isin(last, self._head_places(begin_before)).any()  # only with few examples
        tail = self._mended(number - 1, last) if exchanged else self._shuffled(number - 1, last)
        taken, crossing = np.isin(heads, tail), self._per_sentence - inside
        clash, free = np.flatnonzero(taken[:crossing]), crossing + np.flatnonzero(~taken[crossing:])
        clash, free = clash[: len(free)], free[: len(clash)]
        heads[clash], heads[free] = heads[free], heads[clash]
        return begin, heads

    def _head_places(self, begin: int) -> Int64[np.ndarray, "heads"]:
        """Returns the places on the line where the end of a sentence, or what it is exchanged with, stands."""
        count = min(2 * self._per_sentence, self._examples)
        return (begin + np.arange(count, dtype=np.int64)) % self._examples

    def _view(self, example: Int64[np.ndarray, "*n"], rounds: Int64[np.ndarray, "*n"]) -> Int64[np.ndarray, "*n"]:
        """Returns the view of each example in a round: over as many rounds as there are views, a block's take turns."""
        if self._views == 1:
            return np.zeros_like(example)
        block = np.searchsorted(self._starts, example, side="right") - 1
        turn, index = np.divmod(rounds, self._views)
        return permute(index, self._views, _keys(self._key, turn, block, np.full_like(turn, VIEWS)))


def _keys(key: int, *values: Int64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    """Returns 64 bits for each tuple of values."""
    result = np.full(values[0].shape, key, np.uint64)
    for value in values:
        result = mix(result, value.astype(np.uint64))
    return result
