"""The contact sheet of a report: rows spread over a dataset, what their codes stand for, and the originals."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from jaxtyping import Float, UInt8

from manifests import files
from manifests.dataset import DatasetFacts
from manifests.schema import Row
from manifests.shards import ShardInfo, read_rows
from pipelines.annotate.annotators import DRAWN
from pipelines.examples import Squares, squares
from pipelines.job import Job, job_from_facts
from pipelines.resuming.listing import all_units
from pipelines.sources.base import Example, Unit
from tokenizer.tokenizer import Tokenizer
from visent.errors import UserError

FIRST = 64  # rows of a shard among which samples lie, so that little of a unit is read again
FRAMES = 4  # shown of a clip, evenly spaced

Pictures = UInt8[np.ndarray, "n h w 3"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The source of a finished dataset, to read some of its examples again."""

    job: Job
    units: Mapping[str, Unit]  # by id

    def squares(self, unit: str, keys: Collection[str]) -> dict[str, Squares]:
        """Returns the squares of those of the keys that the source still gives; what networks draw is left out."""
        try:
            return self._squares(unit, set(keys)) if unit in self.units else {}
        except UserError:  # its files are gone since: the sheet shows what there is
            return {}

    def _squares(self, unit: str, wanted: set[str]) -> dict[str, Squares]:
        look = replace(self.job.look, annotate=tuple(filter(DRAWN.__contains__, self.job.annotate)))
        found: dict[str, Squares] = {}
        for example in islice(self.job.source.examples(self.units[unit]), 4 * FIRST):
            if isinstance(example, Example) and example.key in wanted:
                wanted.discard(example.key)
                made = squares(example, look, [0])
                found |= {example.key: made[0]} if isinstance(made, list) else {}
            if not wanted:
                break
        return found


def origin(folder: str, facts: DatasetFacts) -> Origin:
    """Opens the source of a dataset by its recorded configuration.

    Raises: `UserError` when it cannot be read again: it is gone, or was tokens.
    """
    job = job_from_facts(folder, facts.name, facts.config)
    return Origin(job=job, units={unit.id: unit for unit in all_units(folder, facts.config)})


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A row and its pictures by role: decoded from its codes, and, where the source gave them again, as they were."""

    key: str
    split: str
    decoded: Mapping[str, Pictures]
    originals: Mapping[str, Pictures]

    def decibels(self, role: str) -> float | None:
        """Returns the peak signal-to-noise ratio of a role's pictures, in dB; None where there is no original."""
        if role not in self.originals:
            return None
        error: Float[np.ndarray, "n h w 3"] = self.decoded[role].astype(np.float64) - self.originals[role]
        return float(10 * np.log10(255**2 / max(np.mean(error**2), 1e-6)))


def samples(folder: str, facts: DatasetFacts, coder: Tokenizer, count: int, source: Origin | None) -> list[Sample]:
    """Takes rows of view 0 spread over the shards; their originals come from `source`, where there is one."""
    found = []
    for shard, places in _places(facts, count):
        rows = list(islice(read_rows(files.join(folder, shard.file), facts.schema), max(places) + 1))
        chosen = [rows[place] for place in places]
        again = source.squares(shard.unit, [row.key for row in chosen]) if source else {}
        found += [_sample(row, shard.split, coder, again.get(row.key)) for row in chosen]
    return found


def _sample(row: Row, split: str, coder: Tokenizer, original: Squares | None) -> Sample:
    codes = {role: _few(np.atleast_2d(values)) for role, values in row.codes.items()}
    pictures = original.pictures if original else {}
    return Sample(
        key=row.key,
        split=split,
        decoded={role: coder.decode(values) for role, values in codes.items()},
        originals={role: _few(pictures[role]) for role in codes if role in pictures},
    )


def _few(values: np.ndarray) -> np.ndarray:
    """Takes evenly spaced frames of a clip."""
    few: np.ndarray = values[np.unique(np.linspace(0, len(values) - 1, min(FRAMES, len(values))).round().astype(int))]
    return few


def _places(facts: DatasetFacts, count: int) -> Iterator[tuple[ShardInfo, list[int]]]:
    """Deals `count` samples to shards that are spread over the dataset, and in each to rows near its start."""
    shards = [shard for shard in facts.shards if shard.first_view == 0 and shard.examples]
    chosen = np.unique(np.linspace(0, len(shards) - 1, min(count, len(shards))).round().astype(int)).tolist()
    for turn, at in enumerate(chosen):
        own = count // len(chosen) + (turn < count % len(chosen))
        among = min(shards[at].examples, FIRST)
        places = (np.linspace(0, among, own, endpoint=False) + 7 * turn).astype(int) % among
        yield shards[at], sorted(set(places.tolist()))
