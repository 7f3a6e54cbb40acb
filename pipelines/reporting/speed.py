"""The part of a report that says how fast a dataset was made, from the logs of its shards."""

from collections import defaultdict
from collections.abc import Sequence

from pipelines.reporting import plots
from pipelines.worklog import ShardLog, Totals, add_up
from visent.page import Page

SLOWEST = 5  # shards that are named
WAITING = 0.8  # of the time: an encoder that works less is waited for


def speed(page: Page, logs: Sequence[ShardLog], shards: int) -> None:
    """Adds throughput by stage, over time, by host, and the slowest of the dataset's `shards`."""
    page.heading("Speed")
    done = [log for log in logs if log.state == "done" and log.wall > 0]
    if not done:
        page.text("There are no logs of the shards: log/ beside them was removed, or an older version made them.")
        return
    totals = add_up(done)
    page.text(summary(totals, shards))
    page.table(("stage", "seconds, all threads", "ms a picture", "threads at work"), totals.table())
    page.plot(plots.over_time(done), "Pictures encoded a second, all workers; breaks are left out.")
    page.table(("host", "processes", "shards", "pictures", "images/s of a process"), _hosts(done))
    slow = sorted(done, key=lambda log: (log.wall / max(log.pictures, 1), log.shard), reverse=True)[:SLOWEST]
    page.heading("Slowest shards", "By the time they took for each picture.")
    page.table(
        ("shard", "host", "pictures", "seconds", "images/s", "longest stage"),
        [(log.shard, log.host, f"{log.pictures:,}", f"{log.wall:,.1f}", f"{log.pictures / log.wall:,.1f}",
          max(log.seconds, key=lambda stage: log.seconds[stage], default="")) for log in slow],
        numbers_from=2,
    )  # fmt: skip


def summary(totals: Totals, shards: int) -> str:
    """Says in words how busy the encoder was, and what it waited for."""
    text = (
        f"{totals.shards:,} of {shards:,} shards have a log: {totals.pictures:,} pictures, {totals.wall:,.0f} seconds "
        f"of shards at work, {totals.bytes_read / 1e6:,.1f} MB read, {totals.bytes_written / 1e6:,.1f} MB written. "
        f"The encoder was at work in {totals.busy:.0%} of that time."
    )
    others = {stage: seconds for stage, seconds in totals.seconds.items() if stage != "encode" and seconds}
    if totals.busy < WAITING and others:
        longest = max(others, key=lambda stage: others[stage])
        text += f" It waited; of the other stages, {longest} took the longest."
    return text


def _hosts(logs: Sequence[ShardLog]) -> list[tuple[str, ...]]:
    hosts: dict[str, list[ShardLog]] = defaultdict(list)
    for log in logs:
        hosts[log.host].append(log)
    return [
        (host or "unknown", str(len({log.pid for log in own})), f"{len(own):,}",
         f"{sum(log.pictures for log in own):,}", f"{_rate(own):,.1f}")
        for host, own in sorted(hosts.items())
    ]  # fmt: skip


def _rate(logs: Sequence[ShardLog]) -> float:
    """Returns the pictures a second of a process, averaged over the time in which it had a shard."""
    by_process: dict[int, list[ShardLog]] = defaultdict(list)
    for log in logs:
        by_process[log.pid].append(log)
    return sum(log.pictures for log in logs) / max(sum(map(_covered, by_process.values())), 1e-9)


def _covered(logs: Sequence[ShardLog]) -> float:
    """Returns the seconds in which at least one of the shards was being made."""
    seconds, until = 0.0, 0.0
    for log in sorted(logs, key=lambda log: log.started):
        end = log.ended or log.started
        seconds += max(end - max(log.started, until), 0.0)
        until = max(until, end)
    return seconds
