"""The order of reading, as index arithmetic: any sentence's task and rows from its number, with no state.

Tasks follow Tijdeman's solution of the chairman assignment problem (Discrete Mathematics 32, 1980): in every prefix
of the sequence each of k tasks is within 1 - 1/(2k - 2) of its share, so in any window within twice that. Within one
in *every* window is impossible for general shares of three or more tasks (such words are balanced, and by Fraenkel's
conjecture only special shares admit them).

Both directions are arithmetic: from a number to its rows, and (`sentences_of`, `numbers_of`) from a row to its numbers.

Rows of a task come in rounds. A round visits every example once, in an order permuted by (task, stage, seed, round),
each example in one of its views; over as many rounds as there are views, each (example, view) comes exactly once.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, UInt64

ORDER_VERSION = 2  # of what is read when; 2: large tasks in lanes
PERIOD = 25_200  # sentences; divisible by 100 and by 1 to 10, so that usual shares are exact
_U = np.uint64
_GOLDEN = 0x9E3779B97F4A7C15
_HALF_ROUNDS = 6
_1, _27, _30, _31, _STEP = _U(1), _U(27), _U(30), _U(31), _U(_GOLDEN)
_FIRST, _SECOND = _U(0xBF58476D1CE4E5B9), _U(0x94D049BB133111EB)
_HALVES = np.arange(_HALF_ROUNDS, dtype=_U)[:, None]
_ROUNDS_AT_ONCE = 1 << 14  # whose heads are compared at once


def key_of(*names: object) -> int:
    """Returns 64 bits decided by names and numbers: seeds never come from positions."""
    text = "\0".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def mix(key: UInt64[np.ndarray, "*#n"], value: UInt64[np.ndarray, "*#n"] | int) -> UInt64[np.ndarray, "*n"]:
    """Returns 64 well-mixed bits of (key, value), elementwise: SplitMix64's finalizer over both."""
    step = np.multiply(np.add(np.asarray(value, _U), _1), _STEP)  # ufuncs wrap around silently
    x: Any = np.asarray(np.add(key, step))
    x ^= x >> _30
    x *= _FIRST
    x ^= x >> _27
    x *= _SECOND
    x ^= x >> _31
    return np.asarray(x)


Size = int | Int64[np.ndarray, "*#n"]


def permute(index: Int64[np.ndarray, "*n"], size: Size, keys: UInt64[np.ndarray, "*n"]) -> Int64[np.ndarray, "*n"]:
    """Returns where each index of `range(size)` goes in the permutation that its key names, without storing one.

    An alternating Feistel network on a grid of a x b >= size cells (a, b near the square root), walking on from a
    cell outside the range until it comes back inside (Black and Rogaway, CT-RSA 2002).
    """
    return _walk(_feistel, index, size, keys)


def _walk(
    step: Callable[..., Any], index: Int64[np.ndarray, "*n"], size: Size, keys: UInt64[np.ndarray, "*n"]
) -> Int64[np.ndarray, "*n"]:
    """Goes from cell to cell by `step` until each is back inside its range."""
    result = index.astype(_U).reshape(-1)
    sizes = np.broadcast_to(np.asarray(size, np.int64), index.shape).reshape(-1)
    a = np.ceil(np.sqrt(sizes)).astype(np.int64)
    high, low, most = a.astype(_U), (-(-sizes // a)).astype(_U), sizes.astype(_U)
    keys = mix(np.broadcast_to(keys, index.shape).reshape(1, -1), _HALVES)
    result = step(result, high, low, keys)
    left = np.flatnonzero(result >= most)
    while len(left):
        result[left] = moved = step(result[left], high[left], low[left], keys[:, left])
        left = left[moved >= most[left]]
    return np.asarray(result.astype(np.int64).reshape(index.shape))


def _feistel(
    x: UInt64[np.ndarray, "n"], a: UInt64[np.ndarray, "n"], b: UInt64[np.ndarray, "n"], keys: UInt64[np.ndarray, "6 n"]
) -> UInt64[np.ndarray, "n"]:
    high: Any = x // b  # 0 <= high < a
    low: Any = x % b  # 0 <= low < b
    for half in range(0, _HALF_ROUNDS, 2):
        high = (high + mix(keys[half], low) % a) % a
        low = (low + mix(keys[half + 1], high) % b) % b
    return np.asarray(high * b + low)


def unpermute(place: Int64[np.ndarray, "*n"], size: Size, keys: UInt64[np.ndarray, "*n"]) -> Int64[np.ndarray, "*n"]:
    """Returns the index that `permute` sends to each place: its inverse, walking back from cell to cell."""
    return _walk(_feistel_back, place, size, keys)


def _feistel_back(
    x: UInt64[np.ndarray, "n"], a: UInt64[np.ndarray, "n"], b: UInt64[np.ndarray, "n"], keys: UInt64[np.ndarray, "6 n"]
) -> UInt64[np.ndarray, "n"]:
    high: Any = x // b
    low: Any = x % b
    for half in reversed(range(0, _HALF_ROUNDS, 2)):
        low = (low + b - mix(keys[half + 1], high) % b) % b
        high = (high + a - mix(keys[half], low) % a) % a
    return np.asarray(high * b + low)


def quantise(shares: Mapping[str, float], period: int = PERIOD) -> dict[str, int]:
    """Returns whole sentences per period for each share, adding up to `period` (largest remainders, at least 1)."""
    total = sum(shares.values())
    exact = {name: share / total * period for name, share in shares.items()}
    counts = {name: max(int(value + 1e-9), 1) for name, value in exact.items()}
    by_need = sorted(counts, key=lambda name: (counts[name] - exact[name], name))
    while (left := period - sum(counts.values())) > 0:
        for name in by_need[:left]:
            counts[name] += 1
    while sum(counts.values()) > period:
        counts[max(counts, key=lambda name: (counts[name] - exact[name] if counts[name] > 1 else -np.inf, name))] -= 1
    return counts


@lru_cache(maxsize=64)
def task_sequence(counts: tuple[int, ...]) -> Int32[np.ndarray, "period"]:
    """Returns the task of each sentence of one period, in which task i comes exactly `counts[i]` times.

    Tijdeman's rule: among the tasks that may come now without passing the upper bound, the one whose lower bound
    falls due first.
    """
    divisor = int(np.gcd.reduce(counts))
    share = np.array(counts, np.int64) // divisor
    period, tasks = int(share.sum()), len(counts)
    sequence = np.zeros(period, np.int32)
    scale = max(2 * tasks - 2, 1)
    behind = np.zeros(tasks, np.int64)  # scale * (t * share - period * taken): how far each is behind its share
    for t in range(period if tasks > 1 else 0):
        behind += scale * share
        due = np.where(behind >= period, (period * (scale - 1) - behind) / share, np.inf)
        chosen = int(np.argmin(due))
        sequence[t] = chosen
        behind[chosen] -= scale * period
    whole = np.tile(sequence, divisor)
    whole.setflags(write=False)
    return whole


@lru_cache(maxsize=64)
def _earlier(counts: tuple[int, ...]) -> Int64[np.ndarray, "period"]:
    """Returns for each sentence of a period how many before it have its task."""
    sequence = task_sequence(counts)
    order = np.argsort(sequence, kind="stable")
    starts = np.cumsum([0, *counts[:-1]])
    earlier = np.empty(len(sequence), np.int64)
    earlier[order] = np.arange(len(sequence)) - np.repeat(starts, counts)
    return earlier


def tasks_of(
    numbers: Int64[np.ndarray, "b"], counts: tuple[int, ...]
) -> tuple[Int32[np.ndarray, "b"], Int64[np.ndarray, "b"]]:
    """Returns the task of each global sentence number, and its number among the sentences of that task."""
    period, place = np.divmod(numbers, sum(counts))
    task = task_sequence(counts)[place]
    return task, period * np.array(counts, np.int64)[task] + _earlier(counts)[place]


def numbers_of(within: Int64[np.ndarray, "n"], task: int, counts: tuple[int, ...]) -> Int64[np.ndarray, "n"]:
    """Returns the global numbers of a task's sentences: the inverse of `tasks_of`."""
    places = np.flatnonzero(task_sequence(counts) == task)
    period, index = np.divmod(within, counts[task])
    return np.asarray(period * sum(counts) + places[index])


def sentences_before(number: int, counts: tuple[int, ...]) -> Int64[np.ndarray, "tasks"]:
    """Returns how many of the first `number` sentences each task has."""
    periods, rest = divmod(number, sum(counts))
    begun = np.bincount(task_sequence(counts)[:rest], minlength=len(counts))
    return np.asarray(periods * np.array(counts, np.int64) + begun)


def rows_of(
    numbers: Int64[np.ndarray, "b"], *, examples: int, views: int, per_sentence: int, key: int
) -> tuple[Int64[np.ndarray, "b e"], Int64[np.ndarray, "b e"]]:
    """Returns the examples and their views that make the sentences `numbers` of one task.

    `examples` exist in `views` views each, `per_sentence` stand in a sentence. All rows are seen once before any is
    seen twice, and a sentence holds no example twice where there are enough.
    """
    place = numbers[:, None] * per_sentence + np.arange(per_sentence, dtype=np.int64)
    rounds, index = np.divmod(place, examples)
    if examples < per_sentence:
        example = permute(index, examples, _round_keys(key, rounds))
    elif examples < 3 * per_sentence:
        example = _few(rounds, index, examples, per_sentence, key)
    else:
        example = _many(rounds, index, examples, per_sentence, key)
    return example, view_of(example, rounds, views, key)


def _round_keys(key: int, rounds: Int64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    return mix(np.full(rounds.shape, key, _U), rounds.astype(_U))


def view_of(
    example: Int64[np.ndarray, "*n"], rounds: Int64[np.ndarray, "*n"], views: int, key: int
) -> Int64[np.ndarray, "*n"]:
    """Returns the view of each example in a round: a permutation of the views over the rounds of an epoch."""
    if views == 1:
        return np.zeros_like(example)
    epoch, index = np.divmod(rounds, views)
    return permute(index, views, mix(_round_keys(key ^ _GOLDEN, epoch), example.astype(_U)))


def _few(
    rounds: Int64[np.ndarray, "b e"], index: Int64[np.ndarray, "b e"], examples: int, per_sentence: int, key: int
) -> Int64[np.ndarray, "b e"]:
    """Orders a task with few examples: rounds share one permutation until a round ends where a sentence ends.

    Equal neighbouring rounds cannot bring an example back within one sentence.
    """
    cycle = per_sentence // int(np.gcd(examples, per_sentence))
    return permute(index, examples, _round_keys(key, rounds // cycle))


def _many(
    rounds: Int64[np.ndarray, "b e"], index: Int64[np.ndarray, "b e"], examples: int, per_sentence: int, key: int
) -> Int64[np.ndarray, "b e"]:
    """Orders a task with many examples: each round has its own permutation, mended where a sentence crosses rounds."""
    example = permute(index, examples, _round_keys(key, rounds))
    at_head = (index < 2 * per_sentence) & (rounds > 0)
    if at_head.any():
        touched, which = np.unique(rounds[at_head], return_inverse=True)
        example[at_head] = _heads(touched, examples, per_sentence, key)[which, index[at_head]]
    return example


def _heads(rounds: Int64[np.ndarray, "r"], examples: int, per_sentence: int, key: int) -> Int64[np.ndarray, "r heads"]:
    """Returns the first `2 * per_sentence` examples of rounds, mended.

    The first `crossing` places of a round belong to a sentence that began in the round before. Examples there that
    this sentence has already are exchanged with the next ones of the round that it does not have: the round stays a
    permutation, and its end (which the next round compares with) is out of reach as there are 3 sentences' worth.
    """
    width = 2 * per_sentence
    place = np.arange(width, dtype=np.int64)
    keys = _round_keys(key, rounds)[:, None]
    head = permute(np.tile(place, (len(rounds), 1)), examples, np.tile(keys, (1, width)))
    crossing = (-(rounds * examples) % per_sentence)[:, None]
    end = np.tile(examples - 1 - np.arange(per_sentence, dtype=np.int64), (len(rounds), 1))  # last place first
    tail = permute(end, examples, np.tile(_round_keys(key, rounds - 1)[:, None], (1, per_sentence)))
    begun = np.where(crossing > 0, per_sentence - crossing, 0)
    tail = np.where(examples - 1 - end < begun, tail, -1)
    taken = (head[:, :, None] == tail[:, None, :]).any(axis=-1)
    clash, free = taken & (place < crossing), ~taken & (place >= crossing)
    count = clash.sum(axis=1, keepdims=True)
    swap = np.arange(per_sentence) < count
    one = np.argsort(~clash, axis=1, kind="stable")[:, :per_sentence]
    other = np.argsort(~free, axis=1, kind="stable")[:, :per_sentence]
    row = np.broadcast_to(np.arange(len(rounds))[:, None], swap.shape)[swap]
    one, other = one[swap], other[swap]
    head[row, one], head[row, other] = head[row, other], head[row, one]
    return head


def sentences_of(
    example: int, *, sentences: int, examples: int, views: int, per_sentence: int, key: int
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """Returns where `rows_of` puts an example in the first `sentences` sentences of a task, without making them.

    The three arrays are the sentence's number, the place among its examples and the view, one entry each time.
    """
    rounds = np.arange(-(-sentences * per_sentence // examples), dtype=np.int64)
    parts = np.split(rounds, range(_ROUNDS_AT_ONCE, len(rounds), _ROUNDS_AT_ONCE))
    index = np.concatenate([_index_in(example, part, examples, per_sentence, key) for part in parts])
    number, place = np.divmod(rounds * examples + index, per_sentence)
    view = view_of(np.full_like(rounds, example), rounds, views, key)
    read = number < sentences
    return number[read], place[read], view[read]


def _index_in(
    example: int, rounds: Int64[np.ndarray, "r"], examples: int, per_sentence: int, key: int
) -> Int64[np.ndarray, "r"]:
    """Returns where an example stands among the places of each round."""
    few = per_sentence <= examples < 3 * per_sentence
    shared = rounds // (per_sentence // int(np.gcd(examples, per_sentence))) if few else rounds
    index = unpermute(np.full_like(rounds, example), examples, _round_keys(key, shared))
    at_head = (index < 2 * per_sentence) & (rounds > 0)
    if examples >= 3 * per_sentence and at_head.any():  # `_many` mends within the head only
        index[at_head] = np.argmax(_heads(rounds[at_head], examples, per_sentence, key) == example, axis=1)
    return index


@dataclass(frozen=True, kw_only=True)
class WholeOrder:
    """The order of a task that is shuffled as a whole: `rows_of` and `sentences_of` with its numbers."""

    examples: int
    views: int
    per_sentence: int
    key: int

    def rows_of(self, numbers: Int64[np.ndarray, "b"]) -> tuple[Int64[np.ndarray, "b e"], Int64[np.ndarray, "b e"]]:
        """Returns the examples and their views that make the sentences `numbers`."""
        return rows_of(numbers, **asdict(self))

    def sentences_of(
        self, example: int, *, sentences: int
    ) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
        """Returns where `rows_of` puts an example in the first `sentences` sentences."""
        return sentences_of(example, sentences=sentences, **asdict(self))
