"""The stream between decoding and rows: order, full batches, bounded reading."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.encoder import Encoded, encoded, shared_encoder
from pipelines.examples import Squares
from pipelines.prefetch import MAX_BYTES_AHEAD, ahead
from pipelines.runners.worker import share_of_cores
from pipelines.sources.base import Reject
from visent.errors import UserError


def example(number: int, counts: dict[str, int]) -> Squares:
    pictures = {}
    for at, (role, count) in enumerate(counts.items()):
        pictures[role] = np.full((count, 2, 2, 3), (number * 10 + at) % 256, np.uint8)
        pictures[role][:, 0, 0, 0] = np.arange(count)
    return Squares(key=str(number), view=0, pictures=pictures, meta={})


def fake_codes(pictures: np.ndarray) -> np.ndarray:
    """Codes that name their picture: its value and its place in the clip."""
    return np.stack([pictures[:, 1, 1, 0], pictures[:, 0, 0, 0]], axis=1).astype(np.uint16)


POOL = ThreadPoolExecutor(2)
COUNTS = st.dictionaries(st.sampled_from(["image", "edge", "frames"]), st.integers(1, 9), min_size=1)


@given(st.lists(COUNTS, max_size=12), st.integers(1, 8))
def test_every_example_gets_its_own_codes_in_order_and_batches_are_full(
    counts: list[dict[str, int]], batch: int
) -> None:
    sizes: list[int] = []

    def submit(pictures: np.ndarray) -> Future[np.ndarray]:
        sizes.append(len(pictures))
        return POOL.submit(fake_codes, pictures)

    examples = [example(number, one) for number, one in enumerate(counts)]
    results = list(encoded(examples, submit, batch))
    assert all(size == batch for size in sizes[:-1])
    assert len(results) == len(examples)
    for result, given_ in zip(results, examples, strict=True):
        assert isinstance(result, Encoded)
        assert result.squares is given_
        assert list(result.codes) == list(given_.pictures)
        for role, pictures in given_.pictures.items():
            assert np.array_equal(result.codes[role], fake_codes(pictures))


def test_rejects_pass_through() -> None:
    reject = Reject(key="r", source="r", stage="read", reason="missing")

    def submit(pictures: np.ndarray) -> Future[np.ndarray]:
        return POOL.submit(fake_codes, pictures)

    results = list(encoded([example(0, {"image": 1}), reject, example(1, {"image": 1})], submit, 4))
    assert results[0] is reject
    assert len(results) == 3


def test_codes_do_not_depend_on_the_neighbours_in_a_batch(tiny: str) -> None:
    encoder = shared_encoder(tiny)
    pictures = np.random.default_rng(0).integers(0, 256, (37, 32, 32, 3), np.uint8)
    together = encoder.encode(pictures)
    alone = np.concatenate([encoder.encode(pictures[n : n + 1]) for n in range(len(pictures))])
    assert np.array_equal(together, alone)


def test_a_process_loads_a_tokenizer_once_for_all_its_threads(tiny: str) -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(shared_encoder(tiny))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_an_absent_tokenizer_is_one_clear_error() -> None:
    with pytest.raises(UserError, match="no tokenizer"):
        shared_encoder("absent")


@given(st.lists(st.integers(0, 3), max_size=80))
def test_reading_ahead_keeps_the_order(delays: list[int]) -> None:
    def work(item: tuple[int, int]) -> int:
        time.sleep(item[1] / 10_000)
        return item[0]

    assert list(ahead(list(enumerate(delays)), work, lambda _: 1)) == list(range(len(delays)))


def waiting(size: int, most: int = 64) -> int:
    """Counts the inputs that are read before the first result is taken."""
    read: list[int] = []

    def inputs() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    results = ahead(inputs(), lambda number: number, lambda _: size, most)
    next(results)
    time.sleep(0.2)
    count = len(read)
    results.close()
    return count


def test_reading_ahead_is_bounded_by_count_and_by_bytes() -> None:
    assert waiting(1) <= 66
    assert waiting(1, most=8) <= 10
    assert waiting(MAX_BYTES_AHEAD // 4) <= 6
    assert waiting(MAX_BYTES_AHEAD * 2) <= 3


@pytest.mark.parametrize("where", ["inputs", "work"])
def test_an_error_in_a_thread_is_raised_to_the_consumer(where: str) -> None:
    def inputs() -> Iterator[int]:
        yield 1
        if where == "inputs":
            raise UserError("broken")
        yield 2

    def work(number: int) -> int:
        if where == "work" and number == 2:
            raise UserError("broken")
        return number

    results = ahead(inputs(), work, lambda _: 1)
    assert next(results) == 1
    with pytest.raises(UserError, match="broken"):
        next(results)


@given(st.integers(1, 16), st.integers(1, 16))
def test_worker_processes_share_the_cores_without_overlap(cores: int, workers: int) -> None:
    shares = [share_of_cores(list(range(cores)), worker, workers) for worker in range(workers)]
    if workers <= cores:
        assert sorted(core for share in shares for core in share) == list(range(cores))
    assert all(shares)
