"""What one tokenize job is: its configuration and its units of work."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from manifests.receipts import read_receipts
from manifests.schema import Schema
from manifests.shards import Format, ShardInfo, shard_name
from pipelines.annotate.annotators import checked_annotators, model, role
from pipelines.annotate.networks import Weights, weights
from pipelines.augment import STANDARD, Augmentation
from pipelines.examples import Look
from pipelines.faults import Fault
from pipelines.sources.base import Item, Source, Unit, cut_into_units
from pipelines.sources.catalog import rebuild
from tokenizer.card import PRETRAINED, TokenizerCard
from tokenizer.load import load_card
from visent.errors import UserError, unknown

JOB_FILE = "job.json"
VERSION = 3  # raise it when the same input would give other rows
SHARD_ENDINGS = (".parquet", ".arrayrecord")
PLACES = ("roots", "tokenizer", "models")  # where things lie decides no byte: a moved folder may go on

INPUTS = ("listing", "keys_sha256")  # of a configuration: what `listing.py` compares
NOUNS = {"version": "version of the job", "source": "source", "annotators": "weights of annotator",
         "fingerprint": "fingerprint of the tokenizer"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Job:
    """A source, what is added to it and where it goes; the workers get a copy."""

    out: str
    name: str  # of the dataset; seeds the views
    source: Source
    annotate: tuple[str, ...] = ()  # names, or ROLE=FILE.toml
    augment: Augmentation = STANDARD  # what views after the original may be
    format: Format = "parquet"
    tokenizer: str = "default"
    preset: str | None = None  # None becomes the tokenizer's own, as below
    precision: str | None = None
    holdout: float = 0.0

    def __post_init__(self) -> None:
        if self.format not in ("parquet", "arrayrecord"):
            raise unknown("format", self.format, ("parquet", "arrayrecord"))
        if not 0 <= self.holdout < 1:
            raise UserError(f"--holdout is {self.holdout}, expected a fraction from 0 to below 1")
        if self.source.items_per_unit < 1:
            raise UserError(f"--items-per-shard is {self.source.items_per_unit}, expected 1 or more")
        object.__setattr__(self, "annotate", checked_annotators(self.annotate, tuple(self.source.roles)))
        _ = self.networks  # refuses models that are missing, before any work
        if not (PRETRAINED / self.tokenizer).is_dir() and Path(self.tokenizer).exists():  # else a URL or an id
            object.__setattr__(self, "tokenizer", str(Path(self.tokenizer).absolute()))
        card = self.card  # refuses a tokenizer that is none, before any work
        object.__setattr__(self, "preset", card.preset)
        object.__setattr__(self, "precision", card.precision)

    @cached_property
    def card(self) -> TokenizerCard:
        """The tokenizer's card, with the job's preset and precision."""
        return load_card(self.tokenizer, preset=self.preset, precision=self.precision)

    @cached_property
    def schema(self) -> Schema:
        """The source's roles and one for each annotator, of the kind of the first role."""
        kind = next(iter(self.source.roles.values()))
        return Schema(roles={**self.source.roles, **dict.fromkeys(map(role, self.annotate), kind)}, card=self.card)

    @cached_property
    def networks(self) -> tuple[Weights, ...]:
        """The weights of those annotators that are networks."""
        return weights(self.annotate)

    @property
    def look(self) -> Look:
        """How examples become squares."""
        roles = tuple(self.source.roles)
        return Look(
            dataset=self.name, roles=roles, annotate=self.annotate, preset=self.card.preset,
            size=self.card.image_size, augment=self.augment,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Retry:
    """What to try again of a unit that is done: its shards lie in `folder`, the new ones go where the job says."""

    folder: str
    views: tuple[tuple[int, int], ...]  # of its shards, (0, 0) first
    reasons: tuple[str, ...] = ()  # or stages, of the rejects to try; () is all
    changed: tuple[int, ...] = ()  # items whose files are others now

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Retry":
        """Reads what `dataclasses.asdict` and JSON made of it."""
        views = tuple((first, last) for first, last in value["views"])
        reasons, changed = tuple(value["reasons"]), tuple(value["changed"])
        return cls(folder=value["folder"], views=views, reasons=reasons, changed=changed)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One shard to be made: a unit in the views from first to last, in the order of the views."""

    unit: Unit
    views: tuple[int, int] = (0, 0)
    keys_sha256: str = ""  # of the unit's keys in its first shard; "" when this is the first
    retry: Retry | None = None  # then all shards of the unit are made, from those that are there
    faults: tuple[Fault, ...] = ()  # found by the worker, so no part of the JSON

    def file(self, format: Format) -> str:
        """Returns the shard's file name."""
        return shard_name(self.unit.id, self.views, format)

    def to_json(self) -> str:
        """Writes ASCII for the way through Beam."""
        retry = None if self.retry is None else asdict(self.retry)
        plain = {"unit": self.unit.to_json(), "views": self.views, "keys_sha256": self.keys_sha256, "retry": retry}
        return json.dumps(plain)

    @classmethod
    def from_json(cls, text: str) -> "Work":
        """Reads what `to_json` wrote."""
        fields = json.loads(text)
        first, last = fields["views"]
        retry = None if fields["retry"] is None else Retry.from_json(fields["retry"])
        unit = Unit.from_json(fields["unit"])
        return cls(unit=unit, views=(first, last), keys_sha256=fields["keys_sha256"], retry=retry)


def units_of(job: Job, items: Sequence[Item]) -> list[Unit]:
    """Cuts what a source lists into the units of the first generation."""
    return cut_into_units(items, job.source.items_per_unit, job.holdout)


def configuration(job: Job) -> dict[str, Any]:
    """Returns what decides the dataset's bytes besides its inputs, and the places it is read from, as JSON values."""
    config = {
        "version": VERSION,
        "source": job.source.name,
        "roots": dict(job.source.roots),
        "options": dict(job.source.options),
        "items_per_shard": job.source.items_per_unit,
        "holdout": job.holdout,
        "annotate": [role(annotator) for annotator in job.annotate],
        "annotators": {network.role: network.sha256 for network in job.networks},
        "models": {role(annotator): model(annotator) for annotator in job.annotate if model(annotator)},
        "format": job.format,
        "tokenizer": job.tokenizer,
        "preset": job.preset,
        "precision": job.precision,
        "fingerprint": job.card.fingerprint,
        "augment": job.augment.to_json(),
    }
    return dict(json.loads(json.dumps(config, ensure_ascii=True).encode("ascii")))


def difference(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describes what differs between two configurations besides places and inputs, a line for each option."""
    old, new = _by_option(begun), _by_option(now)
    names = [*old, *(name for name in new if name not in old)]
    return [f"{name}: was {_shown(old, name)}, now {_shown(new, name)}"
            for name in names if old.get(name) != new.get(name)]  # fmt: skip


def _by_option(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a configuration by the names that the command line gives them."""
    found = {}
    for name, value in config.items():
        if name in (*PLACES, *INPUTS):
            continue
        if name == "options":
            found.update({_option(key): setting for key, setting in value.items()})
        elif isinstance(value, Mapping):
            found.update({f"{NOUNS.get(name, _option(name))} {key}": setting for key, setting in value.items()})
        else:
            found[NOUNS.get(name, _option(name))] = value
    return found


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(settings: Mapping[str, Any], name: str) -> str:
    return json.dumps(settings[name]) if name in settings else "not there"


def check_version(folder: str, config: Mapping[str, Any]) -> None:
    """Refuses to go on with a dataset of another version of the job.

    Raises: `UserError`.
    """
    if config.get("version") != VERSION:
        raise UserError(
            f"{folder} was made by version {config.get('version')} of the job, this is {VERSION}, which lists inputs "
            "and rejects otherwise: it can still be read; to add to it, tokenize it again into another folder"
        )


def finished(job: Job, shards: Sequence[str], digest: str) -> dict[str, ShardInfo]:
    """Returns the receipts, by file name, of those of `shards` that are done under this configuration."""
    found = read_receipts(job.out, shards)
    return {name: info for name, info in found.items() if info.config_digest == digest}


def _annotators(config: Mapping[str, Any]) -> tuple[str, ...]:
    models = config["models"]
    return tuple(f"{name}={models[name]}" if name in models else name for name in config["annotate"])


def job_from_facts(folder: str, name: str, config: Mapping[str, Any]) -> Job:
    """Builds the job of a finished dataset again from its recorded configuration.

    Raises: `UserError` when its source is gone, or was tokens, or its tokenizer is another one.
    """
    if config.get("source") == "import":
        raise UserError(f"dataset {folder} was imported as tokens, so there are no pictures to make views of: set its "
                        "views in the manifest to 1")  # fmt: skip
    check_version(folder, config)
    job = Job(
        out=folder, name=name, source=rebuild(config), annotate=_annotators(config),
        augment=Augmentation.from_json(config["augment"]), format=config["format"],
        tokenizer=config["tokenizer"], preset=config["preset"], precision=config["precision"],
        holdout=config["holdout"],
    )  # fmt: skip
    if job.card.fingerprint != config["fingerprint"]:
        raise UserError(
            f"dataset {folder} was made by tokenizer {config['fingerprint']}, {config['tokenizer']} is now "
            f"{job.card.fingerprint}; put the first one back, or tokenize into another folder"
        )
    return job
