# mypy: disable-error-code="no-untyped-call"
"""Beam's options: what was given, and what a job on several processes, Dataflow or a cluster needs besides."""

import contextlib
import difflib
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    TestOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

from manifests import files
from pipelines.annotate.annotators import model
from pipelines.job import Job
from pipelines.runners.accelerators import Accelerator, gpu, tpu
from visent import __version__
from visent.errors import UserError, unknown

DATAFLOW = "DataflowRunner"
LOCAL = (None, "DirectRunner")
CPU_MACHINE = "n2-standard-8"
DISK_GB = 50  # holds the image of a worker
ACCELERATOR_DISK_GB = 100  # CUDA makes it larger
ENDPOINT_SECONDS = 30.0  # in which a job server has to answer
REGION = r"[a-z]+-((north|south)?(east|west)?|central)\d+"
_UNSEEN = "{what} is {path}, which Dataflow's workers cannot see: copy it to a bucket and give gs://..."


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a job runs, as the options of a command say it; `beam` are Beam's own, which go before all others."""

    runner: str | None = None
    project: str | None = None
    region: str | None = None
    temp_location: str | None = None
    image: str | None = None  # of the workers
    gpu: str | None = None
    tpu: str | None = None
    devices_per_worker: int | None = None
    workers: int | None = None
    dry_run: bool = False
    beam: tuple[str, ...] = ()


def arguments_at(place: Place, out: str) -> list[str]:
    """Returns Beam's options, as arguments, for a job that writes to `out`.

    Raises: `UserError` for what Beam does not know, what does not go together, and what is missing.
    """
    given = beam_options(place.beam)
    runner = place.runner or given.view_as(StandardOptions).runner
    if place.runner and "." not in place.runner and place.runner not in StandardOptions.KNOWN_RUNNER_NAMES:
        raise unknown("runner", place.runner, StandardOptions.KNOWN_RUNNER_NAMES)
    wanted = _dataflow(place, out, _names(place.beam)) if runner == DATAFLOW else _elsewhere(place, runner)
    if place.dry_run:
        wanted.append("--dry_run=true")
    arguments = [*wanted, *place.beam]  # what stands last counts
    _check_values(beam_options(arguments))
    return arguments


def _check_values(options: PipelineOptions) -> None:
    """Refuses a project and a bucket that Beam would refuse; it looks for the bucket, which is left to the job.

    Raises: `UserError`.
    """
    if options.view_as(StandardOptions).runner != DATAFLOW:
        return
    cloud, validator = options.view_as(GoogleCloudOptions), PipelineOptionsValidator(options, None)
    if urlparse(cloud.dataflow_endpoint or "").netloc.startswith("localhost"):  # Beam checks nothing then
        return
    if found := [*validator.validate_cloud_options(cloud), *validator.validate_gcs_path(cloud, "temp_location")]:
        raise UserError(f"Beam refuses its options: {'; '.join(map(str, found))}")


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


def is_direct(options: PipelineOptions) -> bool:
    """Says whether Beam's local runner does the work."""
    return options.view_as(StandardOptions).runner in LOCAL


def is_multi_processing(options: PipelineOptions) -> bool:
    """Says whether the workers are processes of this machine."""
    return is_direct(options) and options.view_as(DirectOptions).direct_running_mode == "multi_processing"


def runs_here(options: PipelineOptions) -> bool:
    """Says whether the workers are threads of this process, so that its own counters tell the progress."""
    return is_direct(options) and not is_multi_processing(options)


def is_dataflow(options: PipelineOptions) -> bool:
    """Says whether Google's machines do the work."""
    return bool(options.view_as(StandardOptions).runner == DATAFLOW)


def has_containers(options: PipelineOptions) -> bool:
    """Says whether workers run in containers, which get this package from here; Docker is Beam's default elsewhere."""
    if options.view_as(StandardOptions).runner in (*LOCAL, *StandardOptions.LOCAL_RUNNERS):
        return False
    return is_dataflow(options) or options.view_as(PortableOptions).environment_type in (None, "DOCKER")


def is_dry(options: PipelineOptions) -> bool:
    """Says whether only to tell what would be done."""
    return bool(options.view_as(TestOptions).dry_run)


def check_in_reach(job: Job, options: PipelineOptions) -> None:
    """Refuses paths of this machine for workers on others.

    Raises: `UserError`.
    """
    if not is_dataflow(options):
        return  # clusters may share a file system
    places = {"--out": job.out, **{f"source {name}".rstrip(): root for name, root in job.source.roots.items()}}
    if Path(job.tokenizer).is_absolute():  # as a job has it where it lies here; else it is a name, an id or a URL
        places["--tokenizer"] = job.tokenizer
    places |= {f"--annotate {name}": path for name in job.annotate if (path := model(name))}
    for what, path in places.items():
        if not files.is_url(path):
            raise UserError(_UNSEEN.format(what=what, path=path))


def check_endpoint(options: PipelineOptions) -> None:
    """Looks whether somebody answers at the job server that was named: Beam itself would wait for ever.

    Raises: `UserError`.
    """
    endpoint = options.view_as(PortableOptions).job_endpoint
    if not endpoint or endpoint == "embed":
        return
    import grpc  # type: ignore[import-untyped,unused-ignore]

    with grpc.insecure_channel(endpoint) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ENDPOINT_SECONDS)
        except grpc.FutureTimeoutError:
            raise UserError(
                f"--job_endpoint {endpoint}: nobody answered for {ENDPOINT_SECONDS:.0f} s; expected the address of a "
                "Beam job server (host:port): start it, or mend the address"
            ) from None


def _names(arguments: Sequence[str]) -> set[str]:
    return {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}


def _dataflow(place: Place, out: str, given: set[str]) -> list[str]:
    """Returns what a Dataflow job needs and Beam was not given."""
    if not files.is_url(out):
        raise UserError(_UNSEEN.format(what="--out", path=out))
    if place.gpu and place.tpu:
        raise UserError(f"--gpu {place.gpu} and --tpu {place.tpu}: a worker has one or the other; leave one out")
    if place.region and not re.fullmatch(REGION, place.region):
        raise UserError(f"--region {place.region} is none of Google Cloud's, such as europe-west4 or us-central1")
    if place.temp_location and not place.temp_location.startswith("gs://"):
        raise UserError(f"--temp-location is {place.temp_location}; Dataflow's files go to a bucket: give gs://...")
    kind = gpu(place.gpu) if place.gpu else tpu(place.tpu) if place.tpu else None
    if kind is None and place.devices_per_worker:
        raise UserError("--devices-per-worker counts GPUs or TPUs: give --gpu or --tpu, too")
    devices = kind.devices(place.devices_per_worker) if kind else 0
    wanted = {
        "--project": place.project,
        "--region": place.region,
        "--temp_location": place.temp_location or _bucket_of(out),
        "--job_name": _job_name(out),
        "--sdk_container_image": place.image,
        "--machine_type": kind.machines[devices] if kind else CPU_MACHINE,
        "--disk_size_gb": ACCELERATOR_DISK_GB if kind else DISK_GB,
        "--number_of_worker_harness_threads": max(devices, 1) + 1,  # units at once: no device waits for one
        "--max_num_workers": place.workers,
    }
    missing = [name for name in ("--project", "--region", "--temp_location") if not wanted[name] and name not in given]
    if missing:
        raise UserError(f"{DATAFLOW} needs {', '.join(missing).replace('_', '-')}: see docs/dataflow.md")
    wanted["--sdk_container_image"] = place.image or _image(kind, place, given)
    # One process on a worker: it loads the network once and has all devices; a second one would find them taken.
    arguments = ["--experiments=no_use_multiple_sdk_containers"]
    if kind:
        arguments.append(f"--dataflow_service_options={kind.option(devices)}")
    arguments += [f"{name}={value}" for name, value in wanted.items() if value is not None and name not in given]
    return [f"--runner={DATAFLOW}", "--no_save_main_session", *arguments]


def _bucket_of(out: str) -> str | None:
    """Returns a folder for temporary files in the bucket of the dataset."""
    return f"gs://{out.removeprefix('gs://').partition('/')[0]}/visent-temp" if out.startswith("gs://") else None


def _job_name(out: str) -> str:
    """Names the job after its dataset: Dataflow refuses to run two jobs of one name at once."""
    name = "".join(char if char.isalnum() and char.isascii() else "-" for char in files.name(out).lower())
    return f"visent-{name[:40].strip('-') or 'dataset'}-{hashlib.sha256(out.encode()).hexdigest()[:8]}"


def _image(kind: Accelerator | None, place: Place, given: set[str]) -> str | None:
    """Returns where docs/dataflow.md puts the image: the project's own registry; there is no public one."""
    if "--sdk_container_image" in given:
        return None
    if not place.project or not place.region:
        raise UserError("give --image: its place follows from --project and --region, which stand after --")
    target = "beam-cpu" if kind is None else "beam-tpu" if kind.topologies else "beam-cuda"
    return f"{place.region}-docker.pkg.dev/{place.project}/visent/{target}:{__version__}"


def _elsewhere(place: Place, runner: str | None) -> list[str]:
    """Returns what local processes, or a cluster, need."""
    for flag in ("project", "region", "temp_location", "gpu", "tpu", "devices_per_worker"):
        if getattr(place, flag) is not None:
            raise UserError(
                f"--{flag.replace('_', '-')} is for Dataflow: add --runner {DATAFLOW}, or leave it out; local workers "
                "use what the machine has"
            )
    wanted = [] if runner is None else [f"--runner={runner}"]
    if runner in LOCAL:
        if place.image:
            raise UserError("--image is for workers in containers: name a --runner, or leave it out")
        if place.workers and place.workers > 1:
            wanted += ["--direct_running_mode=multi_processing", f"--direct_num_workers={place.workers}"]
        return wanted
    if place.image:
        wanted += ["--environment_type=DOCKER", f"--environment_config={place.image}"]
    if place.workers and runner != "FlinkRunner":
        raise UserError(
            f"--workers is for local processes, Dataflow and Flink; {runner} takes what its cluster gives it"
        )
    return wanted + ([f"--parallelism={place.workers}"] if place.workers else [])
