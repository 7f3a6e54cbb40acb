# mypy: disable-error-code="no-untyped-call"
"""How a job ends: waiting for it, what it died of, and which shards it did not make."""

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineState

from manifests import files
from manifests.shards import receipt_name
from pipelines.job import Job, Work, finished
from pipelines.runners.dofn import pictures_in
from pipelines.runners.options import is_direct
from pipelines.worklog import read_logs
from visent.errors import UserError

RETRY_SECONDS = 30.0
SHOWN = 3  # names in a message


class WorkerDiedError(Exception):
    """A worker process of this machine died; `missing` names the shards that were not made."""

    def __init__(self, message: str, missing: Sequence[str]) -> None:
        super().__init__(message)
        self.missing = set(missing)


def ended(start: Callable[[], Any], job: Job, works: Sequence[Work], options: PipelineOptions) -> Any:
    """Starts a job and returns its result when it has ended well.

    Raises:
        UserError: another runner than Beam's local one refused the job, or it failed, or was cancelled.
    """
    if is_direct(options):
        result = start()
        result.wait_until_finish()
        return result
    try:
        result = start()
    except Exception as error:
        raise UserError(_refusal(job, options, error)) from error
    try:
        state = _wait(result)
    except Exception as error:
        raise UserError(_failure(job, works, error)) from error
    if state != PipelineState.DONE:
        raise UserError(_failure(job, works, f"it ended as {state}"))
    return result


def _wait(result: Any) -> str:
    """Waits for the end; a network that fails here for minutes is no reason to give up a job of days elsewhere."""
    while True:
        try:
            return str(result.wait_until_finish())
        except AssertionError:  # Dataflow's: asking stopped with an error, and the job had not ended
            time.sleep(RETRY_SECONDS)


def check_shards(job: Job, works: Sequence[Work]) -> None:
    """Refuses a job that ended without some of its shards: runners need not know that a worker gave up.

    Raises: `UserError` with their names, and what the workers' logs say.
    """
    missing = _missing(job, works)
    if missing:
        raise UserError(
            f"the job ended without {_some(missing, works)}{_reason(job, missing)}; run the same command again"
        )


def pictures_made(job: Job, works: Sequence[Work], digest: str) -> int:
    """Counts the pictures in the shards of a job, for runners that count nothing."""
    made = finished(job, files_of(job, works), digest)
    return sum(pictures_in(info, job.schema) for info in made.values())


def death_of(pids: Sequence[int], job: Job, works: Sequence[Work]) -> WorkerDiedError:
    """Describes the death of worker processes of this machine: what they were at, and what is left to do."""
    missing = _missing(job, works)
    logs = read_logs(job.out, missing).values()
    at = sorted(log.shard for log in logs if log.state == "running" and log.pid in pids)
    return WorkerDiedError(
        f"a worker process was killed{f' while it made {_list(at)}' if at else ''}: it had no memory left, or a "
        f"library crashed; {_some(missing, works)} are missing, finished ones are kept: run the same command again "
        "with fewer --workers, or look at the files of that shard",
        missing,
    )


def files_of(job: Job, works: Sequence[Work]) -> list[str]:
    """Returns the shards' file names."""
    return [work.file(job.format) for work in works]


def _missing(job: Job, works: Sequence[Work]) -> list[str]:
    there = files.list_sizes(job.out)
    return [file for file in files_of(job, works) if receipt_name(file) not in there]


def _some(missing: Sequence[str], works: Sequence[Work]) -> str:
    return f"{len(missing)} of {len(works)} shards ({_list(missing)})"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _reason(job: Job, missing: Sequence[str]) -> str:
    """Returns what a worker wrote into a log when it gave up."""
    errors = sorted({log.error for log in read_logs(job.out, missing).values() if log.error})
    return f": {errors[0]}" if errors else ""


def _failure(job: Job, works: Sequence[Work], error: Exception | str) -> str:
    missing = _missing(job, works)
    kept = "finished shards are kept; run the same command again to go on"
    said = error if isinstance(error, str) else said_by(error)
    return f"the job failed with {_some(missing, works)} missing{_reason(job, missing)} ({said}); {kept}"


def _refusal(job: Job, options: PipelineOptions, error: Exception) -> str:
    if type(error).__name__ == "DataflowJobAlreadyExistsError":  # of a module that needs Google's packages
        return (
            f"a job for {job.out} runs already: `visent status {job.out}` shows how far it is; wait until it ends, or "
            "cancel it, then run the same command again"
        )
    runner = options.view_as(StandardOptions).runner
    return f"{runner} did not take the job: {said_by(error)}; nothing runs: mend that, then run the same command again"


def said_by(error: Exception) -> str:
    """Returns the line of an error that says most: the last of a worker's traceback, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b.*:", line)]
    return (raised or lines[:1] or [type(error).__name__])[-1][:500]
