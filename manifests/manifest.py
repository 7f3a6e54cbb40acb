"""The manifest: what a person wants read, task by task and stage by stage. TOML; see README.md for every key."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from manifests import files
from manifests.locate import LocatedError, at, line_of
from manifests.task import KINDS, Task, read_task
from manifests.values import check_choice, check_keys, check_positive, check_types, floats, table_of
from visent.errors import UserError, unknown
from visent.untrusted.documents import is_shallow, parse_toml

MANIFEST_VERSION = 1
T = TypeVar("T")
StageOrder = Literal["mixed", "sequential"]
CloseWith = Literal["augment", "repeat", "mixed"]


@dataclass(frozen=True, kw_only=True)
class DatasetRef:
    """Where a dataset lies, as written (relative to the manifest), and how many views of each example are read."""

    path: str
    views: int = 1  # the original included

    def __post_init__(self) -> None:
        check_positive("views", self.views)


@dataclass(frozen=True, kw_only=True)
class Change:
    """Other shares from a sentence of the stage on."""

    start: int
    share: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training stage: its context and the share of sentences (so of tokens) that each task or kind gets.

    Every sentence fills the context exactly, so shares of sentences and of tokens are the same number.
    """

    name: str
    context: int  # tokens
    share: Mapping[str, float]  # of tasks or kinds; any positive scale, 3 : 1 is 0.75 : 0.25
    within: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # kind -> task -> weight, default equal
    sentences: int | None = None  # planned for the stage; without it, as many as the data has once
    schedule: tuple[Change, ...] = ()
    order: StageOrder = "mixed"  # "sequential": one task after another, each for its share of the sentences

    def __post_init__(self) -> None:
        where = f"stage {self.name!r}"
        check_positive(f"{where}: context", self.context)
        if self.sentences is not None:
            check_positive(f"{where}: sentences", self.sentences)
        tables: dict[tuple[str, ...], Mapping[str, float]] = {("share",): self.share}
        tables |= {("within", kind): weights for kind, weights in self.within.items()}
        tables |= {("schedule", str(i), "share"): change.share for i, change in enumerate(self.schedule)}
        for table, shares in tables.items():
            for key, value in shares.items():
                if not (math.isfinite(value) and value >= 0):
                    what = f"{where}: {'.'.join(table)}.{key} is {value}; expected a number of 0 or more"
                    raise LocatedError((*table, key), what)
            if table[-1] == "share" and not sum(shares.values()) > 0:
                what = f"{where}: no share is above 0; give a task or a kind some, as share = {{ single = 1.0 }}"
                raise LocatedError(table, what)
        self._check_schedule(where)

    def _check_schedule(self, where: str) -> None:
        if not self.schedule and self.order == "mixed":
            return
        if self.schedule and self.order == "sequential":
            raise LocatedError(("order",), f"{where}: order = 'sequential' is a schedule by itself; take [[schedule]] "
                               "or order out")  # fmt: skip
        if self.sentences is None:
            what = "a schedule" if self.schedule else "order = 'sequential'"
            raise UserError(f"{where}: {what} needs the sentences that are planned; add sentences = 100_000")
        last = 0
        for i, change in enumerate(self.schedule):
            if not last < change.start < self.sentences:
                what = (f"{where}: from is {change.start}; expected a sentence after {last} and before the planned "
                        f"{self.sentences}")  # fmt: skip
                raise LocatedError(("schedule", str(i), "from"), what)
            last = change.start


@dataclass(frozen=True, kw_only=True)
class Balance:
    """How a deficit is closed, and the limits.

    "augment" asks for views until no row is seen twice, "mixed" until none is seen more than `max_epochs` times,
    "repeat" for none.
    """

    close_deficit_with: CloseWith = "mixed"
    max_views: int = 100  # of one example, the original included
    max_epochs: float = 4.0  # how often one row (example and view) may be seen by a task

    def __post_init__(self) -> None:
        check_positive("balance.max_views", self.max_views)
        if not self.max_epochs > 0:
            raise UserError(f"balance.max_epochs is {self.max_epochs}; expected a number above 0")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A whole manifest, its names checked against each other; datasets are not opened."""

    path: str
    datasets: Mapping[str, DatasetRef]
    tasks: Mapping[str, Task]
    stages: Mapping[str, Stage]
    balance: Balance = field(default_factory=Balance)

    def __post_init__(self) -> None:
        for task in self.tasks.values():
            with at("tasks", task.name):
                if task.name in KINDS:
                    raise UserError(f"task {task.name!r} is named like a kind, so shares could mean either: rename it")
                if task.dataset not in self.datasets:
                    raise LocatedError(
                        ("dataset",), str(unknown(f"dataset of task {task.name!r}", task.dataset, self.datasets))
                    )
        for stage in self.stages.values():
            with at("stages", stage.name):
                self.pieces(stage.name)

    def folder(self, dataset: str) -> str:
        """Returns where a dataset lies; paths in the manifest are relative to its file."""
        return files.join(files.parent(self.path), self.datasets[dataset].path)

    def stage(self, name: str) -> Stage:
        """Returns a stage.

        Raises:
            UserError: there is none of this name.
        """
        if name not in self.stages:
            raise unknown("stage", name, self.stages)
        return self.stages[name]

    def task_shares(self, stage_name: str, sentences: float | None = None) -> dict[str, float]:
        """Returns the share of every task that a stage reads, in the order of the manifest; they add up to 1.

        Where shares change, it is the average over the planned `sentences` (by default those of the manifest).
        """
        pieces = self.pieces(stage_name, sentences)
        total = sentences or self.stage(stage_name).sentences
        if len(pieces) == 1 or total is None:
            return pieces[0][1]
        shares = dict.fromkeys(self.tasks, 0.0)
        ends = [start for start, _ in pieces[1:]] + [total]
        for (start, own), end in zip(pieces, ends, strict=True):
            for task, share in own.items():
                shares[task] += share * max(min(end, total) - start, 0) / total
        return {task: share for task, share in shares.items() if share > 0}

    def pieces(self, stage_name: str, sentences: float | None = None) -> list[tuple[int, dict[str, float]]]:
        """Returns from which sentence on the tasks have which shares; each adds up to 1.

        A key of `share` is a task, or a kind whose part is split over its tasks by `within` (equally without it).

        Raises:
            UserError: a name that is neither, or a kind without tasks.
        """
        stage = self.stage(stage_name)
        with at("share"):
            pieces = [(0, self._shares(stage, stage.share))]
        for i, change in enumerate(stage.schedule):
            with at("schedule", str(i), "share"):
                pieces.append((change.start, self._shares(stage, change.share)))
        all_shares = (stage.share, *(change.share for change in stage.schedule))
        kinds = {key for share in all_shares for key in share if key in KINDS}
        for kind in stage.within:
            if kind not in kinds:
                what = unknown(f"kind in [stages.{stage_name}.within]", kind, sorted(kinds))
                raise LocatedError(("within", kind), str(what))
        if stage.order == "sequential":
            return _one_after_another(pieces[0][1], float(sentences or stage.sentences or 0))
        return pieces

    def _shares(self, stage: Stage, share: Mapping[str, float]) -> dict[str, float]:
        total = sum(share.values())
        shares = dict.fromkeys(self.tasks, 0.0)
        for key, value in share.items():
            for task, weight in self._weights(stage, share, key).items():
                shares[task] += value / total * weight
        return {task: value for task, value in shares.items() if value > 0}

    def _weights(self, stage: Stage, share: Mapping[str, float], key: str) -> dict[str, float]:
        """Returns how the part of one share key is split over tasks; the weights add up to 1."""
        if key in self.tasks:
            return {key: 1.0}
        if key not in KINDS:
            raise unknown(f"task or kind in [stages.{stage.name}] share", key, [*self.tasks, *KINDS])
        tasks = [task.name for task in self.tasks.values() if task.kind == key and task.name not in share]
        weights = stage.within.get(key, dict.fromkeys(tasks, 1.0))
        for task in weights:
            if task not in tasks:
                raise unknown(f"task in [stages.{stage.name}.within.{key}]", task, tasks)
        total = sum(weights.values())
        if share[key] > 0 and not total > 0:
            raise UserError(f"stage {stage.name!r} gives {key!r} a share of {share[key]}, but no task of this "
                            f"kind is left for it: add one, or remove {key!r} from share")  # fmt: skip
        return {task: weight / total for task, weight in weights.items()} if total else {}


def _one_after_another(shares: Mapping[str, float], sentences: float) -> list[tuple[int, dict[str, float]]]:
    """Returns the pieces in which each task is read alone, for its share of the sentences and at least one."""
    pieces: list[tuple[int, dict[str, float]]] = []
    done = 0.0
    for task, share in shares.items():
        first = round(done * sentences)
        pieces.append((max(first, pieces[-1][0] + 1) if pieces else 0, {task: 1.0}))
        done += share
    return pieces


def load(path: str) -> Manifest:
    """Reads a manifest.

    Raises:
        UserError: no such file, no TOML, or a key, name or value that is none; says which and what was expected.
    """
    try:
        return parse_text(files.read_bytes(path).decode(), path)
    except FileNotFoundError as error:
        raise UserError(
            f"no manifest at {path}: write one with `visent manifest init DATASET... --out {path}`"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error


def parse_text(text: str, path: str) -> Manifest:
    """Builds a manifest from its text; `path` is where it stands, for relative paths and messages.

    Raises:
        UserError: no TOML, or a key, name or value that is none; the message begins with file and line.
    """
    try:
        return parse(_shallow(parse_toml(text)), path)
    except ValueError as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error
    except LocatedError as error:
        raise UserError(f"{path}:{line_of(text, error.path)}: {error}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _shallow(value: dict[str, Any]) -> dict[str, Any]:
    if not is_shallow(value):
        raise ValueError("arrays or tables nested too deeply")
    return value


def parse(value: Mapping[str, Any], path: str) -> Manifest:
    """Builds a manifest from the values of its TOML.

    Raises:
        UserError: a key, name or value that is none.
    """
    check_keys("", value, ("version", "datasets", "tasks", "stages", "balance"))
    if value.get("version") != MANIFEST_VERSION:
        raise UserError(f"version is {value.get('version')!r}, this visent reads manifests with version = 1")
    datasets = _each(value, "datasets", _dataset)
    tasks = _each(value, "tasks", read_task)
    stages = _each(value, "stages", _stage)
    with at("balance"):
        balance = _balance(table_of(value, "balance"))
    return Manifest(path=path, datasets=datasets, tasks=tasks, stages=stages, balance=balance)


def _each(value: Mapping[str, Any], table: str, read: Callable[[str, Any], T]) -> dict[str, T]:
    """Reads every entry of a table."""
    result = {}
    for name, entry in table_of(value, table).items():
        with at(table, name):
            result[name] = read(name, entry)
    return result


def _balance(limits: Mapping[str, Any]) -> Balance:
    check_keys("[balance]", limits, ("close_deficit_with", "max_views", "max_epochs"))
    check_types("[balance]", limits, {"close_deficit_with": str, "max_views": int, "max_epochs": float})
    check_choice("close_deficit_with", "balance.close_deficit_with", limits, get_args(CloseWith))
    return Balance(**{**limits, "max_epochs": float(limits["max_epochs"])} if "max_epochs" in limits else limits)


def _dataset(name: str, entry: Any) -> DatasetRef:
    if isinstance(entry, str):
        return DatasetRef(path=entry)
    where = f"[datasets.{name}]"
    check_keys(where, entry, ("path", "views"), required=("path",))
    check_types(where, entry, {"path": str, "views": int})
    with at("views"):
        check_positive(f"{where}: views", entry.get("views", 1))
    return DatasetRef(**entry)


def _stage(name: str, entry: Any) -> Stage:
    where = f"[stages.{name}]"
    needed = ("context", "share")
    check_keys(where, entry, (*needed, "within", "sentences", "schedule", "order"), required=needed)
    types = {"context": int, "share": dict, "within": dict, "sentences": int, "schedule": list, "order": str}
    check_types(where, entry, types)
    check_choice("order", f"order of stage {name!r}", entry, get_args(StageOrder))
    with at("share"):
        check_types(f"{where} share", entry["share"], dict.fromkeys(entry["share"], float))
    for kind, weights in entry.get("within", {}).items():
        with at("within"):
            check_types(f"{where} within", {kind: weights}, {kind: dict})
            with at(kind):
                check_types(f"{where} within.{kind}", weights, dict.fromkeys(weights, float))
    within = {kind: floats(weights) for kind, weights in entry.get("within", {}).items()}
    changes = tuple(_change(f"{where} schedule", i, change) for i, change in enumerate(entry.get("schedule", [])))
    values = {**entry, "share": floats(entry["share"]), "within": within, "schedule": changes}
    return Stage(name=name, **values)


def _change(where: str, number: int, entry: Any) -> Change:
    with at("schedule", str(number)):
        check_keys(where, entry, ("from", "share"), required=("from", "share"))
        check_types(where, entry, {"from": int, "share": dict})
        with at("share"):
            check_types(f"{where} share", entry["share"], dict.fromkeys(entry["share"], float))
    return Change(start=entry["from"], share=floats(entry["share"]))
