"""A tokenizer with its weights: arrays of images to codes and back."""

import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float32, Int, UInt8, UInt16

from tokenizer.card import TokenizerCard
from tokenizer.devices import held_by_each, mesh_over, spread
from tokenizer.vqgan import VQGAN

CPU_BATCH_SIZE = 8  # the fastest on two CPU cores, see benchmarks/tokenizer_encode.py
FULL_RESOLUTION_BATCH_SIZE = 4  # on a CPU: as fast for networks that fold no pixels, and half a gigabyte each
ACCELERATOR_BATCH_SIZE = 64  # fills a GPU at 256 x 256 pixels
AHEAD = 1  # batches that run beside the oldest: a CPU's cores, or the way to and from a GPU, stay busy


class Tokenizer:
    """Turns squares of pixels into codes and back; safe to call from several threads.

    Every call runs the same compiled program over batches of `batch_size`, the last one padded, so the codes of an
    image depend on that image alone. The network computes in the card's precision.

    With several `devices` each takes an equal part of every batch, see `tokenizer.devices`.
    """

    def __init__(
        self,
        model: VQGAN,
        card: TokenizerCard,
        batch_size: int | None = None,
        devices: Sequence[jax.Device] = (),
    ) -> None:
        self.card = card
        self.batch_size = (batch_size or _usual_batch_size(model)) * max(len(devices), 1)
        self._mesh = mesh_over(devices)
        self._graph, state = nnx.split(model.at(card.precision))
        self._state = state if self._mesh is None else held_by_each(state, self._mesh)

    def encode(self, images: UInt8[np.ndarray, "n s s 3"]) -> UInt16[np.ndarray, "n t"]:
        """Returns the codes of square RGB images of the card's size, row by row."""
        size = self.card.image_size
        if images.shape[1:] != (size, size, 3):
            raise ValueError(f"images of shape {images.shape}, expected (n, {size}, {size}, 3): use images.prepare")
        run = functools.partial(_compiled(_encode, self._mesh), self._graph, self._state)
        return self._batched(run, images, (self.card.tokens_per_image,), np.uint16)

    def decode(self, codes: Int[np.ndarray, "n t"] | UInt16[np.ndarray, "n t"]) -> UInt8[np.ndarray, "n s s 3"]:
        """Returns the RGB images that whole grids of codes stand for."""
        if codes.shape[1:] != (self.card.tokens_per_image,):
            raise ValueError(f"codes of shape {codes.shape}, expected (n, {self.card.tokens_per_image})")
        if codes.size and not 0 <= codes.min() <= codes.max() < self.card.codebook_size:
            raise ValueError(f"codes in {codes.min()}..{codes.max()}, expected 0..{self.card.codebook_size - 1}")
        run = functools.partial(_compiled(_decode, self._mesh), self._graph, self._state)
        size = self.card.image_size
        return self._batched(run, codes.astype(np.int32), (size, size, 3), np.uint8)

    @property
    def model(self) -> VQGAN:
        """The network in the card's precision, for those who read its features."""
        model = nnx.merge(self._graph, self._state)
        assert isinstance(model, VQGAN)
        return model

    @property
    def codebook(self) -> Float32[np.ndarray, "k d"]:
        """The vector of each code."""
        return np.asarray(self._state["codebook"][...], np.float32)

    def _batched(self, run: Callable[..., Any], values: np.ndarray, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        result: np.ndarray = np.empty((len(values), *shape), dtype)
        running: deque[tuple[int, Any]] = deque()

        def collect() -> None:
            start, batch = running.popleft()
            part = result[start : start + self.batch_size]
            part[:] = np.asarray(batch)[: len(part)]

        for start in range(0, len(values), self.batch_size):
            part = values[start : start + self.batch_size]
            padding = [(0, self.batch_size - len(part))] + [(0, 0)] * (part.ndim - 1)
            running.append((start, run(np.pad(part, padding))))
            if len(running) > AHEAD:
                collect()
        while running:
            collect()
        return result


def _usual_batch_size(model: VQGAN) -> int:
    if jax.default_backend() != "cpu":
        return ACCELERATOR_BATCH_SIZE
    return CPU_BATCH_SIZE if model.config.patch_size > 1 else FULL_RESOLUTION_BATCH_SIZE


@functools.cache
def _compiled(function: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """Returns the function compiled for each graph; XLA's usual schedule for CPUs would take several times the memory.

    It starts whatever it can at once, such as filling the results of all layers with zeros. Over a mesh each device
    runs the function on its part of the values.
    """
    if mesh is not None:
        function = functools.partial(_spread, function, mesh)
    options = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    on_cpu = jax.default_backend() == "cpu"
    return jax.jit(function, static_argnums=0, compiler_options=options if on_cpu else None)


def _spread(function: Callable[..., Any], mesh: Mesh, graph: Any, state: Any, values: Any) -> Any:
    return spread(functools.partial(function, graph), mesh)(state, values)


def _encode(graph: Any, state: Any, images: UInt8[Array, "n s s 3"]) -> UInt16[Array, "n t"]:
    codes: Int[Array, "n t"] = nnx.merge(graph, state).encode(images.astype(jnp.float32) / 255)
    return codes.astype(jnp.uint16)


def _decode(graph: Any, state: Any, codes: Int[Array, "n t"]) -> UInt8[Array, "n s s 3"]:
    images: Float[Array, "n s s 3"] = nnx.merge(graph, state).decode(codes)
    return jnp.round(images * 255).astype(jnp.uint8)
