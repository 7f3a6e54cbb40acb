"""What is done with each batch of results: its pictures are read or decoded, seen by networks, and added up."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int64

from tokenizer.tokenizer import Tokenizer
from trainer.figures.classes import read_exactly, read_nearest
from trainer.figures.closeness import Closeness
from trainer.figures.foreground import Foreground, read_masks
from trainer.figures.inception_score import InceptionScore
from trainer.figures.moments import Moments
from trainer.figures.overlap import Overlap
from trainer.networks.network import Network, Outputs, Slot
from trainer.protocols import decoded
from trainer.protocols.cases import Cases
from trainer.protocols.decoded import Pictures
from trainer.protocols.part import Part
from trainer.protocols.samples import Samples
from trainer.protocols.sums import Source, Sum, SumOf

TOGETHER = 256  # images judged at a time on each device: whole batches of every network, and some 100 MB


class Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Adds the time that the block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is judged, and by what."""

    part: Part
    cases: Cases
    samples: Samples
    tokenizer: Tokenizer
    networks: Mapping[Slot, Network]


def cuts_of(judged: Judged) -> list[Int64[np.ndarray, " m"]]:
    """Returns the batches of this host."""
    size = max(TOGETHER * jax.local_device_count() // judged.cases.frames, 1)
    every = np.arange(len(judged.cases))
    cuts = [every[start : start + size] for start in range(0, len(every), size)]
    return cuts[jax.process_index() :: jax.process_count()]


def read_ahead(
    judged: Judged, of: Sequence[SumOf], watch: Stopwatch
) -> Iterator[tuple[Int64[np.ndarray, " m"], Pictures | None]]:
    """Yields batches with their real pixels, while a thread reads the next; what is waited for it counts as reading.

    Where no sum looks at real pixels, as those of an earlier model are there, none are read.
    """
    cuts, wanted = cuts_of(judged), any(one.source == "real" or one.slot is None for one in of)

    def read(numbers: Int64[np.ndarray, " m"]) -> Pictures | None:
        return judged.cases.truth(numbers) if wanted else None

    with ThreadPoolExecutor(1) as thread:
        ahead = [thread.submit(read, cut) for cut in cuts[:1]]
        for number, cut in enumerate(cuts):
            with watch.on("reading"):
                truth = ahead.pop().result()
            ahead += [thread.submit(read, later) for later in cuts[number + 1 : number + 2]]
            yield cut, truth


class Seen(NamedTuple):
    """One batch of one source: its pictures, and what each network, by its hash, says of them."""

    pictures: Pictures
    outputs: dict[str, Outputs]


def see(
    judged: Judged, of: Sequence[SumOf], numbers: Int64[np.ndarray, " m"], truth: Pictures | None, watch: Stopwatch
) -> dict[Source, Seen]:
    """Decodes a batch for each source and shows it to each network once: a slot may have that of another."""
    seen: dict[Source, Seen] = {}
    for source in dict.fromkeys(one.source for one in of):
        with watch.on("decoding"):
            pictures = _pictures(judged, source, numbers, truth)
        slots = [one.slot for one in of if one.source == source and one.slot is not None]
        networks = {judged.networks[slot].sha256: judged.networks[slot] for slot in slots}
        with watch.on("features"):
            seen[source] = Seen(pictures, {sha256: _run(network, pictures) for sha256, network in networks.items()})
    return seen


def add(
    judged: Judged, into: Mapping[SumOf, Sum], numbers: Int64[np.ndarray, " m"], truth: Pictures | None,
    seen: Mapping[Source, Seen],
) -> None:  # fmt: skip
    """Adds one batch to every sum."""
    for one, total in into.items():
        pictures, outputs = seen[one.source]
        if one.slot is not None:
            _add_outputs(total, outputs[judged.networks[one.slot].sha256], numbers)
        else:
            assert truth is not None
            _add_pictures(total, judged.cases, numbers, truth, pictures)


def _pictures(judged: Judged, source: Source, numbers: Int64[np.ndarray, " m"], truth: Pictures | None) -> Pictures:
    if source == "real":
        assert truth is not None
        return truth
    if source == "ceiling":
        return decoded.ceiling(judged.cases, judged.tokenizer, numbers)
    return decoded.results(judged.cases, judged.samples, judged.tokenizer, numbers)


def _run(network: Network, pictures: Pictures) -> Outputs:
    return network.run(pictures if network.takes == "clips" else pictures.reshape(-1, *pictures.shape[2:]))


def _add_outputs(into: Sum, outputs: Outputs, numbers: Int64[np.ndarray, " m"]) -> None:
    if isinstance(into, Moments):
        into.add(outputs.features)
        return
    assert isinstance(into, InceptionScore)
    assert outputs.probabilities is not None
    frames = len(outputs.probabilities) // len(numbers)
    into.add(outputs.probabilities, (numbers[:, None] * frames + np.arange(frames)).reshape(-1))


def _add_pictures(
    into: Sum, cases: Cases, numbers: Int64[np.ndarray, " m"], truth: Pictures, pictures: Pictures
) -> None:
    true, made = (some.reshape(-1, *some.shape[2:]) for some in (truth, pictures))
    keys = [cases.keys[number] for number in numbers.tolist() for _ in range(cases.frames)]
    if isinstance(into, Closeness):
        into.add(true, made)
    elif isinstance(into, Overlap):
        assert cases.legend is not None
        into.add(read_exactly(true, cases.legend, keys), read_nearest(made, cases.legend))
    else:
        assert isinstance(into, Foreground)
        classes = [cases.classes[number] if cases.classes else "" for number in numbers.tolist()]
        into.add(read_masks(true), read_masks(made), [name for name in classes for _ in range(cases.frames)])
