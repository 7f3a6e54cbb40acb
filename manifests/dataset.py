"""Facts of a finished dataset: what exists, in one JSON file that is written last."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from manifests import canonical, files
from manifests.schema import SCHEMA_VERSION, Schema, check_version
from manifests.shards import ShardInfo
from visent.errors import UserError

FACTS_FILE = "dataset.json"
BEGUN_FILE = "job.json"  # the job that makes a dataset writes it first, see `pipelines.job`
NOT_IN_DIGEST = ("listing", "roots", "tokenizer", "models")  # what grows, and where things lie


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """All that readers need to know of a dataset before they open a shard."""

    name: str
    schema: Schema
    shards: Sequence[ShardInfo]
    config: Mapping[str, Any] = field(default_factory=dict)  # how it was made: source, annotations, limits

    def __post_init__(self) -> None:
        ordered = sorted(self.shards, key=lambda s: (s.split, s.unit, s.first_view))
        object.__setattr__(self, "shards", tuple(ordered))

    @property
    def config_digest(self) -> str:
        """What the receipts of the dataset's shards say, see `config_digest`."""
        return config_digest(self.config)

    @property
    def stored_fps(self) -> float | None:
        """Frames per second of the clips, as option `fps` of the source says; None where that is not one rate."""
        options = self.config.get("options", {})
        if not isinstance(options, Mapping) or options.get("frames") is not None:  # those are spread over each video
            return None
        rate = options.get("fps")
        return float(rate) if isinstance(rate, (int, float)) and rate > 0 else None

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, sorted."""
        return tuple(sorted({shard.split for shard in self.shards}))

    @property
    def rejects(self) -> dict[str, int]:
        """Rejected examples by reason; views repeat the examples of view 0 and are not counted again."""
        total: Counter[str] = Counter()
        for shard in self.shards:
            if shard.first_view == 0:
                total.update(shard.rejects)
        return dict(sorted(total.items()))

    def examples(self, split: str) -> int:
        """Returns the number of examples of a split: rows of view 0."""
        return sum(shard.examples for shard in self.shards if shard.split == split and shard.first_view == 0)

    def views(self, split: str = "train") -> int:
        """Returns how many views every example of a split has, the original included."""
        units: dict[str, int] = {}
        for shard in self.shards:
            if shard.split == split:
                reached = units.get(shard.unit, 0)
                units[shard.unit] = shard.last_view + 1 if shard.first_view <= reached else reached
        return min(units.values(), default=0)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; `from_json` reads them back."""
        from manifests.records import record_layout

        rows, size = sum(s.rows for s in self.shards), sum(s.bytes for s in self.shards)
        examples = {split: self.examples(split) for split in self.splits}
        return {
            "version": SCHEMA_VERSION,
            "name": self.name,
            "roles": dict(self.schema.roles),
            "card": self.schema.card.to_json(),
            "fingerprint": self.schema.card.fingerprint,
            "record_layout": record_layout(self.schema),
            "config": dict(self.config),
            "config_digest": self.config_digest,
            "totals": {"shards": len(self.shards), "rows": rows, "bytes": size, "examples": examples},
            "rejects": self.rejects,
            "shards": [shard.to_json() for shard in self.shards],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "DatasetFacts":
        """Reads `to_json`'s form.

        Raises:
            UserError: another schema version, or fields are missing.
        """
        if not isinstance(value, Mapping):
            raise UserError(f"{FACTS_FILE} holds {type(value).__name__}, expected an object; fetch it again")
        where = f"dataset {str(value.get('name'))[:80]!r}"
        check_version(value.get("version"), where)
        try:
            schema = Schema.from_json({key: value[key] for key in ("version", "roles", "card")})
            shards = [ShardInfo.from_json(shard) for shard in value["shards"]]
            if not isinstance(value["name"], str) or not isinstance(value["config"], dict):
                raise UserError(f"{where}: name or config in {FACTS_FILE} are none; fetch it again")
            return cls(name=value["name"], schema=schema, shards=shards, config=value["config"])
        except (TypeError, AttributeError) as error:
            raise UserError(f"{where}: {FACTS_FILE} does not hold what it should ({error}); fetch it again") from error
        except KeyError as error:
            raise UserError(f"{where}: {FACTS_FILE} lacks {error}; run the same `visent tokenize` again") from error


def config_digest(config: Mapping[str, Any]) -> str:
    """Returns the sha256 of what decides a shard's bytes besides its unit: the shards of one dataset share it.

    New input, and a source or a tokenizer that was moved, leave it as it was.
    """
    return canonical.digest_json({name: value for name, value in config.items() if name not in NOT_IN_DIGEST})


def write_facts(folder: str, facts: DatasetFacts) -> None:
    """Writes `dataset.json` atomically; its presence means that the dataset is complete.

    Raises:
        UserError: the target cannot be written.
    """
    files.write_json(files.join(folder, FACTS_FILE), facts.to_json())


def has_facts(folder: str) -> bool:
    """Tells whether the dataset is complete."""
    return files.exists(files.join(folder, FACTS_FILE))


def load_facts(folder: str) -> DatasetFacts:
    """Reads the facts of a dataset.

    Raises:
        UserError: there is no such folder, the dataset is unfinished, or of another schema version.
    """
    try:
        return DatasetFacts.from_json(files.read_json(files.join(folder, FACTS_FILE)))
    except (FileNotFoundError, NotADirectoryError) as error:
        if not files.exists(files.join(folder, BEGUN_FILE)):
            raise UserError(f"no dataset at {folder}: expected a folder that `visent tokenize` wrote") from error
        raise UserError(
            f"dataset {folder} is unfinished, it has no {FACTS_FILE}: run the same `visent tokenize` again; "
            "what is done is kept"
        ) from error
