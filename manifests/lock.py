"""The lock: what a run reads, resolved from a manifest and the facts of its datasets by a pure function."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from manifests import canonical, files, order
from manifests.dataset import DatasetFacts, load_facts
from manifests.manifest import Manifest, Stage, load
from manifests.mixture import Mixture, Piece
from manifests.schema import SCHEMA_VERSION, RoleKind, check_version
from manifests.sentence import Grammar, at_stored_rate, grammar
from manifests.shards import ShardInfo
from manifests.task import Frames, Group, Task
from tokenizer.card import TokenizerCard
from visent.errors import UserError, unknown

SPLITS = ("train", "val")


@dataclass(frozen=True, kw_only=True)
class LockedDataset:
    """The shards of one dataset that are read."""

    path: str  # as in the manifest
    roles: Mapping[str, RoleKind]
    views: int  # read of each training example, the original included
    shards: tuple[ShardInfo, ...]

    def split(self, split: str) -> list[ShardInfo]:
        """Returns the shards of a split, by unit and view; splits other than train are read in view 0 only."""
        return [s for s in self.shards if s.split == split and (split == "train" or s.first_view == 0)]


@dataclass(frozen=True, kw_only=True)
class SplitCount:
    """What a task has in one split."""

    examples: int
    eligible: int  # those with enough frames for the grammar; all, for stills
    views: int

    @property
    def rows(self) -> int:
        """Rows seen in one epoch: each eligible example in each view."""
        return self.eligible * self.views


@dataclass(frozen=True, kw_only=True)
class LockedTask:
    """One task of one stage."""

    task: Task
    count: int  # sentences in each period of the stage
    images_per_sentence: int
    examples_per_sentence: int
    splits: Mapping[str, SplitCount]

    @property
    def sentences_per_epoch(self) -> float:
        """Training sentences until every row was seen once."""
        return self.splits["train"].rows / self.examples_per_sentence


@dataclass(frozen=True, kw_only=True)
class LockedStage:
    """One stage: its context and tasks, in the order of the manifest."""

    name: str
    context: int
    period: int  # sentences after which the sequence of tasks repeats
    tasks: tuple[LockedTask, ...]
    schedule: tuple[Piece, ...] = ()  # where shares change; without it those of the tasks hold throughout

    @cached_property
    def mixture(self) -> Mixture:
        """The tasks of its sentences."""
        throughout = Piece(start=0, counts=tuple(task.count for task in self.tasks))
        return Mixture(pieces=self.schedule or (throughout,))

    @property
    def pieces(self) -> list[tuple[int, dict[str, float]]]:
        """From which sentence on the tasks have which shares, exactly as read."""
        names = [task.task.name for task in self.tasks]
        return [(piece.start, {n: c / self.period for n, c in zip(names, piece.counts, strict=True) if c})
                for piece in self.mixture.pieces]  # fmt: skip

    def share(self, task: LockedTask) -> float:
        """Returns a task's share of sentences: exactly as read, or with a schedule the planned sentences' average."""
        return task.count / self.period

    def task(self, name: str) -> LockedTask:
        """Returns a task of this stage.

        Raises:
            UserError: the stage has none of this name.
        """
        for task in self.tasks:
            if task.task.name == name:
                return task
        raise unknown(f"task of stage {self.name!r}", name, [task.task.name for task in self.tasks])


@dataclass(frozen=True, kw_only=True)
class Lock:
    """All that decides a batch, with the seed and the step. `base` is the folder that dataset paths start from."""

    card: TokenizerCard
    datasets: Mapping[str, LockedDataset]
    stages: Mapping[str, LockedStage]
    base: str

    @cached_property
    def digest(self) -> str:
        """sha256 over the canonical JSON of everything but `base`: no times, no absolute paths of this machine."""
        return canonical.digest_json(self.to_json())

    def stage(self, name: str) -> LockedStage:
        """Returns a stage.

        Raises:
            UserError: there is none of this name.
        """
        if name not in self.stages:
            raise unknown("stage", name, self.stages)
        return self.stages[name]

    def grammar(self, stage: str, task: str) -> Grammar:
        """Returns the grammar of a task in a stage."""
        locked, context = self.stage(stage).task(task).task, self.stage(stage).context
        return grammar(locked, self.datasets[locked.dataset].roles, context, self.card.tokens_per_image)

    def folder(self, dataset: str) -> str:
        """Returns where a dataset lies."""
        return files.join(self.base, self.datasets[dataset].path)

    def to_json(self) -> dict[str, Any]:
        """Returns what is digested, as plain JSON values."""
        return {
            "version": SCHEMA_VERSION,
            "order": order.ORDER_VERSION,
            "fingerprint": self.card.fingerprint,
            "card": self.card.to_json(),
            "stages": {name: _stage_json(stage) for name, stage in self.stages.items()},
            "datasets": {name: _dataset_json(dataset) for name, dataset in self.datasets.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], base: str) -> "Lock":
        """Reads `to_json`'s form."""
        check_version(value.get("version"), "lock")
        if value.get("order") != order.ORDER_VERSION:
            raise UserError(
                f"the lock was made for order of reading {value.get('order', 1)!r}, this visent reads in order "
                f"{order.ORDER_VERSION}: lock again with `visent manifest lock MANIFEST`, or use the visent that "
                "wrote it"
            )
        return cls(
            card=TokenizerCard.from_json(value["card"]),
            stages={name: _stage_from(name, stage) for name, stage in value["stages"].items()},
            datasets={name: _dataset_from(dataset) for name, dataset in value["datasets"].items()},
            base=base,
        )


def resolve(manifest_path: str) -> Lock:
    """Resolves a manifest against the facts of its datasets.

    Raises:
        UserError: a dataset is missing or unfinished, tokenizers differ, views are missing, a role is unknown, the
            context does not fit a task, or a task has no row to read.
    """
    manifest = load(manifest_path)
    used = {manifest.tasks[task].dataset for stage in manifest.stages for task in manifest.task_shares(stage)}
    facts = {name: load_facts(manifest.folder(name)) for name in manifest.datasets if name in used}
    if not facts:
        raise UserError(f"{manifest_path} has no stage that reads a task: add [stages.NAME] with context and share")
    card = check_tokenizers(facts)
    datasets = {name: _dataset(manifest, name, fact) for name, fact in facts.items()}
    stages = {name: _stage(manifest, stage, facts, card) for name, stage in manifest.stages.items()}
    return Lock(card=card, datasets=datasets, stages=stages, base=files.parent(manifest_path))


def check_tokenizers(facts: Mapping[str, DatasetFacts]) -> TokenizerCard:
    """Returns the card that all datasets share.

    Raises:
        UserError: two datasets hold tokens of different tokenizers.
    """
    names = list(facts)
    first = facts[names[0]].schema.card
    for name in names[1:]:
        other = facts[name].schema.card
        if other.fingerprint != first.fingerprint:
            raise UserError(
                f"dataset {name!r} holds tokens of tokenizer {other.name!r} ({other.fingerprint}), {names[0]!r} those "
                f"of {first.name!r} ({first.fingerprint}): tokenize one of them again with the other's tokenizer"
            )
    return first


def _dataset(manifest: Manifest, name: str, facts: DatasetFacts) -> LockedDataset:
    views = manifest.datasets[name].views
    units: dict[tuple[str, str], list[ShardInfo]] = {}
    for shard in facts.shards:
        units.setdefault((shard.split, shard.unit), []).append(shard)
    shards: list[ShardInfo] = []
    for (split, _), found in sorted(units.items()):
        shards += _cover(found, views if split == "train" else 1, name, manifest.path)
    return LockedDataset(path=manifest.datasets[name].path, roles=facts.schema.roles, views=views, shards=tuple(shards))


def _cover(shards: list[ShardInfo], views: int, name: str, manifest_path: str) -> list[ShardInfo]:
    """Returns the fewest shards of one unit that hold views 0 to `views - 1`."""
    chosen: list[ShardInfo] = []
    reached = 0
    while reached < views:
        fitting = [s for s in shards if s.first_view <= reached <= s.last_view]
        if not fitting:
            raise UserError(
                f"dataset {name!r}: {shards[0].unit} has {reached} of the {views} views that the manifest reads: run "
                f"`visent tokenize --views-from {manifest_path}`, or lower [datasets.{name}] views"
            )
        best = max(fitting, key=lambda s: s.last_view)
        chosen.append(best)
        reached = best.last_view + 1
    if chosen and len({s.keys_sha256 for s in chosen}) > 1:
        files_named = ", ".join(s.file for s in chosen)
        raise UserError(f"dataset {name!r}: {files_named} hold different keys, so views do not belong together "
                        "(did the source change?): remove those of the views, and tokenize them again")  # fmt: skip
    return chosen


def count_split(facts: DatasetFacts, split: str, needed: int, views: int) -> SplitCount:
    """Returns how many examples a task has in a split, and how many of them have the `needed` frames."""
    shards = [s for s in facts.shards if s.split == split and s.first_view == 0]
    examples = sum(s.examples for s in shards)
    short = sum(rows for s in shards for length, rows in s.frames.items() if length < needed)
    return SplitCount(examples=examples, eligible=examples - short, views=views if split == "train" else 1)


def _stage(manifest: Manifest, stage: Stage, facts: Mapping[str, DatasetFacts], card: TokenizerCard) -> LockedStage:
    counts = order.quantise(manifest.task_shares(stage.name))
    pieces = [(start, order.quantise(shares)) for start, shares in manifest.pieces(stage.name)]
    schedule = tuple(Piece(start=start, counts=tuple(own.get(name, 0) for name in counts)) for start, own in pieces)
    tasks = []
    for name, count in counts.items():
        fact = facts[manifest.tasks[name].dataset]
        task = at_stored_rate(manifest.tasks[name], fact.stored_fps)
        rule = grammar(task, fact.schema.roles, stage.context, card.tokens_per_image)
        views = manifest.datasets[task.dataset].views
        splits = {split: count_split(fact, split, rule.frames_needed, views) for split in SPLITS}
        train = splits["train"]
        if not train.eligible:
            raise UserError(
                f"task {name!r} of stage {stage.name!r} has no row to read: dataset {task.dataset!r} has "
                f"{train.examples} training examples, none with the {rule.frames_needed} frames needed at context "
                f"{stage.context}: take it out of the share, or lower frames.count or stride"
                if train.examples
                else f"task {name!r} of stage {stage.name!r} has no row to read: dataset {task.dataset!r} has no "
                "training examples; take it out of the share, or tokenize with a smaller --holdout"
            )
        tasks.append(
            LockedTask(task=task, count=count, images_per_sentence=rule.images_per_sentence,
                       examples_per_sentence=rule.examples_per_sentence, splits=splits)
        )  # fmt: skip
    return LockedStage(name=stage.name, context=stage.context, period=order.PERIOD, tasks=tuple(tasks),
                       schedule=schedule if len(schedule) > 1 else ())  # fmt: skip


def _dataset_json(dataset: LockedDataset) -> dict[str, Any]:
    return {"path": dataset.path, "views": dataset.views, "roles": dict(dataset.roles),
            "shards": [shard.to_json() for shard in dataset.shards]}  # fmt: skip


def _dataset_from(value: Mapping[str, Any]) -> LockedDataset:
    shards = tuple(ShardInfo.from_json(shard) for shard in value["shards"])
    return LockedDataset(path=value["path"], views=value["views"], roles=value["roles"], shards=shards)


def _stage_json(stage: LockedStage) -> dict[str, Any]:
    tasks = {}
    for locked in stage.tasks:
        tasks[locked.task.name] = {
            "dataset": locked.task.dataset, "kind": locked.task.kind, "sentence": list(locked.task.sentence),
            "layout": locked.task.layout, "frames": _frames_json(locked.task.frames),
            "count": locked.count, "images_per_sentence": locked.images_per_sentence,
            "examples_per_sentence": locked.examples_per_sentence,
            "splits": {split: asdict(count) for split, count in locked.splits.items()},
        } | _unusual(locked.task)  # fmt: skip
    value = {"context": stage.context, "period": stage.period,
             "order": [task.task.name for task in stage.tasks], "tasks": tasks}  # fmt: skip
    schedule = [{"from": piece.start, "counts": list(piece.counts)} for piece in stage.schedule]
    return value | ({"schedule": schedule} if schedule else {})


def _frames_json(frames: Frames) -> dict[str, Any]:
    value: dict[str, Any] = {"order": frames.order, "stride": list(frames.stride or ()) or None, "count": frames.count}
    if frames.step is not None:
        value |= {"fps": frames.fps, "step": [frames.step.numerator, frames.step.denominator]}
    return value


def _frames_from(value: Mapping[str, Any]) -> Frames:
    given = {name: value[name] for name in ("order", "count", "fps") if name in value}
    stride, step = (tuple(value.get(name) or ()) or None for name in ("stride", "step"))
    return Frames(**given, stride=stride, step=Fraction(*step) if step else None)


def _unusual(task: Task) -> dict[str, Any]:
    """Returns what stands in a lock only where a task uses it."""
    value: dict[str, Any] = {} if task.role_order == "fixed" else {"role_order": task.role_order}
    return value | ({"group": asdict(task.group)} if task.group else {})


def _stage_from(name: str, value: Mapping[str, Any]) -> LockedStage:
    tasks = []
    for task_name in value["order"]:
        entry = value["tasks"][task_name]
        task = Task(name=task_name, dataset=entry["dataset"], kind=entry["kind"], sentence=tuple(entry["sentence"]),
                    frames=_frames_from(entry["frames"]), layout=entry["layout"],
                    role_order=entry.get("role_order", "fixed"),
                    group=Group(**entry["group"]) if "group" in entry else None)  # fmt: skip
        splits = {split: SplitCount(**count) for split, count in entry["splits"].items()}
        tasks.append(LockedTask(task=task, count=entry["count"], images_per_sentence=entry["images_per_sentence"],
                                examples_per_sentence=entry["examples_per_sentence"], splits=splits))  # fmt: skip
    schedule = tuple(Piece(start=piece["from"], counts=tuple(piece["counts"])) for piece in value.get("schedule", []))
    return LockedStage(name=name, context=value["context"], period=value["period"], tasks=tuple(tasks),
                       schedule=schedule)  # fmt: skip


def default_path(manifest_path: str) -> str:
    """Returns where a manifest's lock stands by default: `manifest.lock.json` beside `manifest.toml`."""
    stem = files.name(manifest_path).removesuffix(".toml")
    return files.join(files.parent(manifest_path), f"{stem}.lock.json")


def write_lock(path: str, lock: Lock) -> None:
    """Writes a lock atomically.

    Raises:
        UserError: the target cannot be written.
    """
    base = files.relative(lock.base, files.parent(path))
    files.write_json(path, {"digest": lock.digest, "base": base, **lock.to_json()})


def load_lock(path: str) -> Lock:
    """Reads a lock.

    Raises:
        UserError: no such file, another schema version, or it was changed after it was written.
    """
    try:
        value = files.read_json(path)
    except FileNotFoundError as error:
        raise UserError(f"no lock at {path}: write one with `visent manifest lock MANIFEST`") from error
    try:
        lock = Lock.from_json(value, files.join(files.parent(path), value["base"]))
        same = lock.digest == value["digest"]
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise UserError(
            f"{path} is no lock ({str(error)[:200]!r}): write it again with `visent manifest lock MANIFEST`"
        ) from error
    if not same:
        raise UserError(f"{path} was changed after it was written: digest {lock.digest[:16]}, it says "
                        f"{str(value['digest'])[:16]}; write it with `visent manifest lock MANIFEST`")  # fmt: skip
    return lock
