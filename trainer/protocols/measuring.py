"""From samples to sums to figures: real pictures, the ceiling and the model's, judged alike, batch by batch.

Real pixels are read ahead in a thread; the ceiling and the model's results are decoded, each network sees each of the
three once, and another thread adds up. Every host takes every so many-th batch on all of its devices; the first one
adds their sums up.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import jax

from manifests import files
from tokenizer.tokenizer import Tokenizer
from trainer import hosts
from trainer.memory import advised
from trainer.networks.network import Network, Slot
from trainer.protocols import sums
from trainer.protocols.cases import Cases
from trainer.protocols.figures_of import Reference, figures_of
from trainer.protocols.judging import Judged, Stopwatch, add, cuts_of, read_ahead, see
from trainer.protocols.part import Part
from trainer.protocols.progress import shown
from trainer.protocols.results import Figure
from trainer.protocols.samples import Samples
from trainer.protocols.sums import Sum, SumOf
from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a part's results are worth, and what finding it out took on this host."""

    figures: tuple[Figure, ...]
    samples: int
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage


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

    Sums are kept: those of real pictures and of the ceiling where any later model finds them (`sums.places`),
    the model's in `<folder>/sums`, where an evaluation that was killed finds its own. `pixels` names the real pixels,
    another one after any change. `reference` takes the place of the data's own statistics for FID. Every host of a run
    calls this and gets the same.

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
    of = sums.wanted(part, {slot: one for slot, one in networks.items() if one.misfit(cases.frames) is None})
    digests = sums.Digests(part, cases, tokenizer.card, networks, samples, pixels)
    place = files.join(folder, "sums")
    files.make_folder(place)
    places = {source: sums.places(source, place) for source in sums.SOURCES}
    paths = [[files.join(each, f"{digests.name(one)}.npz") for each in places[one.source]] for one in of]
    with watch.on("figures"):
        there = [sums.read_one(those, one.kind) for one, those in zip(of, paths, strict=True)]
    missing = hosts.from_first([number for number, found in enumerate(there) if found is None])
    if missing:
        with advised(
            "while judging", "leave out a --network and judge by it in a second run, which generates nothing again"
        ):
            _add_up(judged, [of[number] for number in missing], [paths[number] for number in missing], watch)
        hosts.wait(f"sums of {part.name}")
        for number in missing:
            there[number] = sums.read_one(paths[number], of[number].kind)
    with watch.on("figures"):
        found = {one: _found(held, those) for one, held, those in zip(of, there, paths, strict=True)}
        figures = figures_of(part, found, networks, cases, reference)
    return Measured(figures=figures, samples=len(cases), seconds=watch.seconds)


def _found(held: Sum | None, paths: Sequence[str]) -> Sum:
    if held is None:
        raise UserError(f"{paths[-1]} cannot be read back: see that all hosts share that folder, then run the same "
                        "command again")  # fmt: skip
    return held


def _add_up(judged: Judged, of: Sequence[SumOf], paths: Sequence[Sequence[str]], watch: Stopwatch) -> None:
    """Makes sums over all samples and writes them; each host goes through its own part of the samples."""
    mine = {one: sums.empty(one, judged.cases, judged.networks) for one in of}
    with (
        shown(f"judge {judged.part.name}", sum(map(len, cuts_of(judged))), "samples") as advance,
        ThreadPoolExecutor(1) as thread,
    ):
        adding: Future[None] | None = None  # of the batch before: processors add while devices work on the next one
        for numbers, truth in read_ahead(judged, of, watch):
            seen = see(judged, of, numbers, truth, watch)
            with watch.on("figures"):
                if adding is not None:
                    adding.result()
            adding = thread.submit(add, judged, mine, numbers, truth, seen)
            advance(len(numbers))
        with watch.on("figures"):
            if adding is not None:
                adding.result()
    count, index = jax.process_count(), jax.process_index()
    if count == 1:
        for one, those in zip(of, paths, strict=True):
            sums.write_one(those, mine[one])
        return
    partial = [f"{paths[0][-1]}.host-{host:05d}-of-{count:05d}.npz" for host in range(count)]
    named = {str(number): one for number, one in enumerate(of)}
    sums.write(partial[index], {name: mine[one] for name, one in named.items()})
    hosts.wait(f"partial sums of {judged.part.name}")
    if hosts.first():
        _merge(partial, named, paths)


def _merge(partial: Sequence[str], named: Mapping[str, SumOf], paths: Sequence[Sequence[str]]) -> None:
    """Adds up what all hosts found, in their order, and writes it."""
    total: dict[str, Sum] = {}
    for path in partial:
        part = sums.read(path, {name: one.kind for name, one in named.items()})
        if part is None:
            raise UserError(f"{path} cannot be read: see that all hosts share that folder, then run the same command "
                            "again")  # fmt: skip
        total = {name: sums.merged(total[name], one) if name in total else one for name, one in part.items()}
    for name, those in zip(named, paths, strict=True):
        sums.write_one(those, total[name])
    for path in partial:
        files.remove(path)
