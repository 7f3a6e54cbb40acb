"""The order of large tasks: whole rounds, no example twice in a sentence, and few blocks for each host."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import order
from manifests.lanes import FEWEST_BLOCKS, LanedOrder, lanes_for
from manifests.mixture import Mixture, Piece


def laned(sizes: np.ndarray, counts: tuple[int, ...] = (1,), task: int = 0, **settings: Any) -> LanedOrder:
    given = {"views": 1, "per_sentence": 1, "key": 7, "window": 64} | settings
    return LanedOrder(sizes, **{"mixture": Mixture(pieces=(Piece(start=0, counts=counts),)), "task": task} | given)


SIZES = st.integers(FEWEST_BLOCKS, 400).flatmap(
    lambda n: st.builds(lambda seed: np.random.default_rng(seed).integers(0, 9, n), st.integers(0, 99))
)
COUNTS = st.sampled_from([(1,), (3, 1), (1, 2, 4), (25, 24, 1)])


@settings(max_examples=15)
@given(SIZES, COUNTS, st.integers(1, 3), st.sampled_from([1, 3, 8, 16]), st.data())
def test_each_row_is_read_once_before_any_is_read_twice_and_no_sentence_holds_one_twice(
    sizes: np.ndarray, counts: tuple[int, ...], views: int, per_sentence: int, data: Any
) -> None:
    task = data.draw(st.integers(0, len(counts) - 1))
    reading = laned(sizes, counts, task, views=views, per_sentence=per_sentence)
    examples = int(sizes.sum())
    sentences = -(-2 * examples * views // per_sentence)
    example, view = reading.rows_of(np.arange(sentences, dtype=np.int64))
    assert all(len(set(row)) == per_sentence for row in example.tolist())
    flat = example.reshape(-1)[: 2 * examples * views]
    for number in range(2 * views):
        assert np.array_equal(np.sort(flat[number * examples : (number + 1) * examples]), np.arange(examples))
    rows = (flat * views + view.reshape(-1)[: len(flat)])[: examples * views]
    assert len(np.unique(rows)) == examples * views


@settings(max_examples=15)
@given(SIZES, COUNTS, st.integers(1, 3), st.sampled_from([1, 3, 8]), st.data())
def test_where_an_example_is_read_is_found_without_a_scan(
    sizes: np.ndarray, counts: tuple[int, ...], views: int, per_sentence: int, data: Any
) -> None:
    reading = laned(sizes, counts, len(counts) - 1, views=views, per_sentence=per_sentence)
    sentences = data.draw(st.integers(1, 3 * int(sizes.sum()) // per_sentence))
    wanted = data.draw(st.integers(0, int(sizes.sum()) - 1))
    example, view = reading.rows_of(np.arange(sentences, dtype=np.int64))
    number, place = np.nonzero(example == wanted)
    found = reading.sentences_of(wanted, sentences=sentences)
    assert [part.tolist() for part in found] == [number.tolist(), place.tolist(), view[number, place].tolist()]


@pytest.mark.parametrize("hosts", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("counts", [(1,), (2, 3), (1, 2, 4)])
def test_hosts_that_divide_the_lanes_read_few_blocks_besides_their_own(hosts: int, counts: tuple[int, ...]) -> None:
    """Read amplification over an epoch: blocks that hosts open, over all blocks there are."""
    sizes = np.full(1000, 50)
    blocks, opened, period = np.arange(1000).repeat(50), 0, sum(counts)
    reading = laned(sizes, counts, window=400)
    assert reading.lanes == 64
    sentences = np.arange(50_000 // counts[0] * period)
    tasks, within = order.tasks_of(sentences, counts)
    for host in range(hosts):
        mine = within[(tasks == 0) & (sentences % hosts == host)]
        opened += len(np.unique(blocks[reading.rows_of(mine)[0]]))
    assert opened <= 1.1 * 1000


def test_sentences_are_the_same_however_they_are_asked_for() -> None:
    reading = laned(np.full(300, 7), (3, 1), per_sentence=5, views=2)
    whole = reading.rows_of(np.arange(2000))
    again = laned(np.full(300, 7), (3, 1), per_sentence=5, views=2)
    some = np.random.default_rng(0).permutation(2000)[:300]
    for a, b in zip(again.rows_of(some), whole, strict=True):
        assert np.array_equal(a, b[some])


def test_neighbours_in_a_shard_are_far_apart_when_read() -> None:
    reading = laned(np.full(640, 100), window=8192)
    example = reading.rows_of(np.arange(64_000))[0][:, 0]
    distance = np.abs(np.diff(np.argsort(example)))  # between the readings of neighbours
    perfect = np.abs(np.diff(np.random.default_rng(0).permutation(64_000)))
    assert np.median(distance) > 0.005 * np.median(perfect)
    batch = np.unique(example[:512] // 100)
    assert len(batch) > 200, "a batch of 512 comes from many shards"


@pytest.mark.parametrize(("blocks", "lanes"), [(0, 0), (255, 0), (256, 16), (639, 32), (640, 64), (10**6, 64)])
def test_lanes_are_a_power_of_two_with_ten_blocks_each(blocks: int, lanes: int) -> None:
    assert lanes_for(blocks) == lanes
