"""The order of reading of a task whose sentences are groups of images of one class, as LVM's category sentences.

In every round each example is read once. A round depends on no round before it, but that the sentence which the round
before began is ended with other examples, and other classes, than it holds. A round is an array in memory, made when it
is first asked for, see `group_round.py`; so all hosts read all shards.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from manifests.group_round import Round, arranged
from manifests.order import mix, view_of

ROUNDS_KEPT = 8


class GroupedOrder:
    """The order of one task; `classes` are those of its examples, `images` stand in each group."""

    def __init__(
        self, classes: Int64[np.ndarray, "examples"], *, images: int, views: int, per_sentence: int, key: int
    ) -> None:
        self._classes, self._images, self._views = classes, images, views
        self._per_sentence, self._key = per_sentence, key
        self._line = lru_cache(maxsize=ROUNDS_KEPT)(self._make_line)
        self._round = lru_cache(maxsize=2)(self._make_round)

    def rows_of(self, numbers: Int64[np.ndarray, "b"]) -> tuple[Int64[np.ndarray, "b e"], Int64[np.ndarray, "b e"]]:
        """Returns the examples and their views that make the sentences `numbers` of the task; as `order.rows_of`."""
        place = numbers[:, None] * self._per_sentence + np.arange(self._per_sentence, dtype=np.int64)
        rounds, index = np.divmod(place, len(self._classes))
        example = np.empty_like(place)
        for number in np.unique(rounds).tolist():
            here = rounds == number
            example[here] = self._line(self._shared(number))[index[here]]
        return example, view_of(example, rounds, self._views, self._key)

    def sentences_of(
        self, example: int, *, sentences: int
    ) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
        """Returns where `rows_of` puts an example in the first `sentences` sentences; it makes each of the rounds."""
        examples = len(self._classes)
        rounds = np.arange(-(-sentences * self._per_sentence // examples), dtype=np.int64)
        index = [int(np.flatnonzero(self._line(self._shared(number)) == example)[0]) for number in rounds.tolist()]
        number, place = np.divmod(rounds * examples + np.array(index, np.int64), self._per_sentence)
        view = view_of(np.full_like(rounds, example), rounds, self._views, self._key)
        read = number < sentences
        return number[read], place[read], view[read]

    def _shared(self, number: int) -> int:
        """Returns the round whose line a round has: with few examples, the last one at which a sentence began.

        Equal neighbouring rounds cannot bring an example back within one sentence.
        """
        examples = len(self._classes)
        if examples >= 3 * self._per_sentence:
            return number
        return number - number % (self._per_sentence // int(np.gcd(examples, self._per_sentence)))

    def _make_line(self, number: int) -> Int64[np.ndarray, "examples"]:
        """Returns the examples of a round in the order in which they are read."""
        head = self._head(number)
        if not head:
            return self._round(number).line
        begun = self._round(number - 1).line[head - self._per_sentence :]
        return self._round(number).avoiding(begun, self._classes)

    def _make_round(self, number: int) -> Round:
        key = mix(np.full(1, self._key, np.uint64), number)
        return arranged(self._classes, self._images, self._per_sentence, self._head(number), key)

    def _head(self, number: int) -> int:
        """Returns how many examples of a round end the sentence that the round before began."""
        return -number * len(self._classes) % self._per_sentence
