"""Running the shards that have no receipt, with progress."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from apache_beam.options.pipeline_options import PipelineOptions

from manifests import files
from pipelines.encoder import pictures_encoded
from pipelines.job import Job, Work, finished
from pipelines.runners.dofn import pictures_in
from pipelines.runners.options import runs_here
from pipelines.runners.runner import Ran, run
from pipelines.worklog import Totals, add_up, read_logs
from visent.errors import UserError
from visent.progress import Track, track

RECEIPT_POLL_SECONDS = 2.0
LOGS_READ = 4096  # after a run: on a bucket that is half a minute


def run_missing(
    job: Job, works: Sequence[Work], digest: str, options: PipelineOptions, pictures: int | None = None
) -> tuple[int, Ran, float]:
    """Runs what has no receipt, with progress; returns how many were done before, the report and the seconds.

    `pictures` says how many there are to encode, where that is not what the units' items hold.
    """
    done = finished(job, [work.file(job.format) for work in works], digest)
    todo = [work for work in works if work.file(job.format) not in done]
    started = time.monotonic()
    if not todo:
        return len(works), Ran(pictures=0, startup_seconds=0.0), 0.0
    files.remove_temporaries(job.out)
    total = _estimate(job, todo) if pictures is None else pictures
    with track(f"tokenize {job.name}", total, "images") as progress:
        poll = _Poll(job, todo, digest, runs_here(options), progress)
        ran = run(job, todo, digest, options, poll)
        progress.advance(max(ran.pictures - progress.done, 0), f"{len(todo)}/{len(todo)} shards")
    seconds = time.monotonic() - started
    return len(works) - len(todo), replace(ran, work=_work(job, todo)), seconds


def _work(job: Job, works: Sequence[Work]) -> Totals:
    """Adds up the logs of what was made; of very many shards, of a part spread over them."""
    some = works[:: -(-len(works) // LOGS_READ)]
    return add_up(read_logs(job.out, [work.file(job.format) for work in some]).values())


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
        with suppress(UserError):  # storage that fails now ends no job: the next look, or the end of the job, tells
            for file, info in finished(self._job, list(self._waiting), self._digest).items():
                self._seen += pictures_in(info, self._job.schema)
                del self._waiting[file]
