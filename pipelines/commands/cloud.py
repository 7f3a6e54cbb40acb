"""Where a tokenize command runs: here, in several processes, on Dataflow, on a cluster."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

NAMES = (
    "runner",
    "project",
    "region",
    "temp_location",
    "image",
    "gpu",
    "tpu",
    "devices_per_worker",
    "workers",
    "dry_run",
)


def cloud_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of where to run; the command gets them as one dictionary, `cloud`."""

    @functools.wraps(command)
    def gathered(*args: Any, **options: Any) -> Any:
        cloud = {name: options.pop(name) for name in NAMES}
        return command(*args, cloud=cloud, **options)

    options = [
        click.option("--workers", type=click.IntRange(min=1), metavar="N",
                     help="Worker processes here; on Dataflow the most machines, on Flink the parallelism."),
        click.option("--runner", metavar="NAME",
                     help="Where to run: DataflowRunner, FlinkRunner, SparkRunner, PortableRunner; here without it."),
        click.option("--project", metavar="ID", help="Dataflow: the Google Cloud project that pays."),
        click.option("--region", metavar="NAME", help="Dataflow: where the machines are; the bucket's is cheapest."),
        click.option("--gpu", metavar="TYPE", help="Dataflow: nvidia-l4, t4, v100, a100, a100-80gb or h100 on each "
                     "machine."),
        click.option("--tpu", metavar="TYPE", help="Dataflow: v5e, v5p or v6e on each machine."),
        click.option("--devices-per-worker", type=int, metavar="N", help="Dataflow: GPUs or TPU chips of a machine."),
        click.option("--image", metavar="URL", help="Container of the workers; on Dataflow "
                     "REGION-docker.pkg.dev/PROJECT/visent/beam-{cpu,cuda,tpu} without it."),
        click.option("--temp-location", metavar="URL", help="Dataflow: for its files; in the bucket of --out without "
                     "it."),
        click.option("--dry-run", is_flag=True, help="Print the plan, the options and the job, and stop. Nothing is "
                     "written or submitted."),
    ]  # fmt: skip
    decorated: Callable[..., Any] = gathered
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def run_or_tell(cloud: dict[str, Any], beam: Sequence[str], out: str, run: Callable[[list[str]], Any]) -> Any:
    """Calls `run` with Beam's options for a job that writes to `out`; prints what it would do in a dry run.

    Returns what `run` does, and None after a dry run.
    """
    from pipelines.runners.dryrun import DryRun
    from pipelines.runners.options import Place, arguments_at

    try:
        return run(arguments_at(Place(**cloud, beam=tuple(beam)), out))
    except DryRun as told:
        click.echo(str(told))
        return None
