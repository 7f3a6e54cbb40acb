"""The tokenize command: list, run what has no receipt, write the facts last."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from manifests import files
from manifests.dataset import DatasetFacts, has_facts, load_facts, write_facts
from manifests.missing import remember_rate
from manifests.receipts import read_receipts
from manifests.shards import ShardInfo
from pipelines.alone import alone
from pipelines.job import Job, Work, finished, job_from_facts
from pipelines.resuming.adopt import finish_begun, finish_retry
from pipelines.resuming.settle import Settled, record, refuse, settle, units_and_change
from pipelines.runners.dryrun import stop_if_dry
from pipelines.runners.options import beam_options, check_in_reach, is_dry
from pipelines.runners.runner import Ran
from pipelines.running import run_missing
from pipelines.sources.base import Unit
from pipelines.worklog import Totals
from visent.errors import UserError

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
    work: Totals | None = None  # where the time of the shards went that this run made

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
    check_in_reach(job, options)
    items, note = job.source.listing()
    if is_dry(options):
        settled = settle(job, items)
        stop_if_dry(job, _works(settled), settled.digest, options)
    files.make_folder(job.out)
    with alone(job.out):
        finish_retry(job.out)
        settled = settle(job, items)
        record(job, settled)
        kept, ran, seconds = run_missing(job, _works(settled), settled.digest, options)
        shards = _all_receipts(job, settled.units, settled.digest)
        check_rejects(job, shards, max_reject_fraction)
        write_changed_facts(job, settled.config, shards)
    return summarize(job, shards, kept, ran, seconds, _note(settled, note))


def _works(settled: Settled) -> list[Work]:
    return [Work(unit=unit) for unit in settled.units]


def _note(settled: Settled, note: str) -> str:
    if not settled.generation or settled.new is None:
        return note
    grown = f"{sum(len(unit.items) for unit in settled.new):,} new items were added as generation {settled.generation}"
    return f"{grown}; {note}" if note else grown


def write_changed_facts(job: Job, config: dict[str, Any], shards: Sequence[ShardInfo]) -> None:
    """Writes the facts of the shards of view 0, and of the views that are in the facts, where they say otherwise."""
    before = load_facts(job.out) if has_facts(job.out) else None
    views = [shard for shard in before.shards if shard.first_view] if before else []
    facts = DatasetFacts(name=job.name, schema=job.schema, shards=[*shards, *views], config=config)
    if before is None or before.to_json() != facts.to_json():
        write_facts(job.out, facts)


def tokenize_views(folder: str, views: int, beam_arguments: Sequence[str] = ()) -> Summary:
    """Adds views to a finished dataset until every training example has `views`, the original included.

    Raises:
        UserError: the dataset is unfinished, its source has changed, or the target cannot be written.
    """
    options = beam_options(beam_arguments)
    if not is_dry(options):
        finish_begun(folder)
    facts = load_facts(folder)
    job = job_from_facts(folder, facts.name, facts.config)
    job.augment.check_views(views)
    check_in_reach(job, options)
    units, change = units_and_change(job, facts.config, job.source.listing()[0])
    refuse(folder, change)
    digest = facts.config_digest
    stop_if_dry(job, _missing_views(units, _receipts(folder, digest), views), digest, options)
    with alone(folder):
        works = _missing_views(units, _receipts(folder, digest), views)
        kept, ran, seconds = run_missing(job, works, digest, options)
        known = {unit.id for unit in units}  # a later generation is no part of these facts yet
        shards = [shard for shard in _receipts(folder, digest) if shard.unit in known]
        if len(shards) > len(facts.shards):
            write_facts(folder, DatasetFacts(name=facts.name, schema=facts.schema, shards=shards, config=facts.config))
    made = [shard for shard in shards if shard.first_view]
    return summarize(job, made, kept, ran, seconds, "")


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


def check_rejects(job: Job, shards: Sequence[ShardInfo], limit: float) -> None:
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
            f"see {job.out}/*.rejects.jsonl, then mend the files and run `visent tokenize --retry-rejects {job.out}`, "
            "or run again with a higher limit: finished shards are kept"
        )


def _rejects(shards: Sequence[ShardInfo]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for shard in shards:
        if shard.first_view == 0:
            total.update(shard.rejects)
    return dict(total)


def summarize(job: Job, shards: Sequence[ShardInfo], kept: int, ran: Ran, seconds: float, note: str) -> Summary:
    """Describes a run; remembers its rate for later plans."""
    summary = Summary(
        name=job.name, out=job.out, units=len(shards), units_kept=kept, rows=sum(shard.rows for shard in shards),
        rejects=_rejects(shards), bytes=sum(shard.bytes for shard in shards), pictures=ran.pictures, seconds=seconds,
        startup_seconds=ran.startup_seconds, note=note, work=ran.work,
    )  # fmt: skip
    if ran.pictures >= WORTH_MEASURING:
        remember_rate(job.card.fingerprint, summary.pictures_per_second)
    return summary
