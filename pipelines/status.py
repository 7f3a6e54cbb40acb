"""How far a dataset is, from its facts, receipts and the workers' logs: read only, also while a job runs."""

import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from manifests import files
from manifests.dataset import FACTS_FILE, DatasetFacts, config_digest, load_facts
from manifests.receipts import read_receipts
from manifests.shards import ShardInfo, receipt_name
from pipelines import worklog
from pipelines.job import SHARD_ENDINGS
from pipelines.resuming.adopt import ADOPT_FILE, PLAN_FILE, staged
from pipelines.resuming.settle import begun_config
from pipelines.runners.crew import is_alive
from pipelines.sources.base import unit_names
from pipelines.worklog import ShardLog

SAMPLE = 512  # logs of finished shards that are read, for the rate
SILENT = 10  # times the usual time of a shard after which a worker has probably died
SILENT_SECONDS = 600.0  # at least, and where no shard is done yet


@dataclass(frozen=True, kw_only=True)
class Working:
    """A shard that a worker has begun and not ended."""

    shard: str
    host: str
    seconds: float  # since it was begun
    alive: bool  # False where its process is gone, or has been silent for long


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far one dataset is. Shards are those of view 0; `views` counts the others by their range, as in "1-36"."""

    folder: str
    state: Literal["complete", "running", "unfinished"]
    wanted: int  # shards in all
    done: int
    running: Sequence[Working] = ()
    stopped: Sequence[Working] = ()
    failed: Mapping[str, str] = field(default_factory=dict)  # shard -> error of the last try
    missing: int = 0  # neither done nor running
    rows: int = 0
    rejects: Mapping[str, int] = field(default_factory=dict)  # reason -> examples
    bytes: int = 0
    views: Mapping[str, int] = field(default_factory=dict)
    images_per_second: float | None = None  # of all that run now
    eta_seconds: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage, of the shards that were looked at
    notes: Sequence[str] = ()

    @property
    def rejected(self) -> int:
        """Rejected examples."""
        return sum(self.rejects.values())

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


def dataset_status(folder: str) -> Status:
    """Looks at a dataset, on a disk or in a bucket.

    A finished one is told by its facts alone; else receipts are read, and of the logs those of shards that are not
    done, and some of the others.

    Raises: `UserError` when a file of the job is damaged.
    """
    sizes = files.list_sizes(folder)
    facts = load_facts(folder) if FACTS_FILE in sizes else None
    config = begun_config(folder)
    done = _done(folder, sizes, facts, config)
    originals = [info for info in done.values() if not info.first_view]
    units = _units(config, originals)
    left = units - {info.unit for info in originals}
    logs = _logs(folder, done, bool(left))
    typical = _typical(logs, done)
    working = [_working(log, typical) for log in logs.values() if log.state == "running" and log.shard not in done]
    running = [one for one in working if one.alive]
    begun = {one.shard.rsplit(".", 1)[0] for one in running} & left
    failed = {log.shard: log.error for log in logs.values() if log.state == "failed" and log.shard not in done}
    rate, eta = _pace(logs, done, running, len(left))
    return Status(
        folder=folder, state=_state(facts, left, running), wanted=len(units), done=len(units) - len(left),
        running=running, stopped=[one for one in working if not one.alive], failed=failed,
        missing=len(left) - len(begun), rows=sum(info.rows for info in originals), rejects=_rejects(originals),
        bytes=sum(info.bytes for info in done.values()), views=_views(done.values()), images_per_second=rate,
        eta_seconds=eta, seconds=worklog.add_up(logs.values()).seconds, notes=_notes(folder, sizes, facts, done, left),
    )  # fmt: skip


def _done(
    folder: str, sizes: Mapping[str, int], facts: DatasetFacts | None, config: Mapping[str, Any] | None
) -> dict[str, ShardInfo]:
    """Returns the receipts of the shards that are there, by file name; those in the facts need no reading."""
    known = {info.file: info for info in facts.shards if sizes.get(info.file) == info.bytes} if facts else {}
    shards = (name for name in sizes if name.endswith(SHARD_ENDINGS))
    others = [name for name in shards if name not in known and receipt_name(name) in sizes]
    found = read_receipts(folder, others) if others else {}
    digest = config_digest(config or {})
    return known | {name: info for name, info in found.items() if config is None or info.config_digest == digest}


def _units(config: Mapping[str, Any] | None, originals: Iterable[ShardInfo]) -> set[str]:
    """Returns the names of all units: those of the configuration's generations, else those that are there."""
    generations = (config or {}).get("listing", {}).get("generations")
    if generations is None:
        return {info.unit for info in originals}
    return {name for number, known in enumerate(generations) for split, count in known["units"].items()
            for name in unit_names(split, count, number)}  # fmt: skip


def _logs(folder: str, done: Mapping[str, ShardInfo], unfinished: bool) -> dict[str, ShardLog]:
    """Reads the logs of shards that are not done, and some of those that are."""
    place = files.join(folder, worklog.FOLDER)
    named = {files.name(worklog.log_name(shard)) for shard in done}
    sizes = files.list_sizes(place)
    there = [name for name in sizes if name.endswith(".json")]
    others, finished = [name for name in there if name not in named], [name for name in there if name in named]
    some = finished[:: max(1, len(finished) // SAMPLE)] if unfinished or others else []
    logs = (worklog.parsed(text) for text in files.read_many(place, [*others, *some], sizes) if text is not None)
    return {log.shard: log for log in logs if log is not None}


def _typical(logs: Mapping[str, ShardLog], done: Mapping[str, ShardInfo]) -> float | None:
    """Returns the usual seconds of a shard."""
    walls = [log.wall for log in logs.values() if log.shard in done and log.wall]
    return statistics.median(walls) if walls else None


def _working(log: ShardLog, typical: float | None) -> Working:
    """Says whether whoever began a shard may still be at it: here by the process, elsewhere by the time it took."""
    seconds = max(time.time() - log.started, 0.0)
    alive = is_alive(log.pid) if log.host == socket.gethostname() else (
        seconds < max(SILENT_SECONDS, SILENT * (typical or 0.0)))  # fmt: skip
    return Working(shard=log.shard, host=log.host, seconds=round(seconds, 1), alive=alive)


def _pace(
    logs: Mapping[str, ShardLog], done: Mapping[str, ShardInfo], running: Sequence[Working], left: int
) -> tuple[float | None, float | None]:
    """Returns images a second of all workers, and the seconds to the end; of shards begun, half is done on average."""
    looked_at = [log for log in logs.values() if log.shard in done and log.wall]
    if not running or not looked_at or not left:
        return None, None
    wall = statistics.mean(log.wall for log in looked_at)
    pictures = statistics.mean(log.pictures for log in looked_at)
    shards_left = max(left - len(running) / 2, 0.5)
    return len(running) * pictures / wall, shards_left * wall / min(len(running), max(left, 1))


def _state(
    facts: DatasetFacts | None, left: Iterable[str], running: Sequence[Working]
) -> Literal["complete", "running", "unfinished"]:
    if running:
        return "running"
    return "complete" if facts is not None and not left else "unfinished"


def _rejects(originals: Iterable[ShardInfo]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for info in originals:
        total.update(info.rejects)
    return dict(total.most_common())


def _views(done: Iterable[ShardInfo]) -> dict[str, int]:
    counts = Counter((info.first_view, info.last_view) for info in done if info.first_view)
    return {f"{first}-{last}": count for (first, last), count in sorted(counts.items())}


def _notes(
    folder: str, sizes: Mapping[str, int], facts: DatasetFacts | None, done: Mapping[str, ShardInfo], left: set[str]
) -> list[str]:
    """Returns what else should be known: shards that are gone, a growth under way, a retry under way."""
    notes = []
    lost = [info.file for info in facts.shards if info.file not in done] if facts else []
    if lost:
        notes.append(f"{len(lost):,} shards of {FACTS_FILE} are gone or of another size, as {lost[0]}: run the same "
                     "`visent tokenize` again")  # fmt: skip
    elif facts and left:
        notes.append(f"it was complete and has got more input: its {FACTS_FILE} holds until the new shards are there")
    if not facts and not left:
        notes.append(f"all shards are there, {FACTS_FILE} is not: too many examples were rejected, or the job was "
                     "stopped at its end; run the same `visent tokenize` again")  # fmt: skip
    names = files.list_sizes(staged(folder))
    if ADOPT_FILE in names:
        notes.append("a retry of rejects was stopped while its shards were put in place: run it again to end it")
    elif PLAN_FILE in names:
        wanted = files.read_json(files.join(staged(folder), PLAN_FILE))
        ready = sum(receipt_name(file) in names for file in wanted)
        notes.append(f"a retry of rejects has made {ready:,} of {len(wanted):,} shards; the dataset is as it was until "
                     "all are there")  # fmt: skip
    return notes
