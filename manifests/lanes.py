"""The order of reading of a large task: shuffled, and yet each host reads only its part of the shards.

Sentence g of a batch belongs to lane `g mod lanes`. A round, in which every example is read once, goes like this: the
blocks (one for each unit of shards) are put in a random order and laid end to end; the lanes cut this line into
consecutive segments, each as long as the examples that the lane's sentences read in the round; a segment is shuffled
in windows. So a host that reads every h-th sentence, where h divides the lanes, needs the blocks of its segments and
no others (but those at a cut), whatever the batch size, and the global batches do not depend on h.

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
WINDOW = 8192  # examples shuffled together in each lane


def lanes_for(blocks: int) -> int:
    """Returns the lanes of a task of so many blocks: a power of two, or 0 where it is shuffled as a whole."""
    if blocks < FEWEST_BLOCKS:
        return 0
    return int(min(MOST_LANES, 2 ** int(np.log2(blocks // BLOCKS_PER_LANE))))


@dataclass(frozen=True, eq=False)
class _Round:
    """One pass over all examples."""

    begun: Int64[np.ndarray, "lanes"]  # examples that each lane had read when the round began
    cuts: Int64[np.ndarray, "lanes_plus_1"]  # where the lanes' segments begin on the line of blocks
    blocks: Int64[np.ndarray, "blocks"]  # in the order of the line
    ends: Int64[np.ndarray, "blocks"]  # where each of them ends on it


class LanedOrder:
    """The order of one task.

    `sizes` are the examples of each block; `task` is the task's number in the stage's `mixture`.
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
        window: int = WINDOW,
    ) -> None:
        self.lanes = lanes_for(len(sizes))
        self._sizes, self._starts = sizes, np.cumsum(sizes) - sizes
        self._examples, self._views, self._per_sentence, self._key = int(sizes.sum()), views, per_sentence, key
        self._window = max(window, 4 * per_sentence)
        self._numbers = LaneNumbers(mixture, task, self.lanes, examples=self._examples, per_sentence=per_sentence)
        self._round = lru_cache(maxsize=8)(self._make_round)
        self._heads = lru_cache(maxsize=8)(self._make_heads)

    def rows_of(self, numbers: Int64[np.ndarray, "b"]) -> tuple[Int64[np.ndarray, "b e"], Int64[np.ndarray, "b e"]]:
        """Returns the examples and their views that make the sentences `numbers` of the task; as `order.rows_of`."""
        inside = np.arange(self._per_sentence, dtype=np.int64)
        rounds = (numbers[:, None] * self._per_sentence + inside) // self._examples
        own, rank = self._numbers.of(numbers)
        lane = np.broadcast_to(own[:, None], rounds.shape)
        read = rank[:, None] * self._per_sentence + inside  # examples of the lane before this one
        example = np.empty_like(rounds)
        for number in np.unique(rounds).tolist():
            here = rounds == number
            index = read[here] - self._round(number).begun[lane[here]]
            example[here] = self._mended(number, lane[here], index)
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
        block = int(np.searchsorted(self._starts, example, side="right")) - 1
        position = int(np.flatnonzero(this.blocks == block)[0])
        on_line = int(this.ends[position] - self._sizes[block] + example - self._starts[block])
        lane = int(np.searchsorted(this.cuts, on_line, side="right")) - 1
        start, size, key = self._windows(number, np.array([lane]), np.array([on_line - this.cuts[lane]]))
        index = int((start + unpermute(on_line - this.cuts[lane] - start, size, key))[0])
        crossing, heads = self._heads(number)
        if lane == crossing and index < len(heads):
            index = int(np.flatnonzero(heads == example)[0])
        rank, place = divmod(index + int(this.begun[lane]), self._per_sentence)
        return self._numbers.member(lane, rank), place

    def _mended(
        self, number: int, lane: Int64[np.ndarray, "n"], index: Int64[np.ndarray, "n"]
    ) -> Int64[np.ndarray, "n"]:
        """Returns the examples that lanes read at places of their segments."""
        example = self._shuffled(number, lane, index)
        crossing, heads = self._heads(number)
        at_head = (lane == crossing) & (index < len(heads))
        if at_head.any():
            example[at_head] = heads[index[at_head]]
        return example

    def _shuffled(
        self, number: int, lane: Int64[np.ndarray, "n"], index: Int64[np.ndarray, "n"]
    ) -> Int64[np.ndarray, "n"]:
        this = self._round(number)
        start, size, keys = self._windows(number, lane, index)
        on_line = this.cuts[lane] + start + permute(index - start, size, keys)
        position = np.searchsorted(this.ends, on_line, side="right")
        block = this.blocks[position]
        return np.asarray(self._starts[block] + on_line - (this.ends[position] - self._sizes[block]))

    def _windows(
        self, number: int, lane: Int64[np.ndarray, "n"], index: Int64[np.ndarray, "n"]
    ) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], np.ndarray]:
        """Returns start and size of the window around each place of a segment, and the key of its permutation."""
        this = self._round(number)
        length = this.cuts[lane + 1] - this.cuts[lane]
        count = np.maximum(length // self._window, 1)
        which = index * count // length
        start = -(-which * length // count)
        size = -(-(which + 1) * length // count) - start
        return start, size, _keys(self._key, np.full_like(lane, number), lane, which)

    def _make_round(self, number: int) -> _Round:
        begun, then = self._read_before(number * self._examples), self._read_before((number + 1) * self._examples)
        block = np.arange(len(self._sizes), dtype=np.int64)
        blocks = np.argsort(_keys(self._key, np.full_like(block, number), block), kind="stable")
        cuts = np.concatenate([[0], np.cumsum(then - begun)])
        return _Round(begun, cuts, blocks, np.cumsum(self._sizes[blocks]))

    def _read_before(self, place: int) -> Int64[np.ndarray, "lanes"]:
        """Returns the examples of each lane among the first `place` examples of the task."""
        sentence, inside = divmod(place, self._per_sentence)
        read = self._numbers.before(sentence) * self._per_sentence
        read[self._lane(sentence)] += inside
        return np.asarray(read)

    def _lane(self, sentence: int) -> int:
        return int(self._numbers.of(np.array([sentence], np.int64))[0][0])

    def _make_heads(self, number: int) -> tuple[int, Int64[np.ndarray, "heads"]]:
        """Returns the lane of the sentence that began in the round before, and the first examples of its segment.

        Those that the sentence read in the round before already are exchanged with the next ones, so that it holds no
        example twice. Without such a sentence the lane is -1.
        """
        inside = number * self._examples % self._per_sentence  # examples of the sentence in the round before
        if not number or not inside:
            return -1, np.empty(0, np.int64)
        lane = self._lane(number * self._examples // self._per_sentence)
        this = self._round(number)
        place = np.arange(min(2 * self._per_sentence, this.cuts[lane + 1] - this.cuts[lane]), dtype=np.int64)
        heads = self._shuffled(number, np.full_like(place, lane), place)
        before = self._round(number - 1)
        last = before.cuts[lane + 1] - before.cuts[lane] - 1 - np.arange(inside, dtype=np.int64)
        tail = self._shuffled(number - 1, np.full_like(last, lane), last)
        taken, crossing = np.isin(heads, tail), self._per_sentence - inside
        clash, free = np.flatnonzero(taken[:crossing]), crossing + np.flatnonzero(~taken[crossing:])
        free = free[: len(clash)]
        heads[clash], heads[free] = heads[free], heads[clash]
        return lane, heads

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
