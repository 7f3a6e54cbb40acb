"""A part's figures, made of its sums: the model's beside the ceiling's and, where it has one, that of real pixels."""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trainer.figures import figure as judged
from trainer.figures.closeness import Closeness
from trainer.figures.foreground import Foreground
from trainer.figures.inception_score import InceptionScore
from trainer.figures.moments import Moments, Statistics
from trainer.figures.overlap import Overlap
from trainer.figures.reference import read_statistics
from trainer.networks.network import SLOTS, Network, Slot
from trainer.networks.opening import WANTED
from trainer.protocols.cases import Cases
from trainer.protocols.part import FigureName, Part
from trainer.protocols.results import Figure, NetworkFacts, Value
from trainer.protocols.sums import MADE_OF, SOURCES, Source, Sum, SumOf, lacks
from visent.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Real statistics from a file, in place of the data's own."""

    where: str
    statistics: Statistics

    def check(self, network: Network | None) -> None:
        """Refuses statistics that no network given can be compared with.

        Raises:
            UserError: there is no network of images, or it has other features.
        """
        if network is None:
            raise UserError(f"--reference {self.where} is for FID, and no network for it was given: {WANTED['images']}")
        if network.features != self.statistics.features:
            raise UserError(
                f"--reference {self.where} has {self.statistics.features} features, {network.name} gives "
                f"{network.features}: give statistics that were made with that network"
            )


def read_reference(path: str | Path) -> Reference:
    """Reads a `.npz` with mu and sigma, as ADM and pytorch-fid write it.

    Raises:
        UserError: it is none.
    """
    return Reference(where=str(path), statistics=read_statistics(path))


def figures_of(
    part: Part,
    found: Mapping[SumOf, Sum],
    networks: Mapping[Slot, Network],
    cases: Cases,
    reference: Reference | None = None,
) -> tuple[Figure, ...]:
    """Returns the figures of a part in its order; one that cannot be made says why."""
    return tuple(_figure(name, found, networks, cases, reference) for name in part.figures)


def _figure(
    name: FigureName, found: Mapping[SumOf, Sum], networks: Mapping[Slot, Network], cases: Cases,
    reference: Reference | None,
) -> Figure:  # fmt: skip
    kind, slot = MADE_OF[name]
    lacking = lacks(name, networks)
    if lacking is not None:
        return Figure(name=name, missing=_wanted(name, lacking, networks.get(lacking)))
    network = networks[slot] if slot is not None else None
    facts = NetworkFacts.of(slot, network) if slot is not None and network is not None else None
    if network is not None and (misfit := network.misfit(cases.frames)) is not None:
        return Figure(name=name, network=facts, missing=misfit)
    of = {source: found[one] for source in SOURCES if (one := SumOf(source, kind, slot)) in found}
    try:
        if network is not None and kind == "moments":
            return _distance(name, of, network, facts, reference)
        if network is not None:
            return _score(name, of, network, facts)
    except UserError as error:  # too few samples, another network's reference: the other figures are worth showing
        return Figure(name=name, network=facts, missing=str(error))
    return _overlap_or_closeness(name, of, cases)


def _distance(
    name: FigureName, of: Mapping[Source, Sum], network: Network, facts: NetworkFacts | None,
    reference: Reference | None,
) -> Figure:  # fmt: skip
    given = reference if name == "fid" else None
    against = _only(Moments, of["real"]) if given is None else given.statistics
    sources = SOURCES if given is not None else SOURCES[1:]
    with ThreadPoolExecutor(len(sources)) as threads:  # eigenvalues of thousands of features keep one core busy each
        own = threads.map(lambda source: _judged(name, of[source], against, network), sources)
        made = dict(zip(sources, own, strict=True))
    warnings = made["model"].warnings
    if given is not None:
        warnings = (*warnings, f"against the statistics in {given.where}, not the data's own pictures")
    real = Value(value=made["real"].value) if "real" in made else None
    return Figure(name=name, network=facts, model=Value(value=made["model"].value), real=real,
                  ceiling=Value(value=made["ceiling"].value), warnings=warnings)  # fmt: skip


def _judged(name: FigureName, one: Sum, against: Moments | Statistics, network: Network) -> judged.Figure:
    return judged.distance(name.upper(), _only(Moments, one), against, network)


def _score(name: FigureName, of: Mapping[Source, Sum], network: Network, facts: NetworkFacts | None) -> Figure:
    made = {source: judged.score("IS", _only(InceptionScore, one), network) for source, one in of.items()}
    values = {source: Value(value=one.value, spread=one.spread) for source, one in made.items()}
    return Figure(name=name, network=facts, model=values["model"], ceiling=values["ceiling"], real=values["real"],
                  warnings=made["model"].warnings)  # fmt: skip


def _overlap_or_closeness(name: FigureName, of: Mapping[Source, Sum], cases: Cases) -> Figure:
    if name == "miou":
        return _of_each(name, of, Overlap, lambda one: one.miou, lambda one: _overlap_details(one, cases))
    if name == "foreground-miou":
        return _of_each(name, of, Foreground, lambda one: one.mean_iou, _foreground_details)
    if name == "psnr":
        return _of_each(name, of, Closeness, lambda one: one.psnr)
    return _of_each(name, of, Closeness, lambda one: one.ssim)


def _of_each(
    name: FigureName, of: Mapping[Source, Sum], kind: type[T], value: Callable[[T], float],
    details: Callable[[T], Mapping[str, float]] = lambda one: {},
) -> Figure:  # fmt: skip
    own = {source: _only(kind, one) for source, one in of.items()}
    values = {source: Value(value=value(one)) for source, one in own.items()}
    if any(math.isnan(one.value) for one in values.values()):
        return Figure(name=name, missing="nothing of what it counts is in these samples, or they are too small for it")
    told = {str(source): found for source, one in own.items() if (found := details(one))}
    return Figure(name=name, model=values["model"], ceiling=values["ceiling"], details=told)


def _overlap_details(one: Overlap, cases: Cases) -> Mapping[str, float]:
    """IoU of every class that occurs, by name where it has one, and the part of the pixels that are right."""
    legend = cases.legend
    names = dict(zip(legend.ids, legend.names, strict=True)) if legend is not None and legend.names else {}
    classes = zip(one.ids, one.iou.tolist(), strict=True)
    by_class = {f"IoU of {names.get(number, number)}": iou for number, iou in classes if not math.isnan(iou)}
    return {"pixel accuracy": one.accuracy, "classes": float(one.classes), **by_class}


def _foreground_details(one: Foreground) -> Mapping[str, float]:
    found = {
        "mIoU over classes (HSNet's, borders as background)": one.class_miou,
        "FB-IoU": one.fb_iou,
        "images without foreground": one.empty,
    }
    found |= {f"IoU of {name}": iou for name, iou in one.class_iou.items()}
    return {name: float(value) for name, value in found.items() if not math.isnan(value)}


def _wanted(name: FigureName, slot: Slot, given: Network | None) -> str:
    """Says which network a figure waits for."""
    if given is not None:
        return f"{given.name} names no classes, which an Inception Score counts: give another network with --network"
    return f"no network for {SLOTS[slot]} was given with --network {slot}=WHERE; {WANTED[slot]}"


def _only(kind: type[T], one: Sum) -> T:
    assert isinstance(one, kind)
    return one
