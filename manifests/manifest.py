"""The manifest: what a person wants read, task by task and stage by stage. TOML; see README.md for every key."""

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from manifests import files
from manifests.locate import LocatedError, at, line_of
from visent.errors import UserError, unknown

MANIFEST_VERSION = 1
T = TypeVar("T")
Kind = Literal["single", "discriminative", "generative", "natural"]
Layout = Literal["blocks", "interleaved"]
FrameOrder = Literal["sorted-random"]
CloseWith = Literal["augment", "repeat", "mixed"]


@dataclass(frozen=True, kw_only=True)
class DatasetRef:
    """Where a dataset lies, as written (relative to the manifest), and how many views of each example are read."""

    path: str
    views: int = 1  # the original included

    def __post_init__(self) -> None:
        _positive("views", self.views)


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Which frames of a clip enter a sentence: a random sorted choice, or every `stride`-th from a random start."""

    order: FrameOrder | None = None
    stride: tuple[int, int] | None = None  # drawn for each clip from this range, both ends included
    count: int | None = None  # of each clip role; default: as many as fill the context with one clip

    def __post_init__(self) -> None:
        if self.order is not None and self.stride is not None:
            raise UserError("frames: give order or stride, not both; order = 'sorted-random' or stride = [1, 8]")
        if self.order is None and self.stride is None:
            object.__setattr__(self, "order", "sorted-random")
        if self.stride is not None and not 1 <= self.stride[0] <= self.stride[1]:
            raise UserError(f"frames: stride {list(self.stride)} is no range; expected 1 <= first <= last, as [1, 8]")
        if self.count is not None:
            _positive("frames: count", self.count)


@dataclass(frozen=True, kw_only=True)
class Task:
    """How rows of one dataset become sentences: the roles of one example in order, repeated to fill the context."""

    name: str
    dataset: str
    kind: Kind
    sentence: tuple[str, ...]
    frames: Frames = field(default_factory=Frames)
    layout: Layout = "blocks"

    def __post_init__(self) -> None:
        if not self.sentence:
            raise UserError(f"task {self.name!r}: sentence is empty; name the roles in order, as ['image', 'depth']")


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
        _positive(f"{where}: context", self.context)
        if self.sentences is not None:
            _positive(f"{where}: sentences", self.sentences)
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
        _positive("balance.max_views", self.max_views)
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


KINDS: tuple[str, ...] = get_args(Kind)


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
    _known("", value, ("version", "datasets", "tasks", "stages", "balance"))
    if value.get("version") != MANIFEST_VERSION:
        raise UserError(f"version is {value.get('version')!r}, this visent reads manifests with version = 1")
    datasets = _each(value, "datasets", _dataset)
    tasks = _each(value, "tasks", _task)
    stages = _each(value, "stages", _stage)
    with at("balance"):
        balance = _balance(_table(value, "balance"))
    return Manifest(path=path, datasets=datasets, tasks=tasks, stages=stages, balance=balance)


def _each(value: Mapping[str, Any], table: str, read: Callable[[str, Any], T]) -> dict[str, T]:
    """Reads every entry of a table."""
    result = {}
    for name, entry in _table(value, table).items():
        with at(table, name):
            result[name] = read(name, entry)
    return result


def _balance(limits: Mapping[str, Any]) -> Balance:
    _known("[balance]", limits, ("close_deficit_with", "max_views", "max_epochs"))
    _typed("[balance]", limits, {"close_deficit_with": str, "max_views": int, "max_epochs": float})
    _choice("close_deficit_with", "balance.close_deficit_with", limits, get_args(CloseWith))
    return Balance(**{**limits, "max_epochs": float(limits["max_epochs"])} if "max_epochs" in limits else limits)


def _dataset(name: str, entry: Any) -> DatasetRef:
    if isinstance(entry, str):
        return DatasetRef(path=entry)
    where = f"[datasets.{name}]"
    _known(where, entry, ("path", "views"), required=("path",))
    _typed(where, entry, {"path": str, "views": int})
    with at("views"):
        _positive(f"{where}: views", entry.get("views", 1))
    return DatasetRef(**entry)


def _task(name: str, entry: Any) -> Task:
    where = f"[tasks.{name}]"
    needed = ("dataset", "kind", "sentence")
    _known(where, entry, (*needed, "frames", "layout"), required=needed)
    _typed(where, entry, {"dataset": str, "kind": str, "layout": str, "sentence": list, "frames": dict})
    if not all(isinstance(role, str) for role in entry["sentence"]):
        what = f"{where}: sentence is {entry['sentence']!r}; expected a list of roles, as ['image', 'depth']"
        raise LocatedError(("sentence",), what)
    _choice("kind", f"kind of task {name!r}", entry, get_args(Kind))
    _choice("layout", f"layout of task {name!r}", entry, get_args(Layout))
    with at("frames"):
        frames = _frames(where, entry.get("frames", {}))
    return Task(name=name, **{**entry, "sentence": tuple(entry["sentence"]), "frames": frames})


def _frames(where: str, entry: Mapping[str, Any]) -> Frames:
    _known(f"{where} frames", entry, ("order", "stride", "count"))
    _typed(f"{where} frames", entry, {"order": str, "count": int})
    _choice("order", f"{where} order of frames", entry, get_args(FrameOrder))
    stride = entry.get("stride")
    if isinstance(stride, int):
        stride = [stride, stride]
    if stride is not None and not (isinstance(stride, list) and [type(s) for s in stride] == [int, int]):
        what = f"{where} frames: stride is {stride!r}; expected a number or a range, as 4 or [1, 8]"
        raise LocatedError(("stride",), what)
    return Frames(**{**entry, "stride": tuple(stride)} if stride else dict(entry))


def _stage(name: str, entry: Any) -> Stage:
    where = f"[stages.{name}]"
    _known(where, entry, ("context", "share", "within", "sentences"), required=("context", "share"))
    _typed(where, entry, {"context": int, "share": dict, "within": dict, "sentences": int})
    with at("share"):
        _typed(f"{where} share", entry["share"], dict.fromkeys(entry["share"], float))
    for kind, weights in entry.get("within", {}).items():
        with at("within"):
            _typed(f"{where} within", {kind: weights}, {kind: dict})
            with at(kind):
                _typed(f"{where} within.{kind}", weights, dict.fromkeys(weights, float))
    within = {kind: _floats(weights) for kind, weights in entry.get("within", {}).items()}
    return Stage(name=name, **{**entry, "share": _floats(entry["share"]), "within": within})


def _floats(shares: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(share) for name, share in shares.items()}


def _table(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = value.get(key, {})
    if not isinstance(table, dict):
        raise UserError(f"{key} is {table!r}; expected a table, [{key}]")
    return table


def _known(where: str, entry: Any, known: tuple[str, ...], required: tuple[str, ...] = ()) -> None:
    if not isinstance(entry, dict):
        raise UserError(f"{where} is {entry!r}; expected a table with {', '.join(known)}")
    for key in entry:
        if key not in known:
            raise LocatedError((key,), str(unknown(f"key in {where}" if where else "table", key, known)))
    if missing := [key for key in required if key not in entry]:
        raise UserError(f"{where} lacks {', '.join(missing)}; expected {', '.join(required)}")


def _typed(where: str, entry: Mapping[str, Any], types: Mapping[str, type]) -> None:
    names = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
    for key, wanted in types.items():
        accepted = (int, float) if wanted is float else (wanted,)
        value = entry.get(key)
        if key in entry and (not isinstance(value, accepted) or isinstance(value, bool)):
            raise LocatedError((key,), f"{where}: {key} is {value!r}; expected {names[wanted]}")


def _choice(key: str, what: str, entry: Mapping[str, Any], choices: tuple[str, ...]) -> None:
    if key in entry and entry[key] not in choices:
        raise LocatedError((key,), str(unknown(what, entry[key], choices)))


def _positive(what: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{what} is {value}; expected 1 or more")
