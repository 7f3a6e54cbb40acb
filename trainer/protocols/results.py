"""What an evaluation by a protocol found, and its form on disk: JSON from which tables and pages are made again."""

import dataclasses
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, get_args

from manifests import files
from trainer.generate import Sampling
from trainer.networks.network import Network
from trainer.protocols.part import FigureName, Part
from visent import __version__
from visent.errors import UserError, unknown

FORMAT = 1  # of the JSON

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """Which network judged, as it stands beside its figures."""

    slot: str  # "images", "clips" or "actions"
    name: str
    where: str
    sha256: str
    same_as_papers: str  # "yes", "port" or "no"
    label: str
    features: int

    @classmethod
    def of(cls, slot: str, network: Network) -> "NetworkFacts":
        """Returns the facts of an open network."""
        return cls(slot=slot, name=network.name, where=network.where, sha256=network.sha256, label=network.label,
                   same_as_papers=network.same_as_papers, features=network.features)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Value:
    """A figure, and what it varies by where that is known: an Inception Score's deviation over its splits."""

    value: float
    spread: float | None = None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of a part; overlaps are of 0..1. `missing` says why there is none, and what would give one.

    `details` are what else the same counts say of "model" and "ceiling": IoU by class, say.
    """

    name: FigureName
    network: NetworkFacts | None = None  # that it was made with; None where it needs none, or none was given
    model: Value | None = None
    ceiling: Value | None = None  # of the truth's own codes, decoded
    real: Value | None = None  # of the real pixels, where the figure is not a comparison with them
    missing: str = ""
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in get_args(FigureName):
            raise unknown("figure", self.name, get_args(FigureName))


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """One published figure. `value` is None where the paper's table was not at hand."""

    paper: str  # "LVM-Lite"
    protocol: str
    part: str  # `Part.paper`
    model: str = ""  # "LVM-Lite 1B"
    figure: FigureName
    value: float | None = None  # as printed there, overlaps in percent
    source: str = ""  # where it was read: page and table


@dataclass(frozen=True, kw_only=True)
class PaperTokens:
    """One published line of loss, accuracy and perplexity."""

    paper: str
    protocol: str
    task: str  # as the paper calls it
    model: str
    loss: float  # nats per token
    accuracy: float  # percent
    perplexity: float
    source: str  # where it was read


@dataclass(frozen=True, kw_only=True)
class Row:
    """One part of a protocol, as it came out. One that was not run says in `not_run` why, and what would run it."""

    part: Part
    figures: tuple[Figure, ...] = ()
    papers: tuple[PaperRow, ...] = ()
    samples: int = 0
    seed: int = 0
    dataset: str = ""  # folder of the data
    dataset_digest: str = ""
    cases_digest: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage: reading, generation, decoding, ...
    not_run: str = ""


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """The figures of a part at one setting; `notes` say why there are none."""

    setting: float  # pairs, top-k or temperature
    figures: tuple[Figure, ...] = ()
    samples: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One axis of a part's settings, the others as the part has them."""

    part: str
    axis: str  # "pairs", "top-k" or "temperature"
    points: tuple[SweepPoint, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A run judged by a protocol.

    `tokens` (`judge.Judged.to_json`) and `forgetting` (`Forgetting.to_json`) are empty where they were not asked for.
    """

    protocol: str
    about: str
    run: str  # folder or URL
    step: int
    recipe: str
    model: str  # its size, by name
    parameters: int
    fine_tuned: bool = False  # on Pascal-5i
    weights_digest: str
    lock_digest: str
    tokenizer: str
    fingerprint: str  # of the tokenizer
    split: str
    networks: tuple[NetworkFacts, ...] = ()
    rows: tuple[Row, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    tokens: Mapping[str, Any] = field(default_factory=dict)
    paper_tokens: tuple[PaperTokens, ...] = ()
    forgetting: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    label: str = ""  # how the run is called; "" for the name of its folder

    @property
    def title(self) -> str:
        """How the run is called beside the papers' rows; of few-shot segmentation it says how it came by it."""
        few_shot = any(row.part.kind == "foreground" for row in self.rows)
        how = (", fine-tuned" if self.fine_tuned else ", zero-shot") if few_shot else ""
        return f"{self.label or files.name(self.run.rstrip('/'))} ({self.model}, step {self.step}{how})"

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {"format": FORMAT, **_plain(dataclasses.asdict(self))}

    @classmethod
    def from_json(cls, data: Any) -> "Evaluation":
        """Reads what `to_json` wrote.

        Raises:
            UserError: it is none, or another version wrote it.
        """
        found = data.get("format") if isinstance(data, Mapping) else None
        if found != FORMAT:
            raise UserError(f"this is no evaluation in format {FORMAT} but {found!r}: expected the JSON that "
                            "`visent evaluate --protocol` of this version writes")  # fmt: skip
        try:
            made = {
                "networks": _several(NetworkFacts, data["networks"]), "rows": tuple(map(_row, data["rows"])),
                "sweeps": tuple(map(_sweep, data["sweeps"])), "notes": tuple(data["notes"]),
                "paper_tokens": _several(PaperTokens, data["paper_tokens"]),
            }  # fmt: skip
            return cls(**{name: value for name, value in {**data, **made}.items() if name != "format"})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"this evaluation is damaged ({error!r}): evaluate the run again") from error


def read(path: str | Path) -> Evaluation:
    """Reads an evaluation that `visent evaluate --protocol` wrote.

    Raises:
        UserError: the file is not there, or it is no evaluation.
    """
    try:
        data = files.parse_json(files.read_bytes(path))
    except FileNotFoundError:
        raise UserError(f"{path} is not there: expected the evaluation.json of `visent evaluate --protocol`") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): name an evaluation.json, or evaluate again if it was "
                        "damaged") from error  # fmt: skip
    try:
        return Evaluation.from_json(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def told_apart(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Returns evaluations with as much of their runs' paths as it takes to tell them apart by their titles."""
    parts = [str(each.run).rstrip("/").split("/") for each in evaluations]
    for count in range(1, max(map(len, parts)) + 1):
        named = [dataclasses.replace(each, label="/".join(path[-count:]))
                 for each, path in zip(evaluations, parts, strict=True)]  # fmt: skip
        if len({each.title for each in named}) == len(named):
            return named
    return list(evaluations)


def versions() -> dict[str, str]:
    """Returns the versions of what figures depend on."""
    names = ("jax", "jaxlib", "flax", "numpy", "pillow")
    return {"visent": __version__, "python": platform.python_version(), **{name: version(name) for name in names}}


def _plain(value: Any) -> Any:
    """Returns plain JSON values; what JSON has no number for is written as its name."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _several(kind: Callable[..., T], values: Sequence[Mapping[str, Any]]) -> tuple[T, ...]:
    return tuple(kind(**value) for value in values)


def _row(data: Mapping[str, Any]) -> Row:
    part = data["part"]
    made = {
        "part": Part(**{**part, "figures": tuple(part["figures"]), "sampling": Sampling(**part["sampling"])}),
        "figures": tuple(map(_figure, data["figures"])), "papers": _several(PaperRow, data["papers"]),
        "notes": tuple(data["notes"]), "warnings": tuple(data["warnings"]),
    }  # fmt: skip
    return Row(**{**data, **made})


def _figure(data: Mapping[str, Any]) -> Figure:
    values = {name: _value(data[name]) for name in ("model", "ceiling", "real")}
    network = data["network"] and NetworkFacts(**data["network"])
    details = {who: {name: float(value) for name, value in of.items()} for who, of in data["details"].items()}
    return Figure(**{**data, **values, "network": network, "warnings": tuple(data["warnings"]), "details": details})


def _value(data: Mapping[str, Any] | None) -> Value | None:
    if data is None:
        return None
    return Value(value=float(data["value"]), spread=None if data["spread"] is None else float(data["spread"]))


def _sweep(data: Mapping[str, Any]) -> Sweep:
    points = [
        SweepPoint(**{**point, "figures": tuple(map(_figure, point["figures"])), "notes": tuple(point["notes"])})
        for point in data["points"]
    ]
    return Sweep(**{**data, "points": tuple(points), "notes": tuple(data["notes"])})
