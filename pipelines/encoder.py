"""The tokenizer inside a worker: loaded once per process, shared by its threads."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import UInt8, UInt16

from pipelines.batches import IN_FLIGHT, in_batches
from pipelines.examples import Squares
from pipelines.meter import Clock, Meter
from pipelines.sources.base import Reject
from tokenizer.load import load
from tokenizer.tokenizer import Tokenizer

_loading = threading.Lock()
_loaded: dict[tuple[str, str | None, str | None], "Encoder"] = {}


class Encoder:
    """Encodes two batches at a time: while one waits for a serial step of the network, the other has the cores.

    More would only wait: XLA already spreads each batch over all cores. The threads are the process's, whatever the
    number of workers in it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.card = tokenizer.card
        self.batch_size = tokenizer.batch_size
        self.pictures = 0  # encoded so far in this process
        self.made_with = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
        self.devices = jax.local_device_count()
        self._tokenizer = tokenizer
        self._threads = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="encode")
        self._counting = threading.Lock()
        self.clock = Clock()  # runs while any batch is at work
        size = tokenizer.card.image_size
        tokenizer.encode(np.zeros((1, size, size, 3), np.uint8))  # compiles, so that start-up ends here

    def submit(self, pictures: UInt8[np.ndarray, "n s s 3"], meter: Meter) -> "Future[np.ndarray]":
        """Starts to encode; the result is uint16[n tokens_per_image]."""
        return self._threads.submit(self._timed, pictures, meter)

    def _timed(self, pictures: UInt8[np.ndarray, "n s s 3"], meter: Meter) -> UInt16[np.ndarray, "n t"]:
        with meter.at("encode"):
            return self.encode(pictures)

    def encode(self, pictures: UInt8[np.ndarray, "n s s 3"]) -> UInt16[np.ndarray, "n t"]:
        """Returns the codes of the pictures."""
        with self.clock.running():
            codes = self._tokenizer.encode(pictures)
        with self._counting:
            self.pictures += len(pictures)
        return codes


def shared_encoder(tokenizer: str, preset: str | None = None, precision: str | None = None) -> Encoder:
    """Returns the process's encoder for a tokenizer, loading it on the first call; None leaves the card's choice.

    Raises: `UserError` when there is no such tokenizer.
    """
    with _loading:
        name = (tokenizer, preset, precision)
        if name not in _loaded:
            _loaded[name] = Encoder(load(tokenizer, preset=preset, precision=precision, all_devices=True))
        return _loaded[name]


def pictures_encoded() -> int:
    """Returns how many pictures this process has encoded so far."""
    return sum(encoder.pictures for encoder in list(_loaded.values()))


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """An example's codes: role -> uint16[n, tokens_per_image]."""

    squares: Squares
    codes: Mapping[str, UInt16[np.ndarray, "n t"]]


def encoded(
    examples: Iterable[Squares | Reject], submit: Callable[[np.ndarray], "Future[np.ndarray]"], batch_size: int
) -> Iterator[Encoded | Reject]:
    """Encodes a stream in full batches across examples and roles, in order; holds about three batches of pixels.

    A reject passes through at once, so it may overtake examples before it.
    """
    for result in in_batches(examples, _squares_of, lambda pictures: submit(np.stack(pictures)), batch_size):
        if isinstance(result, Reject):
            yield result
            continue
        squares, codes = result
        ends = np.cumsum([len(pictures) for pictures in squares.pictures.values()])
        by_role = zip(squares.pictures, np.split(np.stack(codes), ends[:-1]), strict=True)
        yield Encoded(squares=squares, codes=dict(by_role))


def _squares_of(squares: Squares) -> list[np.ndarray]:
    return [picture for pictures in squares.pictures.values() for picture in pictures]
