"""What workers say of each shard, beside the dataset: `log/<shard>.json`, for `visent status` and `visent report`.

The log is no part of the dataset: times differ between runs, and whoever removes it loses nothing else.
"""

import json
import math
import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from manifests import files
from pipelines.meter import STAGES

FOLDER = "log"


@dataclass(frozen=True, kw_only=True)
class ShardLog:
    """One shard's making. Times in seconds since 1970; `seconds` by stage, of all threads: they may exceed the wall.

    A log that says "running" is of a worker at work, or of one that died.
    """

    shard: str  # file name
    state: Literal["running", "done", "failed"] = "running"
    host: str = ""
    pid: int = 0
    started: float = 0.0
    ended: float | None = None
    pictures: int = 0  # encoded, all roles and frames
    rows: int = 0
    rejects: Mapping[str, int] = field(default_factory=dict)  # reason -> examples
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)  # read, decode, annotate, encode, write
    encoder_busy: float = 0.0  # seconds in which the process's encoder was at work, for this shard or another
    error: str = ""

    @property
    def wall(self) -> float:
        """Seconds from begin to end; 0 while it runs."""
        return max(self.ended - self.started, 0.0) if self.ended is not None else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


def log_name(shard: str) -> str:
    """Returns where a shard's log lies below the dataset's folder."""
    return f"{FOLDER}/{shard.rsplit('.', 1)[0]}.json"


def is_begun(folder: str, shard: str) -> bool:
    """Says whether somebody began a shard and did not end it: an attempt that died, or one elsewhere.

    Whoever is about to begin it asks. It reads the one log, as a listing of all is long.
    """
    try:
        log = parsed(files.read_bytes(files.join(folder, log_name(shard))))
    except FileNotFoundError:
        return False
    return log is not None and log.state == "running"


def begin(folder: str, shard: str) -> ShardLog:
    """Says that this process has begun a shard."""
    log = ShardLog(shard=shard, host=socket.gethostname(), pid=os.getpid(), started=time.time())
    _write(folder, log)
    return log


def end(folder: str, log: ShardLog, state: Literal["done", "failed"], **known: Any) -> ShardLog:
    """Says how a shard ended; `known` are further fields of the log."""
    ended = replace(log, state=state, ended=time.time(), **known)
    _write(folder, ended)
    return ended


def _write(folder: str, log: ShardLog) -> None:
    files.make_folder(files.join(folder, FOLDER))
    files.write_json(files.join(folder, log_name(log.shard)), log.to_json())


def read_logs(folder: str, shards: Iterable[str] | None = None) -> dict[str, ShardLog]:
    """Returns the logs by the shard's file name, of all shards without `shards`.

    What is no log (cut, of another version) is left out.
    """
    place = files.join(folder, FOLDER)
    wanted = None if shards is None else {files.name(log_name(shard)) for shard in shards}
    sizes = files.list_sizes(place)
    names = [name for name in sizes if name.endswith(".json") and (wanted is None or name in wanted)]
    logs = (parsed(text) for text in files.read_many(place, names, sizes) if text is not None)
    return {log.shard: log for log in logs if log is not None}


def parsed(text: bytes) -> ShardLog | None:
    """Reads a log; None for what is none."""
    try:
        log = ShardLog(**json.loads(text))
        return log if _is_sound(log) else None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _is_sound(log: ShardLog) -> bool:
    """Says whether the fields are of their kinds: others may write into the folder."""
    numbers = [log.started, log.ended or 0.0, log.encoder_busy, *log.seconds.values()]
    counts = [log.pictures, log.rows, log.bytes_read, log.bytes_written, log.pid, *log.rejects.values()]
    names = [log.shard, log.host, log.error, *log.rejects, *log.seconds]
    kinds = [*((name, str) for name in names), *((count, int) for count in counts)]
    return (
        all(map(math.isfinite, numbers))
        and all(isinstance(value, kind) for value, kind in kinds)
        and log.state in ("running", "done", "failed")
    )


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What the makings of several shards add up to; seconds of all threads of all workers."""

    shards: int
    pictures: int
    bytes_read: int
    bytes_written: int
    wall: float  # of each shard, added up
    encoder_busy: float
    seconds: Mapping[str, float]  # by stage, in the order of the work

    @property
    def busy(self) -> float:
        """Part of the time in which a shard's process had its encoder at work, 0 to 1."""
        return min(self.encoder_busy / self.wall, 1.0) if self.wall else 0.0

    def table(self) -> list[tuple[str, str, str, str]]:
        """Returns a line for each stage: name, seconds, milliseconds a picture, threads at work on average."""
        pictures, wall = max(self.pictures, 1), self.wall or 1.0
        return [
            (stage, f"{seconds:,.1f}", f"{1000 * seconds / pictures:,.2f}", f"{seconds / wall:.2f}")
            for stage, seconds in self.seconds.items()
        ]


def add_up(logs: Iterable[ShardLog]) -> Totals:
    """Adds up the shards that are done."""
    done = [log for log in logs if log.state == "done"]
    return Totals(
        shards=len(done), pictures=sum(log.pictures for log in done), bytes_read=sum(log.bytes_read for log in done),
        bytes_written=sum(log.bytes_written for log in done), wall=sum((log.wall for log in done), 0.0),
        encoder_busy=sum((log.encoder_busy for log in done), 0.0),
        seconds={stage: sum((log.seconds.get(stage, 0.0) for log in done), 0.0) for stage in STAGES},
    )  # fmt: skip
