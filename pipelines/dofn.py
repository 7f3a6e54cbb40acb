# mypy: disable-error-code="no-untyped-call"
"""What runs inside a Beam worker: a unit in, its receipt out."""

import json
import time
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics

from manifests.schema import Schema
from manifests.shards import ShardInfo
from pipelines.encoder import shared_encoder
from pipelines.job import Job, Work
from pipelines.units import tokenize_unit
from visent.errors import UserError

NAMESPACE = "visent"  # of all counters


class TokenizeUnit(beam.DoFn):
    """Makes the shard of each unit it gets.

    What the user can fix goes back as a metric, not as an exception: runners wrap exceptions, print their tracebacks
    and try again. After such a failure the worker leaves its other units alone; they would fail alike.
    """

    def __init__(self, job: Job, digest: str, started: float) -> None:
        self._job, self._digest, self._started = job, digest, started
        self._begun = self._failed = False
        self._ready = Metrics.distribution(NAMESPACE, "ready_ms")
        self._pictures = Metrics.counter(NAMESPACE, "pictures")
        self._errors = Metrics.string_set(NAMESPACE, "errors")

    def process(self, element: str) -> Iterator[str]:
        """Yields the receipt as JSON."""
        if self._failed:
            return
        try:
            encoder = shared_encoder(self._job.tokenizer, self._job.preset, self._job.precision)
            if not self._begun:
                self._begun = True
                self._ready.update(round(max(time.time() - self._started, 0) * 1000))
            info = tokenize_unit(self._job, Work.from_json(element), self._digest, encoder)
        except UserError as error:
            self._failed = True
            self._errors.add(str(error))
            return
        self._pictures.inc(pictures_in(info, self._job.schema))
        yield json.dumps(info.to_json())


def pictures_in(info: ShardInfo, schema: Schema) -> int:
    """Returns how many pictures a shard's rows hold: one for each still role, the frames of each clip role."""
    frames = sum(length * rows for length, rows in info.frames.items()) * len(info.rows_per_view)
    return info.rows * len(schema.stills) + frames * len(schema.clips)
