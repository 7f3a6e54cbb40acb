# mypy: disable-error-code="no-untyped-call"
"""What a job would do (`--dry-run`): its shards, options and graph and, for Dataflow, the job as Google gets it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_runner_api_pb2

from pipelines.job import Job, Work, finished
from pipelines.runners.handout import names_of
from pipelines.runners.options import check_in_reach, is_dataflow, is_direct, is_dry
from pipelines.runners.runner import add_steps, package, pipeline_for
from visent.errors import UserError

SHOWN = 5  # shards listed


class DryRun(Exception):  # noqa: N818 - it is no error
    """Ends a command in place of its work; the text says what the work would be."""


def stop_if_dry(job: Job, works: Sequence[Work], digest: str, options: PipelineOptions) -> None:
    """Does nothing unless a dry run is wanted.

    Raises:
        DryRun: with what would be done. Nothing was written or submitted.
        UserError: Beam would refuse the job.
    """
    if is_dry(options):
        done = finished(job, [work.file(job.format) for work in works], digest)
        todo = [work for work in works if work.file(job.format) not in done]
        raise DryRun("\n".join(_lines(job, works, todo, digest, options)))


def _lines(
    job: Job, works: Sequence[Work], todo: Sequence[Work], digest: str, options: PipelineOptions
) -> Iterator[str]:
    yield f"dry run of {job.name}: nothing is written, nothing is submitted"
    yield ""
    yield from _plan(job, works, todo)
    yield ""
    yield "options"
    given = sorted(options.get_all_options(drop_default=True).items())
    yield from [f"  {name} = {value}" for name, value in given if name != "dry_run"] or ["  Beam's own"]
    described = describe(job, todo, digest, options)
    yield ""
    yield "graph"
    yield from (f"  {name}: {kind}" for name, kind in stages(described.graph))
    if described.environment:
        yield ""
        yield "job as Dataflow gets it"
        yield json.dumps(described.environment, indent=1, sort_keys=True)


def _plan(job: Job, works: Sequence[Work], todo: Sequence[Work]) -> Iterator[str]:
    items = [item for work in todo for item in work.unit.items]
    estimate = job.source.estimate(items)
    views = sum(work.views[1] - work.views[0] + 1 for work in todo) / max(len(todo), 1)
    pictures = (
        "" if estimate is None else f", about {round(estimate * views * len(job.schema.roles)):,} images to encode"
    )
    yield f"plan: {len(todo):,} of {len(works):,} shards to make, {len(items):,} items of the source{pictures}"
    yield f"  from {', '.join(f'{name}={root}' if name else root for name, root in job.source.roots.items())}"
    yield f"  with tokenizer {job.tokenizer} ({job.card.fingerprint})"
    yield f"  to {job.out}"
    yield from (f"    {work.file(job.format)}" for work in todo[:SHOWN])
    if len(todo) > SHOWN:
        yield f"    ... and {len(todo) - SHOWN:,} more"


@dataclass(frozen=True, kw_only=True)
class Description:
    """A job in Beam's terms; `environment` is Dataflow's own part: machines, accelerators, image, experiments."""

    graph: beam_runner_api_pb2.Pipeline
    environment: Mapping[str, Any]


def describe(job: Job, works: Sequence[Work], digest: str, options: PipelineOptions) -> Description:
    """Translates the job with the SDK, up to where it would be sent.

    Raises: `UserError` when Beam refuses it, or Google's packages are not installed.
    """
    check_in_reach(job, options)
    with package(options):
        pipeline = pipeline_for(options, None if is_direct(options) else options.view_as(StandardOptions).runner)
        add_steps(pipeline, job, names_of(works), digest, is_direct(options))
        if not is_dataflow(options):
            return Description(graph=pipeline.to_runner_api(), environment={})
        try:
            translated: Any = pipeline.run()  # Beam's own dry run: all but sending
        except ImportError:
            raise UserError("Google's client for Dataflow is not installed: pip install 'visent[dataflow]'") from None
    return Description(graph=translated.job.proto_pipeline, environment=_environment(translated.job))


def _environment(job: Any) -> Mapping[str, Any]:
    """Returns the part of Dataflow's job that Beam fills in while it sends."""
    from apache_beam.runners.dataflow.internal import apiclient
    from google.protobuf import json_format

    where = job.options.view_as(GoogleCloudOptions).staging_location
    job.proto.environment = apiclient.Environment(
        packages=staged(job.proto_pipeline), options=job.options, environment_version="8",
        proto_pipeline_staged_url=f"{where}/pipeline.pb", proto_pipeline=job.proto_pipeline,
    ).proto  # fmt: skip
    described = dict(json_format.MessageToDict(job.proto._pb))
    del described["environment"]["sdkPipelineOptions"]  # every option there is, once more
    return described


def staged(graph: beam_runner_api_pb2.Pipeline) -> list[str]:
    """Returns the names of the files that go to the workers with the job."""
    payload = beam_runner_api_pb2.ArtifactStagingToRolePayload
    return [
        payload.FromString(artifact.role_payload).staged_name
        for environment in graph.components.environments.values()
        for artifact in environment.dependencies
    ]


def stages(graph: beam_runner_api_pb2.Pipeline) -> list[tuple[str, str]]:
    """Returns the name and the kind of each step that is not made of others, in the order of the data."""
    steps = graph.components.transforms
    found: list[tuple[str, str]] = []
    waiting = list(reversed(graph.root_transform_ids))
    while waiting:
        step = steps[waiting.pop()]
        if step.subtransforms:
            waiting.extend(reversed(step.subtransforms))
        elif step.spec.urn:
            found.append((step.unique_name, step.spec.urn.removeprefix("beam:transform:")))
    return found
