"""The inverse of the order of reading: arithmetic, compared with a scan of everything that was read."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manifests.order import numbers_of, permute, rows_of, sentences_before, sentences_of, tasks_of, unpermute

counts_of_tasks = st.lists(st.integers(1, 60), min_size=1, max_size=9).map(tuple)


@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_unpermute_takes_every_index_back(size: int, key: int) -> None:
    index, keys = np.arange(size, dtype=np.int64), np.full(size, key, np.uint64)
    assert np.array_equal(unpermute(permute(index, size, keys), size, keys), index)


@given(size=st.integers(2, 10**12), key=st.integers(0, 2**64 - 1))
def test_unpermute_needs_no_table(size: int, key: int) -> None:
    index, keys = np.linspace(0, size - 1, 7).astype(np.int64), np.full(7, key, np.uint64)
    assert np.array_equal(unpermute(permute(index, size, keys), size, keys), index)


@given(counts=counts_of_tasks, start=st.integers(0, 10**9))
def test_the_numbers_of_a_tasks_sentences_are_found_again(counts: tuple[int, ...], start: int) -> None:
    numbers = np.arange(start, start + 2 * sum(counts) + 3, dtype=np.int64)
    tasks, within = tasks_of(numbers, counts)
    before, after = (sentences_before(edge, counts) for edge in (start, start + len(numbers)))
    for task in range(len(counts)):
        here = tasks == task
        assert np.array_equal(numbers_of(within[here], task, counts), numbers[here])
        assert after[task] - before[task] == here.sum()


@given(
    examples=st.integers(1, 90), views=st.integers(1, 5), per_sentence=st.integers(1, 17), key=st.integers(0, 2**63),
    sentences=st.integers(0, 200), chosen=st.integers(0, 2**20),
)  # fmt: skip
def test_the_sentences_of_an_example_are_those_of_a_scan(
    examples: int, views: int, per_sentence: int, key: int, sentences: int, chosen: int
) -> None:
    setting = {"examples": examples, "views": views, "per_sentence": per_sentence, "key": key}
    rows, seen_views = rows_of(np.arange(sentences, dtype=np.int64), **setting)
    example = chosen % examples
    number, place = np.nonzero(rows == example)
    found = sentences_of(example, sentences=sentences, **setting)
    assert np.array_equal(found[0], number)
    assert np.array_equal(found[1], place)
    assert np.array_equal(found[2], seen_views[number, place])
