"""The tokenizer inside a worker: loaded once per process, shared by its threads."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8, UInt16

from pipelines.examples import Squares
from pipelines.sources.base import Reject
from tokenizer.tokenizer import Tokenizer, load

_loading = threading.Lock()
_loaded: dict[str, "Encoder"] = {}


class Encoder:
    """Encodes one batch at a time: XLA spreads it over all cores, so a second one would only wait for them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.batch_size = tokenizer.batch_size
        self.pictures = 0  # encoded so far in this process
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        size = tokenizer.card.image_size
        tokenizer.encode(np.zeros((1, size, size, 3), np.uint8))  # compiles, so that start-up ends here

    def encode(self, pictures: UInt8[np.ndarray, "n s s 3"]) -> UInt16[np.ndarray, "n t"]:
        """Returns the codes of the pictures."""
        with self._lock:
            codes = self._tokenizer.encode(pictures)
            self.pictures += len(pictures)
        return codes


def shared_encoder(tokenizer: str) -> Encoder:
    """Returns the process's encoder for a tokenizer, loading it on the first call.

    Raises: `UserError` when there is no such tokenizer.
    """
    with _loading:
        if tokenizer not in _loaded:
            _loaded[tokenizer] = Encoder(load(tokenizer))
        return _loaded[tokenizer]


def pictures_encoded() -> int:
    """Returns how many pictures this process has encoded so far."""
    return sum(encoder.pictures for encoder in list(_loaded.values()))


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """An example's codes: role -> uint16[n, tokens_per_image]."""

    squares: Squares
    codes: Mapping[str, UInt16[np.ndarray, "n t"]]


def encoded(
    examples: Iterable[Squares | Reject], encode: Callable[[np.ndarray], np.ndarray], batch_size: int
) -> Iterator[Encoded | Reject]:
    """Encodes a stream in full batches across examples and roles, in order; holds about one batch of pixels.

    A reject passes through at once, so it may overtake examples before it.
    """
    waiting: deque[Squares] = deque()
    pixels: list[np.ndarray] = []
    codes: list[np.ndarray] = []
    for example in examples:
        if isinstance(example, Reject):
            yield example
            continue
        waiting.append(example)
        pixels.extend(picture for pictures in example.pictures.values() for picture in pictures)
        while len(pixels) >= batch_size:
            codes.extend(encode(np.stack(pixels[:batch_size])))
            del pixels[:batch_size]
        yield from _complete(waiting, codes)
    if pixels:
        codes.extend(encode(np.stack(pixels)))
    yield from _complete(waiting, codes)


def _complete(waiting: deque[Squares], codes: list[np.ndarray]) -> Iterator[Encoded]:
    """Takes the examples off the front whose codes are all there."""
    while waiting:
        counts = {role: len(pictures) for role, pictures in waiting[0].pictures.items()}
        if len(codes) < sum(counts.values()):
            return
        taken = {}
        for role, count in counts.items():
            taken[role] = np.stack(codes[:count])
            del codes[:count]
        yield Encoded(squares=waiting.popleft(), codes=taken)
