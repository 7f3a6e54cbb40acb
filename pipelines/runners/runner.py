# mypy: disable-error-code="no-untyped-call"
"""The Beam pipeline: units in, receipts out, on any runner."""

import contextlib
import copy
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from manifests import files
from pipelines.job import Job, Work
from pipelines.runners.crew import crew, dismiss, fallen
from pipelines.runners.dofn import TokenizeUnit
from pipelines.runners.ending import WorkerDiedError, check_shards, death_of, ended, files_of, pictures_made
from pipelines.runners.handout import hand_out, take_back, taken
from pipelines.runners.logs import tell
from pipelines.runners.options import check_endpoint, check_in_reach, has_containers, is_direct, is_multi_processing
from pipelines.runners.staging import setup_file
from pipelines.worklog import Totals
from visent.errors import UserError

POLL_SECONDS = 0.5
ATTEMPTS = 4  # in which no shard gets made


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a pipeline reports: pictures encoded and when the last worker was ready, in seconds after the start."""

    pictures: int
    startup_seconds: float
    work: Totals | None = None  # of the shards that were made, by their logs


def run(job: Job, works: Sequence[Work], digest: str, options: PipelineOptions, poll: Callable[[], None]) -> Ran:
    """Runs the pipeline in a thread and calls `poll` twice a second until it ends.

    Where a worker process of this machine dies, others make the shards that are left, until that is in vain as often
    as Dataflow tries: a shard that kills its worker each time is left alone at the end, and named.

    Raises:
        UserError: a worker met something the user can fix, or shards are missing; finished ones stay.
    """
    check_in_reach(job, options)
    check_endpoint(options)
    todo, in_vain = list(works), 0
    try:
        while True:
            try:
                ran = _watched(job, todo, digest, options, poll)
                return ran if len(todo) == len(works) else replace(ran, pictures=pictures_made(job, works, digest))
            except WorkerDiedError as death:
                left = [work for work, file in zip(todo, files_of(job, todo), strict=True) if file in death.missing]
                in_vain = in_vain + 1 if len(left) == len(todo) else 0
                if in_vain == ATTEMPTS:
                    raise UserError(str(death)) from None
                tell("worker died", failed=True, said=str(death))
                files.remove_temporaries(job.out)
                todo = left
    except KeyboardInterrupt:
        raise UserError(_interrupted(options)) from None


def _watched(job: Job, works: Sequence[Work], digest: str, options: PipelineOptions, poll: Callable[[], None]) -> Ran:
    """Runs one pipeline; of worker processes of this machine, it notices when one dies.

    Raises:
        WorkerDiedError: then the others were ended, too, and finished shards are there.
        UserError: as `run`.
    """
    outcome: list[Ran | BaseException] = []
    names = hand_out(job.out, works)

    def work() -> None:
        try:
            outcome.append(_run(job, works, names, digest, options))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name="beam", daemon=True)
    try:
        with crew() as folder:
            thread.start()
            try:
                while thread.is_alive():
                    thread.join(POLL_SECONDS)
                    poll()
                    if dead := fallen(folder):
                        raise death_of(dead, job, works)
            finally:
                dismiss(folder)  # those that are left: after a death, or Ctrl-C that reached the command alone
    finally:
        if outcome or is_direct(options):  # else the job goes on elsewhere, and reads them
            take_back(job.out, names)
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _interrupted(options: PipelineOptions) -> str:
    if is_direct(options):
        return "interrupted: finished shards are kept; run the same command again to go on"
    return (
        "interrupted, but the job goes on where it runs: stop it there if you want to; when it has ended, run the same "
        "command again, which makes what is missing and writes the facts"
    )


def pipeline_for(options: PipelineOptions, runner: Any) -> beam.Pipeline:
    """Makes an empty pipeline.

    Raises: `UserError` where Beam refuses its options.
    """
    try:
        return beam.Pipeline(runner=runner, options=options)
    except ValueError as error:
        raise UserError(f"Beam refuses its options: {' '.join(str(error).split())}") from None


def add_steps(pipeline: beam.Pipeline, job: Job, names: Sequence[str], digest: str, here: bool) -> None:
    """Adds the three steps to a pipeline; `names` are the files that hold the works."""
    _ = (
        pipeline
        | "Lists" >> beam.Create(list(names), reshuffle=False)
        | "Units" >> beam.FlatMap(partial(taken, job.out)).with_output_types(str)
        | "Deal" >> beam.Reshuffle()
        | "Tokenize" >> beam.ParDo(TokenizeUnit(job, digest, time.time(), raises=not here))
    )


def _run(job: Job, works: Sequence[Work], names: Sequence[str], digest: str, options: PipelineOptions) -> Ran:
    options = copy.deepcopy(options)  # what runs changes them
    with package(options):
        pipeline = pipeline_for(options, _runner(options))
        add_steps(pipeline, job, names, digest, is_direct(options))
        result = ended(pipeline.run, job, works, options)
    counters, latest, errors = _metrics(result, is_direct(options))
    if errors:
        raise UserError(errors[0])
    check_shards(job, works)
    pictures = counters["pictures"] if "pictures" in counters else pictures_made(job, works, digest)
    return Ran(pictures=pictures, startup_seconds=latest)


def _runner(options: PipelineOptions) -> Any:
    return _local(options) if is_direct(options) else options.view_as(StandardOptions).runner


def _local(options: PipelineOptions) -> FnApiRunner:
    """Returns Beam's local runner itself: `DirectRunner` would first try to fetch and start Prism, a Go binary.

    Worker processes are started by our module instead of Beam's own, whose log fills the screen.
    """
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    workers = None
    if is_multi_processing(options):
        options.view_as(DirectOptions).direct_running_mode = "in_memory"  # else it replaces the workers given here
        workers = SubprocessSDKEnvironment.from_command_string(f"exec {sys.executable} -m pipelines.runners.worker")
    return FnApiRunner(default_environment=workers, provision_info=provision)


@contextlib.contextmanager
def package(options: PipelineOptions) -> Iterator[None]:
    """Sends this package to workers in containers, unless another way was given, for as long as the block lasts."""
    setup = options.view_as(SetupOptions)
    if not has_containers(options) or setup.setup_file or setup.prebuild_sdk_container_engine:
        yield
        return
    with setup_file() as path:
        setup.setup_file = path
        yield
        setup.setup_file = None


def _metrics(result: Any, here: bool) -> tuple[Mapping[str, int], float, list[str]]:
    """Returns the counters, when the last worker was ready, and workers' errors, as far as the runner knows them."""
    try:
        found: Mapping[str, Any] = result.metrics().query()
    except Exception:
        if here:
            raise
        found = {}  # a cluster that cannot say what it counted; the receipts can
    counters = {entry.key.metric.name: entry.result for entry in found.get("counters", ())}
    ready = {entry.key.metric.name: entry.result for entry in found.get("distributions", ())}
    errors = sorted({text for entry in found.get("string_sets", ()) for text in entry.result or ()})
    latest = ready["ready_ms"].max / 1000 if ready.get("ready_ms") else 0.0
    return counters, latest, errors
