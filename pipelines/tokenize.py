"""The tokenize command: list, run what has no receipt, write the facts last."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from apache_beam.options.pipeline_options import PipelineOptions

from manifests import files
from manifests.dataset import DatasetFacts, has_facts, load_facts, write_facts
from manifests.missing import remember_rate
from manifests.receipts import read_receipts
from manifests.shards import ShardInfo
from pipelines.dofn import pictures_in
from pipelines.encoder import pictures_encoded
from pipelines.job import (
    Job,
    Work,
    configuration,
    difference,
    finished,
    job_from_facts,
    list_units,
    settle,
)
from pipelines.runner import Ran, beam_options, run, runs_here
from pipelines.sources.base import Unit
from visent.errors import UserError
from visent.progress import Track, track

RECEIPT_POLL_SECONDS = 2.0
WORTH_MEASURING = 256  # pictures; the rate of fewer says little


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did. Times in seconds; `pictures` counts every role and frame that was encoded in this run."""

    name: str
    out: str
    units: int
    units_kept: int  # finished before this run
    rows: int
    rejects: dict[str, int]  # reason -> examples
    bytes: int
    pictures: int = 0
    seconds: float = 0.0
    startup_seconds: float = 0.0
    note: str = field(default="")

    @property
    def pictures_per_second(self) -> float:
        """Rate after start-up."""
        return self.pictures / max(self.seconds - self.startup_seconds, 1e-9)


def tokenize(job: Job, beam_arguments: Sequence[str] = (), max_reject_fraction: float = 0.05) -> Summary:
    """Makes the dataset, or what is missing of it.

    Raises:
        UserError: the folder holds another job, the target cannot be written, or too many examples were rejected.
    """
    options = beam_options(beam_arguments)
    units, note = list_units(job)
    config = settle(job, configuration(job, units))
    digest = files.digest_json(config)
    with _alone(job.out):
        kept, ran, seconds = _run_missing(job, [Work(unit=unit) for unit in units], digest, options)
        shards = _all_receipts(job, units, digest)
        _check_rejects(job, shards, max_reject_fraction)
        views = [shard for shard in load_facts(job.out).shards if shard.first_view] if has_facts(job.out) else []
        facts = DatasetFacts(name=job.name, schema=job.schema, shards=[*shards, *views], config=config)
        if not has_facts(job.out) or load_facts(job.out).to_json() != facts.to_json():
            write_facts(job.out, facts)
    return _summary(job, shards, kept, ran, seconds, note)


def tokenize_views(folder: str, views: int, beam_arguments: Sequence[str] = ()) -> Summary:
    """Adds views to a finished dataset until every training example has `views`, the original included.

    Raises:
        UserError: the dataset is unfinished, its source has changed, or the target cannot be written.
    """
    facts = load_facts(folder)
    job = job_from_facts(folder, facts.name, facts.config)
    job.augment.check_views(views)
    options = beam_options(beam_arguments)
    units, _ = list_units(job)
    different = difference(facts.config, configuration(job, units))
    if different:
        raise UserError(f"the source of {folder} has changed since it was tokenized: {different}; put it back")
    digest = facts.config_digest
    with _alone(folder):
        works = _missing_views(units, _receipts(folder, digest), views)
        kept, ran, seconds = _run_missing(job, works, digest, options)
        shards = _receipts(folder, digest)
        if len(shards) > len(facts.shards):
            write_facts(folder, DatasetFacts(name=facts.name, schema=facts.schema, shards=shards, config=facts.config))
    made = [shard for shard in shards if shard.first_view]
    return _summary(job, made, kept, ran, seconds, "")


def _missing_views(units: Sequence[Unit], shards: Sequence[ShardInfo], views: int) -> list[Work]:
    """Returns the work that brings every training unit to `views` views."""
    by_unit: dict[str, list[ShardInfo]] = {}
    for shard in sorted(shards, key=lambda shard: shard.first_view):
        by_unit.setdefault(shard.unit, []).append(shard)
    works = []
    for unit in units:
        there = by_unit.get(unit.id, [])
        reached = max((shard.last_view + 1 for shard in there), default=0)
        if unit.split == "train" and reached < views and there and there[0].rows:
            works.append(Work(unit=unit, views=(reached, views - 1), keys_sha256=there[0].keys_sha256))
    return works


def _receipts(folder: str, digest: str) -> list[ShardInfo]:
    """Reads every receipt of this configuration in the folder."""
    return [info for info in read_receipts(folder).values() if info.config_digest == digest]


def _all_receipts(job: Job, units: Sequence[Unit], digest: str) -> list[ShardInfo]:
    """Returns the receipts of view 0 of all units, in their order.

    Raises: `UserError` when one is not there.
    """
    wanted = [Work(unit=unit).file(job.format) for unit in units]
    found = finished(job, wanted, digest)
    for file in wanted:
        if file not in found:
            raise UserError(f"{job.out} lost {file} while the job ran; run the same command again")
    return [found[file] for file in wanted]


def _run_missing(job: Job, works: Sequence[Work], digest: str, options: PipelineOptions) -> tuple[int, Ran, float]:
    """Runs what has no receipt, with progress; returns how many were done before, the report and the seconds."""
    done = finished(job, [work.file(job.format) for work in works], digest)
    todo = [work for work in works if work.file(job.format) not in done]
    started = time.monotonic()
    if not todo:
        return len(works), Ran(pictures=0, startup_seconds=0.0), 0.0
    files.remove_temporaries(job.out)
    with track(f"tokenize {job.name}", _estimate(job, todo), "images") as progress:
        poll = _Poll(job, todo, digest, runs_here(options), progress)
        ran = run(job, todo, digest, options, poll)
        progress.advance(max(ran.pictures - progress.done, 0), f"{len(todo)}/{len(todo)} shards")
    return len(works) - len(todo), ran, time.monotonic() - started


def _estimate(job: Job, works: Sequence[Work]) -> int | None:
    """Guesses how many pictures will be encoded, all roles and views counted."""
    per_view = job.source.estimate([item for work in works for item in work.unit.items])
    views = sum(work.views[1] - work.views[0] + 1 for work in works) / len(works)
    return None if per_view is None else round(per_view * views * len(job.schema.roles))


class _Poll:
    """Reports progress: from this process's own counter, or from the receipts where other processes work."""

    def __init__(self, job: Job, works: Sequence[Work], digest: str, here: bool, progress: Track) -> None:
        self._job, self._digest, self._here, self._progress = job, digest, here, progress
        self._waiting = {work.file(job.format): work for work in works}
        self._units = len(works)
        self._before, self._seen, self._next = pictures_encoded(), 0, 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            began = time.monotonic()
            self._look_for_receipts()
            self._next = now + max(RECEIPT_POLL_SECONDS, 20 * (time.monotonic() - began))
        pictures = pictures_encoded() - self._before if self._here else self._seen
        note = f"{self._units - len(self._waiting)}/{self._units} shards"
        self._progress.advance(max(pictures - self._progress.done, 0), note)

    def _look_for_receipts(self) -> None:
        for file, info in finished(self._job, list(self._waiting), self._digest).items():
            self._seen += pictures_in(info, self._job.schema)
            del self._waiting[file]


def _check_rejects(job: Job, shards: Sequence[ShardInfo], limit: float) -> None:
    """Refuses to finish a dataset of which too much was rejected.

    Raises: `UserError`.
    """
    rejects = _rejects(shards)
    rejected, rows = sum(rejects.values()), sum(shard.examples for shard in shards)
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(rejects).most_common(5))
    if not rows:
        raise UserError(
            f"no example of {job.name} could be read: {reasons or 'none was found'}; see {job.out}/*.rejects.jsonl"
        )
    if rejected > limit * (rows + rejected):
        raise UserError(
            f"{rejected} of {rows + rejected} examples were rejected ({reasons}), over --max-reject-fraction {limit}; "
            f"see {job.out}/*.rejects.jsonl, then mend the source, or run again with a higher limit: "
            "finished shards are kept"
        )


def _rejects(shards: Sequence[ShardInfo]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for shard in shards:
        if shard.first_view == 0:
            total.update(shard.rejects)
    return dict(total)


def _summary(job: Job, shards: Sequence[ShardInfo], kept: int, ran: Ran, seconds: float, note: str) -> Summary:
    summary = Summary(
        name=job.name, out=job.out, units=len(shards), units_kept=kept, rows=sum(shard.rows for shard in shards),
        rejects=_rejects(shards), bytes=sum(shard.bytes for shard in shards), pictures=ran.pictures, seconds=seconds,
        startup_seconds=ran.startup_seconds, note=note,
    )  # fmt: skip
    if ran.pictures >= WORTH_MEASURING:
        remember_rate(job.card.fingerprint, summary.pictures_per_second)
    return summary


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Holds the folder for this process; the system lets go of it when the process dies.

    Raises: `UserError` when another process holds it.
    """
    if files.is_url(folder):
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"another `visent tokenize` is writing to {folder}; wait for it, or stop it") from None
    finally:
        os.close(handle)
