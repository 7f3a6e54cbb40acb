"""Runs a network over any number of pictures or clips: in equal batches on all devices, compiled once for each size."""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from tokenizer.devices import on_all_devices
from trainer.networks.network import Outputs, Pixels

AHEAD = 2  # batches that are on their way while one is waited for


def batched(
    function: Callable[[Any, Any], tuple[jax.Array, jax.Array | None]], weights: Any, batch: int
) -> Callable[[Pixels], Outputs]:
    """Returns `run` of a `Network` for a function of (weights, uint8 pixels of `batch` pictures or clips).

    The function returns features [batch, d] and probabilities [batch, c] or None, in plain JAX. Each device of this
    machine takes `batch` at once. What lacks for a whole batch is filled with black and left out of what is returned;
    as every batch has one shape, a picture's numbers do not depend on how many come with it. Weights go to the devices
    at the first call.
    """

    @functools.cache
    def compiled() -> tuple[Callable[[Any], Any], int]:
        return on_all_devices(function, (jax.device_put(weights),), batch)

    def run(pixels: Pixels) -> Outputs:
        call, size = compiled()
        found = [Outputs(*parts) for parts in _fetched(call(part) for part in parts(pixels, size))]
        features = np.concatenate([part.features for part in found])[: len(pixels)]
        if found[0].probabilities is None:
            return Outputs(features, None)
        return Outputs(features, np.concatenate([part.probabilities for part in found])[: len(pixels)])

    return run


def parts(pixels: Pixels, size: int) -> Iterator[np.ndarray]:
    """Cuts into parts of `size`, the last filled with zeros; of nothing at all, one part of zeros."""
    for start in range(0, max(len(pixels), 1), size):
        part = pixels[start : start + size]
        if len(part) < size:
            part = np.concatenate([part, np.zeros((size - len(part), *pixels.shape[1:]), np.uint8)])
        yield part


def _fetched(calls: Iterator[Any]) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Brings results to the host in order, while the devices work on the next."""
    waiting: deque[Any] = deque()
    for call in calls:
        waiting.append(call)
        if len(waiting) > AHEAD:
            yield jax.device_get(waiting.popleft())
    yield from map(jax.device_get, waiting)
