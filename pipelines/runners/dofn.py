# mypy: disable-error-code="no-untyped-call"
"""What runs inside a Beam worker: a unit in, its receipt out."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import apache_beam as beam
from apache_beam.metrics import Metrics

from manifests.schema import Schema
from manifests.shards import ShardInfo
from pipelines import worklog
from pipelines.encoder import Encoder, shared_encoder
from pipelines.job import Job, Work
from pipelines.meter import Meter
from pipelines.rehearsal import faults_of
from pipelines.resuming.merge import retry_unit
from pipelines.runners.logs import tell
from pipelines.units import made_already, tokenize_unit
from pipelines.worklog import ShardLog
from visent.errors import UserError

NAMESPACE = "visent"  # of all counters


class TokenizeUnit(beam.DoFn):
    """Makes the shard of each unit it gets.

    Here, what the user can fix goes back as a metric, not as an exception: Beam's local runner wraps exceptions and
    prints their tracebacks. After such a failure the worker leaves its other units alone; they would fail alike.
    Elsewhere (`raises`) it is an exception all the same: Dataflow and clusters give the unit to another worker a few
    times and say at last what it died of, while a worker that went on without an error would swallow all the others.
    """

    def __init__(self, job: Job, digest: str, started: float, raises: bool = False) -> None:
        self._job, self._digest, self._started, self._raises = job, digest, started, raises
        self._begun = self._failed = False
        self._errors = Metrics.string_set(NAMESPACE, "errors")

    def process(self, element: str) -> Iterator[str]:
        """Yields the receipt as JSON."""
        if self._failed:
            return
        try:
            work = Work.from_json(element)
            # Elsewhere, failures of other units bring one back that was made.
            made = made_already(self._job, work, self._digest) if self._raises else None
            info = made or self._shard(work, self._encoder())
        except UserError as error:
            if self._raises:
                raise
            self._failed = True
            self._errors.add(str(error))
            return
        yield json.dumps(info.to_json())

    def _encoder(self) -> Encoder:
        """Returns the process's encoder.

        Raises: `UserError` when the tokenizer is gone, or is not the one that the job was started with.
        """
        job = self._job
        encoder = shared_encoder(job.tokenizer, job.preset, job.precision)
        if encoder.card.fingerprint != job.card.fingerprint:
            raise UserError(
                f"tokenizer {job.tokenizer} is {encoder.card.fingerprint} in a worker, the job was started with "
                f"{job.card.fingerprint}: put that one back, or tokenize into another folder"
            )
        if not self._begun:
            self._begun = True
            _distribution("ready", max(time.time() - self._started, 0))
            told = {"batch": encoder.batch_size, "devices": encoder.devices, **encoder.made_with}
            tell("worker ready", tokenizer=job.tokenizer, **told)
        return encoder

    def _shard(self, work: Work, encoder: Encoder) -> ShardInfo:
        """Makes one shard, and writes its log before and after."""
        job, meter, busy = self._job, Meter(), encoder.clock.busy
        make = tokenize_unit if work.retry is None else retry_unit
        file = work.file(job.format)
        died = worklog.is_begun(job.out, file)
        begun = worklog.begin(job.out, file)
        try:
            work = replace(work, faults=faults_of(job, work, died))
            info = make(job, work, self._digest, encoder, meter)
        except Exception as error:
            with suppress(UserError):  # what went wrong first is what counts
                worklog.end(job.out, begun, "failed", error=str(error) or type(error).__name__)
            tell("shard failed", failed=True, shard=begun.shard, error=str(error))
            raise
        log = worklog.end(
            job.out, begun, "done", pictures=meter.pictures, rows=info.rows, rejects=info.rejects,
            bytes_read=meter.bytes_read or sum(item.size for item in work.unit.items), bytes_written=info.bytes,
            seconds=meter.seconds, encoder_busy=round(encoder.clock.busy - busy, 4),
        )  # fmt: skip
        _count(log)
        tell("shard done", **log.to_json())
        return info


def _count(log: ShardLog) -> None:
    """Adds a finished shard to the job's counters and distributions, as Beam's runners show them."""
    counts = {"shards": 1, "pictures": log.pictures, "rows": log.rows, "rejects": sum(log.rejects.values()),
              "bytes_read": log.bytes_read, "bytes_written": log.bytes_written,
              **{f"rejects_{reason}": count for reason, count in log.rejects.items()}}  # fmt: skip
    for name, count in counts.items():
        Metrics.counter(NAMESPACE, name).inc(count)
    _distribution("shard", log.wall)
    _distribution("encoder_busy", log.encoder_busy)
    for stage, seconds in log.seconds.items():
        _distribution(stage, seconds)


def _distribution(name: str, seconds: float) -> None:
    Metrics.distribution(NAMESPACE, f"{name}_ms").update(round(1000 * seconds))


def pictures_in(info: ShardInfo, schema: Schema) -> int:
    """Returns how many pictures a shard's rows hold: one for each still role, the frames of each clip role."""
    frames = sum(length * rows for length, rows in info.frames.items()) * len(info.rows_per_view)
    return info.rows * len(schema.stills) + frames * len(schema.clips)
