# mypy: disable-error-code="no-untyped-call"
"""The Beam pipeline: units in, receipts out, on any runner."""

import contextlib
import difflib
import io
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipelines.dofn import TokenizeUnit
from pipelines.job import Job, Work
from pipelines.lifeline import lifeline
from visent.errors import UserError, unknown

POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a pipeline reports: pictures encoded and when the last worker was ready, in seconds after the start."""

    pictures: int
    startup_seconds: float


def beam_options(arguments: Sequence[str]) -> PipelineOptions:
    """Reads the options after `--`.

    Raises: `UserError` for an option that Beam does not know or a value it does not take.
    """
    known = set(PipelineOptions([]).get_all_options())
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            options = PipelineOptions(list(arguments))
            given = options.get_all_options(retain_unknown_options=True)
    except SystemExit:
        line = complaint.getvalue().strip().splitlines()[-1]
        raise UserError(f"Beam refuses its options: {line.partition('error: ')[2] or line}") from None
    for name in set(given) - known:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
        raise unknown("Beam option", name, near)
    return options


def _is_multi_processing(options: PipelineOptions) -> bool:
    return _is_direct(options) and options.view_as(DirectOptions).direct_running_mode == "multi_processing"


def runs_here(options: PipelineOptions) -> bool:
    """Says whether the workers are threads of this process, so that its own counters tell the progress."""
    return _is_direct(options) and not _is_multi_processing(options)


def _is_direct(options: PipelineOptions) -> bool:
    return options.view_as(StandardOptions).runner in (None, "DirectRunner")


def _local(options: PipelineOptions) -> FnApiRunner:
    """Returns Beam's local runner itself: `DirectRunner` would first try to fetch and start Prism, a Go binary.

    Worker processes are started by our module instead of Beam's own, whose log fills the screen.
    """
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    workers = None
    if _is_multi_processing(options):
        options.view_as(DirectOptions).direct_running_mode = "in_memory"  # else it replaces the workers given here
        workers = SubprocessSDKEnvironment.from_command_string(f"exec {sys.executable} -m pipelines.worker")
    return FnApiRunner(default_environment=workers, provision_info=provision)


def run(job: Job, works: Sequence[Work], digest: str, options: PipelineOptions, poll: Callable[[], None]) -> Ran:
    """Runs the pipeline in a thread and calls `poll` twice a second until it ends.

    Raises:
        UserError: a worker met something the user can fix, or died; finished shards stay.
    """
    outcome: list[Ran | BaseException] = []

    def work() -> None:
        try:
            outcome.append(_run(job, works, digest, options))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name="beam", daemon=True)
    try:
        with lifeline() as line:
            thread.start()
            while thread.is_alive():
                thread.join(POLL_SECONDS)
                line.check()
                poll()
    except KeyboardInterrupt:
        raise UserError("interrupted: finished shards are kept; run the same command again to go on") from None
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _run(job: Job, works: Sequence[Work], digest: str, options: PipelineOptions) -> Ran:
    runner = _local(options) if _is_direct(options) else options.view_as(StandardOptions).runner
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = (
        pipeline
        | "Units" >> beam.Create([work.to_json() for work in works], reshuffle=False)
        | "Deal" >> beam.Reshuffle()
        | "Tokenize" >> beam.ParDo(TokenizeUnit(job, digest, time.time()))
    )
    result = pipeline.run()
    result.wait_until_finish()
    metrics: Mapping[str, Any] = result.metrics().query()
    counters = {entry.key.metric.name: entry.result for entry in metrics["counters"]}
    ready = {entry.key.metric.name: entry.result for entry in metrics["distributions"]}
    errors = sorted({text for entry in metrics["string_sets"] for text in entry.result or ()})
    if errors:
        raise UserError(errors[0])
    latest = ready["ready_ms"].max / 1000 if "ready_ms" in ready else 0.0
    return Ran(pictures=counters.get("pictures", 0), startup_seconds=latest)
