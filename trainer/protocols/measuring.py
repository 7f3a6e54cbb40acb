"""From samples to sums to figures: real pictures, the ceiling and the model's, judged alike, batch by batch.

Real pixels are read ahead in a thread; the ceiling and the model's results are decoded, each network sees each of the
three once, and another thread adds up. Every host takes every so many-th batch on all of its devices; the first one
adds their sums up.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int64

from manifests import files
from tokenizer.tokenizer import Tokenizer
from trainer import hosts
from trainer.figures.classes import read_exactly, read_nearest
from trainer.figures.closeness import Closeness
from trainer.figures.foreground import Foreground, read_masks
from trainer.figures.inception_score import InceptionScore
from trainer.figures.moments import Moments
from trainer.figures.overlap import Overlap
from trainer.memory import advised
from trainer.networks.network import Network, Outputs, Slot
from trainer.protocols import decoded, sums
from trainer.protocols.cases import Cases
from trainer.protocols.decoded import Pictures
from trainer.protocols.figures_of import Reference, figures_of
from trainer.protocols.part import Part
from trainer.protocols.progress import shown
from trainer.protocols.results import Figure
from trainer.protocols.samples import Samples
from trainer.protocols.sums import Source, Sum, SumOf
from visent.errors import UserError

TOGETHER = 256  # images judged at a time on each device: whole batches of every network, and some 100 MB


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a part's results are worth, and what finding it out took on this host."""

    figures: tuple[Figure, ...]
    samples: int
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage


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


def measure(
    part: Part,
    cases: Cases,
    samples: Samples,
    tokenizer: Tokenizer,
    networks: Mapping[Slot, Network],
    folder: str | Path,
    *,
    pixels: str,
    reference: Reference | None = None,
) -> Measured:
    """Judges all samples by the figures of a part.

    Sums are kept in `<folder>/sums`: those of real pictures and of the ceiling are found there by any later model,
    and an evaluation that was killed finds its own. `pixels` names the real pixels, another one after any change.
    `reference` takes the place of the data's own statistics for FID. Every host of a run calls this and gets the same.

    Raises:
        UserError: pixels or samples cannot be read, a true label map has colours outside of its legend, or the folder
            cannot be written.
    """
    if cases.truth_codes.shape[1] != cases.frames * tokenizer.card.tokens_per_image:
        raise UserError(f"results of {cases.truth_codes.shape[1]} codes are not {cases.frames} images of "
                        f"{tokenizer.card.tokens_per_image}: give the tokenizer of the run")  # fmt: skip
    if "miou" in part.figures and cases.legend is None:
        raise UserError(f"part {part.name!r}: role {part.made!r} has no legend of colours, so no class can be read "
                        "from its pictures")  # fmt: skip
    watch = Stopwatch()
    judged = Judged(part=part, cases=cases, samples=samples, tokenizer=tokenizer, networks=networks)
    of = sums.wanted(part, networks)
    digests = sums.Digests(part, cases, tokenizer.card, networks, samples, pixels)
    place = files.join(folder, "sums")
    files.make_folder(place)
    paths = [files.join(place, f"{digests.name(one)}.npz") for one in of]
    with watch.on("figures"):
        there = [sums.read(path, {"sum": one.kind}) for one, path in zip(of, paths, strict=True)]
    missing = hosts.from_first([number for number, found in enumerate(there) if found is None])
    if missing:
        with advised(
            "while judging", "leave out a --network and judge by it in a second run, which generates nothing again"
        ):
            _add_up(judged, [of[number] for number in missing], [paths[number] for number in missing], watch)
        hosts.wait(f"sums of {part.name}")
        for number in missing:
            there[number] = sums.read(paths[number], {"sum": of[number].kind})
    with watch.on("figures"):
        found = {one: _found(held, path) for one, held, path in zip(of, there, paths, strict=True)}
        figures = figures_of(part, found, networks, cases, reference)
    return Measured(figures=figures, samples=len(cases), seconds=watch.seconds)


def _found(held: dict[str, Sum] | None, path: str) -> Sum:
    if held is None:
        raise UserError(f"{path} cannot be read back: see that all hosts share that folder, then run the same command "
                        "again")  # fmt: skip
    return held["sum"]


def _add_up(judged: Judged, of: Sequence[SumOf], paths: Sequence[str], watch: Stopwatch) -> None:
    """Makes sums over all samples and writes them; each host goes through its own part of the samples."""
    mine = {one: sums.empty(one, judged.cases, judged.networks) for one in of}
    with (
        shown(f"judge {judged.part.name}", sum(map(len, _cuts(judged))), "samples") as advance,
        ThreadPoolExecutor(1) as thread,
    ):
        adding: Future[None] | None = None  # of the batch before: processors add while devices work on the next one
        for numbers, truth in _read_ahead(judged, watch):
            seen = _see(judged, of, numbers, truth, watch)
            with watch.on("figures"):
                if adding is not None:
                    adding.result()
            adding = thread.submit(_add, judged, mine, numbers, truth, seen)
            advance(len(numbers))
        with watch.on("figures"):
            if adding is not None:
                adding.result()
    count, index = jax.process_count(), jax.process_index()
    if count == 1:
        for one, path in zip(of, paths, strict=True):
            sums.write(path, {"sum": mine[one]})
        return
    partial = [f"{paths[0]}.host-{host:05d}-of-{count:05d}.npz" for host in range(count)]
    named = {str(number): one for number, one in enumerate(of)}
    sums.write(partial[index], {name: mine[one] for name, one in named.items()})
    hosts.wait(f"partial sums of {judged.part.name}")
    if hosts.first():
        _merge(partial, named, paths)


def _merge(partial: Sequence[str], named: Mapping[str, SumOf], paths: Sequence[str]) -> None:
    """Adds up what all hosts found, in their order, and writes it."""
    total: dict[str, Sum] = {}
    for path in partial:
        part = sums.read(path, {name: one.kind for name, one in named.items()})
        if part is None:
            raise UserError(f"{path} cannot be read: see that all hosts share that folder, then run the same command "
                            "again")  # fmt: skip
        total = {name: sums.merged(total[name], one) if name in total else one for name, one in part.items()}
    for name, path in zip(named, paths, strict=True):
        sums.write(path, {"sum": total[name]})
    for path in partial:
        files.remove(path)


def _cuts(judged: Judged) -> list[Int64[np.ndarray, " m"]]:
    """Returns the batches of this host."""
    size = max(TOGETHER * jax.local_device_count() // judged.cases.frames, 1)
    every = np.arange(len(judged.cases))
    cuts = [every[start : start + size] for start in range(0, len(every), size)]
    return cuts[jax.process_index() :: jax.process_count()]


def _read_ahead(judged: Judged, watch: Stopwatch) -> Iterator[tuple[Int64[np.ndarray, " m"], Pictures]]:
    """Yields batches with their real pixels, while a thread reads the next; what is waited for it counts as reading."""
    cuts = _cuts(judged)
    with ThreadPoolExecutor(1) as thread:
        ahead = [thread.submit(judged.cases.truth, cut) for cut in cuts[:1]]
        for number, cut in enumerate(cuts):
            with watch.on("reading"):
                truth = ahead.pop().result()
            ahead += [thread.submit(judged.cases.truth, later) for later in cuts[number + 1 : number + 2]]
            yield cut, truth


class _Seen(NamedTuple):
    """One batch of one source: its pictures, and what each network, by its hash, says of them."""

    pictures: Pictures
    outputs: dict[str, Outputs]


def _see(
    judged: Judged, of: Sequence[SumOf], numbers: Int64[np.ndarray, " m"], truth: Pictures, watch: Stopwatch
) -> dict[Source, _Seen]:
    """Decodes a batch for each source and shows it to each network once: a slot may have that of another."""
    seen: dict[Source, _Seen] = {}
    for source in dict.fromkeys(one.source for one in of):
        with watch.on("decoding"):
            pictures = truth if source == "real" else _pictures(judged, source, numbers)
        slots = [one.slot for one in of if one.source == source and one.slot is not None]
        networks = {judged.networks[slot].sha256: judged.networks[slot] for slot in slots}
        with watch.on("features"):
            seen[source] = _Seen(pictures, {sha256: _run(network, pictures) for sha256, network in networks.items()})
    return seen


def _add(
    judged: Judged, into: Mapping[SumOf, Sum], numbers: Int64[np.ndarray, " m"], truth: Pictures,
    seen: Mapping[Source, _Seen],
) -> None:  # fmt: skip
    """Adds one batch to every sum."""
    for one, total in into.items():
        pictures, outputs = seen[one.source]
        if one.slot is not None:
            _add_outputs(total, outputs[judged.networks[one.slot].sha256], numbers)
        else:
            _add_pictures(total, judged.cases, numbers, truth, pictures)


def _pictures(judged: Judged, source: Source, numbers: Int64[np.ndarray, " m"]) -> Pictures:
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
