"""Law 6 and 7: shares hold in every prefix, rows are seen evenly, and tasks do not disturb each other."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from manifests import order
from manifests.order import PERIOD, key_of, permute, quantise, rows_of, task_sequence, tasks_of

shares = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0.001, 1.0), min_size=1, max_size=8)
counts_of_tasks = st.lists(st.integers(1, 60), min_size=1, max_size=9).map(tuple)


@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation(size: int, key: int) -> None:
    index = np.arange(size, dtype=np.int64)
    assert np.array_equal(np.sort(permute(index, size, np.full(size, key, np.uint64))), index)


@pytest.mark.parametrize("size", [2, 3, 7, 10])
def test_permutations_put_every_index_everywhere_equally_often(size: int) -> None:
    keys = np.repeat(order.mix(np.zeros(20_000, np.uint64), np.arange(20_000, dtype=np.uint64)), size)
    index = np.tile(np.arange(size, dtype=np.int64), 20_000)
    table = np.zeros((size, size))
    np.add.at(table, (index, permute(index, size, keys)), 1)
    expected = 20_000 / size
    assert ((table - expected) ** 2 / expected).sum() < 3 * size**2  # chi square; (size - 1)^2 on average


@given(counts=counts_of_tasks)
def test_every_prefix_of_tasks_is_within_tijdemans_bound_and_so_every_window_within_two(
    counts: tuple[int, ...],
) -> None:
    sequence, period = task_sequence(counts), sum(counts)
    taken = np.concatenate([np.zeros((1, len(counts))), np.cumsum(np.eye(len(counts))[np.tile(sequence, 2)], axis=0)])
    off = taken - np.arange(2 * period + 1)[:, None] * np.array(counts) / period
    bound = 1 - 1 / (2 * len(counts) - 2) if len(counts) > 1 else 0
    assert np.abs(off).max() <= bound + 1e-9
    assert (off.max(axis=0) - off.min(axis=0)).max() <= 2 * bound + 1e-9  # any window is the difference of two prefixes
    assert Counter(sequence.tolist()) == dict(enumerate(counts))


def test_no_sequence_keeps_every_window_within_one_for_three_general_shares() -> None:
    """Why the law speaks of prefixes: every order of shares 1 : 2 : 3 has a window that is off by one or more."""

    def worst_window(sequence: tuple[int, ...], counts: tuple[int, ...]) -> float:
        taken = np.concatenate([np.zeros((1, 3)), np.cumsum(np.eye(3)[list(sequence) * 2], axis=0)])
        off = taken - np.arange(len(taken))[:, None] * np.array(counts) / sum(counts)
        return float((off.max(axis=0) - off.min(axis=0)).max())

    def orders(left: tuple[int, ...]) -> list[tuple[int, ...]]:
        if not sum(left):
            return [()]
        lowered = [(i, (*left[:i], left[i] - 1, *left[i + 1 :])) for i in range(3) if left[i]]
        return [(i, *rest) for i, less in lowered for rest in orders(less)]

    assert min(worst_window(sequence, (1, 2, 3)) for sequence in orders((1, 2, 3))) >= 1
    assert min(worst_window(sequence, (1, 2, 4)) for sequence in orders((1, 2, 4))) < 1  # Fraenkel's exception


@given(shares=shares)
def test_quantised_shares_add_up_and_stay_within_one_sentence_a_period(shares: dict[str, float]) -> None:
    counts = quantise(shares)
    assert sum(counts.values()) == PERIOD
    total = sum(shares.values())
    assert all(count >= 1 and abs(count - shares[name] / total * PERIOD) <= 1 for name, count in counts.items())


def test_usual_shares_are_exact() -> None:
    assert quantise({"a": 0.4, "b": 0.3, "c": 0.3}) == {"a": 10_080, "b": 7_560, "c": 7_560}
    assert quantise({"a": 1.0, "b": 1.0, "c": 1.0}) == {"a": 8_400, "b": 8_400, "c": 8_400}


@given(counts=counts_of_tasks, start=st.integers(0, 10**12))
def test_sentences_of_a_task_are_numbered_without_gaps(counts: tuple[int, ...], start: int) -> None:
    numbers = np.arange(start, start + 2 * sum(counts), dtype=np.int64)
    tasks, within = tasks_of(numbers, counts)
    for task, count in enumerate(counts):
        own = within[tasks == task]
        assert len(own) == 2 * count
        assert (np.diff(own) == 1).all()
    first, _ = tasks_of(np.arange(1, dtype=np.int64), counts)
    assert tasks_of(np.zeros(1, np.int64), counts)[1][0] == 0
    assert first[0] == task_sequence(counts)[0]


ordering = st.fixed_dictionaries(
    {"examples": st.integers(1, 60), "views": st.integers(1, 5), "per_sentence": st.integers(1, 17),
     "key": st.integers(0, 2**63)}
)  # fmt: skip


def stream(setting: dict, rows: int) -> tuple[np.ndarray, np.ndarray]:
    sentences = -(-rows // setting["per_sentence"])
    return rows_of(np.arange(sentences, dtype=np.int64), **setting)


@given(setting=ordering)
def test_all_rows_are_seen_once_before_any_is_seen_twice(setting: dict) -> None:
    epoch = setting["examples"] * setting["views"]
    example, view = (part.reshape(-1) for part in stream(setting, 3 * epoch))
    rows = example * setting["views"] + view
    for start in (0, epoch, 2 * epoch):
        assert np.array_equal(np.sort(rows[start : start + epoch]), np.arange(epoch))


@given(setting=ordering)
def test_every_round_visits_every_example_once(setting: dict) -> None:
    count = setting["examples"]
    example = stream(setting, 6 * count)[0].reshape(-1)[: 6 * count].reshape(6, count)
    assert (np.sort(example, axis=1) == np.arange(count)).all()


@given(setting=ordering)
def test_no_sentence_holds_an_example_twice_when_there_are_enough(setting: dict) -> None:
    assume(setting["examples"] >= setting["per_sentence"])
    example, _ = stream(setting, 20 * setting["examples"])
    assert {len(set(row)) for row in example.tolist()} == {setting["per_sentence"]}


@given(setting=ordering, seed=st.integers(0, 2**32))
def test_any_selection_of_sentences_reads_the_same_rows(setting: dict, seed: int) -> None:
    whole = rows_of(np.arange(300, dtype=np.int64), **setting)
    chosen = np.random.default_rng(seed).integers(0, 300, 40)
    part = rows_of(chosen, **setting)
    assert np.array_equal(part[0], whole[0][chosen])
    assert np.array_equal(part[1], whole[1][chosen])


def test_orders_differ_by_task_stage_seed_and_round() -> None:
    keys = [key_of(task, stage, seed) for task in "ab" for stage in "cd" for seed in (0, 1)]
    numbers = np.arange(50, dtype=np.int64)
    found = {rows_of(numbers, examples=200, views=1, per_sentence=8, key=key)[0].tobytes() for key in keys}
    assert len(found) == len(keys)
    example, _ = rows_of(numbers, examples=200, views=1, per_sentence=8, key=keys[0])
    assert not np.array_equal(example[:25], example[25:])


def test_a_row_is_as_likely_in_any_part_of_a_round() -> None:
    keys = [key_of("task", "stage", seed) for seed in range(400)]
    first = [rows_of(np.arange(5, dtype=np.int64), examples=40, views=1, per_sentence=8, key=k)[0][0] for k in keys]
    seen = np.bincount(np.concatenate(first), minlength=40)  # 80 expected of each, standard deviation 8
    assert seen.min() > 80 - 5 * 8
    assert seen.max() < 80 + 5 * 8
