"""What `visent tokenize --views-from` would do: the views that a manifest reads and that do not exist yet."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manifests.columns import default_cache
from manifests.dataset import DatasetFacts
from manifests.manifest import Manifest
from manifests.shards import ShardInfo
from visent.untrusted.documents import parse_json

RATES_FILE = "rates.json"


@dataclass(frozen=True, kw_only=True)
class MissingViews:
    """The work on one dataset."""

    dataset: str
    views: int  # that the manifest reads, the original included
    views_made: int
    examples: int  # that lack views
    images: int  # to encode, all roles and frames counted
    codes: int
    bytes: int  # guessed from the shards that are there
    images_per_second: float | None  # as measured here last with this tokenizer, or given

    @property
    def seconds(self) -> float | None:
        """How long it takes; None without a rate."""
        return self.images / self.images_per_second if self.images_per_second else None

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {**asdict(self), "seconds": self.seconds}


def missing_views(
    manifest: Manifest, facts: Mapping[str, DatasetFacts], images_per_second: float | None = None
) -> Sequence[MissingViews]:
    """Returns the work of each dataset that is read in more views than it has."""
    return [
        _missing(name, facts[name], dataset.views, images_per_second)
        for name, dataset in manifest.datasets.items()
        if facts[name].examples("train") and dataset.views > facts[name].views()
    ]


def _missing(name: str, facts: DatasetFacts, views: int, rate: float | None) -> MissingViews:
    units: dict[str, list[ShardInfo]] = {}
    for shard in facts.shards:
        if shard.split == "train":
            units.setdefault(shard.unit, []).append(shard)
    examples = images = 0
    for shards in units.values():
        lacking = views - 1 - max(shard.last_view for shard in shards)
        first = next(shard for shard in shards if shard.first_view == 0)
        examples += first.examples if lacking > 0 else 0
        images += max(lacking, 0) * _images_per_view(facts, first)
    whole = sum(_images_per_view(facts, shard) * len(shard.rows_per_view) for shard in facts.shards)
    size = round(sum(shard.bytes for shard in facts.shards) / max(whole, 1) * images)
    rate = rate or measured_rate(facts.schema.card.fingerprint)
    return MissingViews(
        dataset=name, views=views, views_made=facts.views(), examples=examples, images=images,
        codes=images * facts.schema.tokens_per_image, bytes=size, images_per_second=rate,
    )  # fmt: skip


def _images_per_view(facts: DatasetFacts, shard: ShardInfo) -> int:
    frames = sum(length * rows for length, rows in shard.frames.items())
    return shard.examples * len(facts.schema.stills) + frames * len(facts.schema.clips)


def measured_rate(fingerprint: str, cache: Path | None = None) -> float | None:
    """Returns the images per second that the last tokenize run on this machine reached with a tokenizer."""
    try:
        rate = parse_json(((cache or default_cache()) / RATES_FILE).read_bytes()).get(fingerprint)
    except (OSError, ValueError, AttributeError):
        return None
    return float(rate) if isinstance(rate, (int, float)) and rate > 0 else None


def remember_rate(fingerprint: str, images_per_second: float, cache: Path | None = None) -> None:
    """Keeps a run's rate below VISENT_CACHE, for `plan`; a cache that cannot be written keeps nothing."""
    folder = cache or default_cache()
    try:
        rates = parse_json((folder / RATES_FILE).read_bytes())
    except (OSError, ValueError):
        rates = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**rates, fingerprint: round(images_per_second, 3)} if isinstance(rates, dict) else {})
        (folder / RATES_FILE).write_text(text)
    except OSError:
        return
