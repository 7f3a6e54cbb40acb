"""The manifest: what a person wants read, task by task and stage by stage. TOML; see README.md for every key."""

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from manifests import files
from manifests.locate import LocatedError, at, line_of
from manifests.task import KINDS, Task, read_task
from manifests.values import check_choice, check_keys, check_positive, check_types, floats, table_of
from visent.errors import UserError, unknown

MANIFEST_VERSION = 1
T = TypeVar("T")
CloseWith = Literal["augment", "repeat", "mixed"]


@dataclass(frozen=True, kw_only=True)
class DatasetRef:
    """Where a dataset lies, as written (relative to the manifest), and how many views of each example are read."""

    path: str
    views: int = 1  # the original included

    def __post_init__(self) -> None:
        check_positive("views", self.views)


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

    def __post_init__(self) -> None:
        where = f"stage {self.name!r}"
        check_positive(f"{where}: context", self.context)
        if self.sentences is not None:
            check_positive(f"{where}: sentences", self.sentences)
        for table, shares in {"share": self.share, **{f"within.{k}": w for k, w in self.within.items()}}.items():
            for key, value in shares.items():
                if not (math.isfinite(value) and value >= 0):
                    what = f"{where}: {table}.{key} is {value}; expected a number of 0 or more"
                    raise LocatedError((*table.split("."), key), what)
        if not sum(self.share.values()) > 0:
            raise UserError(f"{where}: no share is above 0; give a task or a kind some, as share = {{ single = 1.0 }}")


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
            with at("stages", stage.name, "share"):
                self.task_shares(stage.name)

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

    def task_shares(self, stage_name: str) -> dict[str, float]:
        """Returns the share of every task that a stage reads, in the order of the manifest; they add up to 1.

        A key of `share` is a task, or a kind whose part is split over its tasks by `within` (equally without it).

        Raises:
            UserError: a name that is neither, or a kind without tasks.
        """
        stage = self.stage(stage_name)
        total = sum(stage.share.values())
        shares = dict.fromkeys(self.tasks, 0.0)
        for key, value in stage.share.items():
            for task, weight in self._weights(stage, key).items():
                shares[task] += value / total * weight
        for kind in stage.within:
            if kind not in stage.share:
                raise unknown(f"kind in [stages.{stage_name}.within]", kind, [k for k in stage.share if k in KINDS])
        return {task: share for task, share in shares.items() if share > 0}

    def _weights(self, stage: Stage, key: str) -> dict[str, float]:
        """Returns how the part of one share key is split over tasks; the weights add up to 1."""
        if key in self.tasks:
            return {key: 1.0}
        if key not in KINDS:
            raise unknown(f"task or kind in [stages.{stage.name}] share", key, [*self.tasks, *KINDS])
        tasks = [task.name for task in self.tasks.values() if task.kind == key and task.name not in stage.share]
        weights = stage.within.get(key, dict.fromkeys(tasks, 1.0))
        for task in weights:
            if task not in tasks:
                raise unknown(f"task in [stages.{stage.name}.within.{key}]", task, tasks)
        total = sum(weights.values())
        if stage.share[key] > 0 and not total > 0:
            raise UserError(f"stage {stage.name!r} gives {key!r} a share of {stage.share[key]}, but no task of this "
                            f"kind is left for it: add one, or remove {key!r} from share")  # fmt: skip
        return {task: weight / total for task, weight in weights.items()} if total else {}


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
        return parse(tomllib.loads(text), path)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error
    except LocatedError as error:
        raise UserError(f"{path}:{line_of(text, error.path)}: {error}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


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
    check_keys(where, entry, ("context", "share", "within", "sentences"), required=("context", "share"))
    check_types(where, entry, {"context": int, "share": dict, "within": dict, "sentences": int})
    with at("share"):
        check_types(f"{where} share", entry["share"], dict.fromkeys(entry["share"], float))
    for kind, weights in entry.get("within", {}).items():
        with at("within"):
            check_types(f"{where} within", {kind: weights}, {kind: dict})
            with at(kind):
                check_types(f"{where} within.{kind}", weights, dict.fromkeys(weights, float))
    within = {kind: floats(weights) for kind, weights in entry.get("within", {}).items()}
    return Stage(name=name, **{**entry, "share": floats(entry["share"]), "within": within})
