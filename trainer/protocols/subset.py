"""Choices that depend on keys alone: neither on the order of rows nor on how many others there are."""

import heapq
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, UInt64

from manifests.order import key_of
from manifests.pixel_files import chosen
from trainer.protocols.data import EvalData
from visent.errors import UserError


def hashes(keys: Sequence[str], *names: object) -> UInt64[np.ndarray, "n"]:
    """Returns 64 bits for each key, decided by `names` and it."""
    return np.array([key_of(*names, key) for key in keys], np.uint64)


def first_by_hash(keys: Sequence[str], count: int, *names: object) -> Int64[np.ndarray, " k"]:
    """Returns the numbers of the `count` keys with the smallest hashes, the smallest first; fewer hold no others."""
    found = heapq.nsmallest(count, range(len(keys)), key=lambda number: (key_of(*names, keys[number]), keys[number]))
    return np.array(found, np.int64)


def fixed_subset(
    data: EvalData, eligible: Int64[np.ndarray, " m"], most: int | None
) -> tuple[Int64[np.ndarray, " k"], list[str]]:
    """Returns which eligible rows are samples, in their order, and what to say of it.

    Those without pixels are none. Of the others `most` are taken, by the hash of their keys as `visent pixels --most`
    takes them: a larger subset holds every smaller one, and the same dataset in other shards gives the same.

    Raises:
        UserError: `most` is not positive, or no row has pixels.
    """
    if most is not None and most < 1:
        raise UserError(f"--most is {most}: expected 1 or more samples of each part")
    numbers = eligible[np.isin(eligible, data.judged)]
    lacking = len(eligible) - len(numbers)
    notes = [f"left out: {lacking:,} of {len(eligible):,} samples, as their pixels were not made"] if lacking else []
    if not len(numbers):
        raise UserError(f"none of the {len(eligible):,} rows of dataset {data.name!r}, split {data.split!r}, that "
                        f"could be samples has pixels: make them with `visent pixels {data.folder}`")  # fmt: skip
    if most is None or most >= len(numbers):
        return numbers, notes
    (taken,) = chosen([[data.keys[number] for number in numbers.tolist()]], most)
    return numbers[taken], [*notes, f"{most:,} of {len(numbers):,} samples: those with the smallest hash of their key"]
