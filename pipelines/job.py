"""What one tokenize job is: its configuration, its units of work, and whether a folder holds the same job."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from manifests import files
from manifests.receipts import read_receipts
from manifests.schema import Schema
from manifests.shards import Format, ShardInfo, shard_name
from pipelines.annotate.annotators import checked_annotators, model, role
from pipelines.annotate.networks import Weights, weights
from pipelines.augment import STANDARD, Augmentation
from pipelines.examples import Look
from pipelines.sources.base import Source, Unit, cut_into_units, listing_digest
from pipelines.sources.catalog import rebuild
from tokenizer.card import PRETRAINED, TokenizerCard
from tokenizer.load import load_card
from visent.errors import UserError, unknown

JOB_FILE = "job.json"
VERSION = 2  # raise it when the same input would give other rows
SHARD_ENDINGS = (".parquet", ".arrayrecord")
PLACES = ("roots", "tokenizer", "models")  # where things lie decides no byte: a moved folder may go on


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
class Work:
    """One shard to be made: a unit in the views from first to last, in the order of the views."""

    unit: Unit
    views: tuple[int, int] = (0, 0)
    keys_sha256: str = ""  # of the unit's keys in its first shard; "" when this is the first

    def file(self, format: Format) -> str:
        """Returns the shard's file name."""
        return shard_name(self.unit.id, self.views, format)

    def to_json(self) -> str:
        """Writes ASCII for the way through Beam."""
        return json.dumps({"unit": self.unit.to_json(), "views": self.views, "keys_sha256": self.keys_sha256})

    @classmethod
    def from_json(cls, text: str) -> "Work":
        """Reads what `to_json` wrote."""
        fields = json.loads(text)
        views = (fields["views"][0], fields["views"][1])
        return cls(unit=Unit.from_json(fields["unit"]), views=views, keys_sha256=fields["keys_sha256"])


def list_units(job: Job) -> tuple[list[Unit], str]:
    """Lists the source's units, with a note on files left out."""
    items, note = job.source.listing()
    return cut_into_units(items, job.source.items_per_unit, job.holdout), note


def configuration(job: Job, units: Sequence[Unit]) -> dict[str, Any]:
    """Returns all that decides the dataset's bytes, and the places it was read from, as JSON values."""
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
        "listing": {
            "items": sum(len(unit.items) for unit in units),
            "sha256": listing_digest(units),
        },
    }
    return dict(json.loads(json.dumps(config, ensure_ascii=True).encode("ascii")))


def settle(job: Job, config: dict[str, Any]) -> dict[str, Any]:
    """Makes the folder this job's, or recognises it as such, and returns the configuration that it was begun with.

    Raises: `UserError` when the folder holds another job, or files of another kind.
    """
    path = files.join(job.out, JOB_FILE)
    if files.exists(path):
        begun = dict(files.read_json(path))
        different = difference(begun, config)
        if different and any(name.endswith(SHARD_ENDINGS) for name in files.list_names(job.out)):
            raise UserError(
                f"{job.out} was begun with another configuration: {different}; use the same or another --out"
            )
        if not different:
            return begun
        files.write_json(path, config)  # nothing was finished under the other configuration
        return config
    others = [name for name in files.list_names(job.out) if not name.startswith(".")]
    if others:
        raise UserError(f"{job.out} holds other files ({', '.join(others[:3])}); choose a new folder for --out")
    files.make_folder(job.out)
    files.write_json(path, config)
    return config


def difference(begun: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describes what differs between two configurations besides places; empty when nothing does."""
    parts = []
    for name in sorted({*begun, *now} - set(PLACES)):
        old, new = begun.get(name), now.get(name)
        if old == new:
            continue
        if name == "listing" and isinstance(old, dict) and isinstance(new, dict):
            counts = f"{old['items']} items listed then, {new['items']} now" if old["items"] != new["items"] else ""
            parts.append(counts or "the source's files have changed")
        else:
            parts.append(f"{name} was {json.dumps(old)}, now {json.dumps(new)}")
    return "; ".join(parts)


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
    if config.get("version") != VERSION:
        raise UserError(f"dataset {folder} was made by version {config.get('version')} of the job, this is {VERSION}, "
                        "whose views would not fit its rows: tokenize it again into another folder")  # fmt: skip
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
