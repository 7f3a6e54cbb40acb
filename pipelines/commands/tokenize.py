"""`visent tokenize`: finds the command of a source, adds views to finished datasets, retries what was rejected."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from pipelines.commands.cloud import cloud_options, run_or_tell
from pipelines.commands.common import quiet_log, reject_option, report
from pipelines.sources.catalog import DATASETS, GENERAL
from visent.errors import unknown

BEAM = "pipelines.beam"  # where a context keeps the Beam options
WITHOUT_SOURCE = ("--views-from", "--retry-rejects")


class SourceGroup(click.Group):
    """The sources as commands, each imported when it is called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Takes the Beam options where no source is named; after a source's name they are that command's."""
        before = args[: args.index("--")] if "--" in args else args
        if len(before) < len(args) and any(
            text.split("=")[0] in ("--views-from", "--retry-rejects") for text in before
        ):
            ctx.meta[BEAM] = args[len(before) + 1 :]
            args = before
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all sources."""
        return [*GENERAL, *DATASETS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Builds the command of a source, or says which one was probably meant."""
        if cmd_name == "folder":
            from pipelines.commands.folder import folder

            return folder
        if cmd_name == "pairs":
            from pipelines.commands.pairs import pairs

            return pairs
        if cmd_name not in DATASETS:
            raise click.UsageError(str(unknown("source", cmd_name, self.list_commands(ctx))), ctx)
        from pipelines.commands.dataset import dataset_command

        return dataset_command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the names without importing anything."""
        with formatter.section("Sources (visent sources says more, visent tokenize NAME --help all)"):
            formatter.write_text(", ".join(self.list_commands(ctx)))


@click.group(cls=SourceGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--views-from", type=click.Path(dir_okay=False), help="Add the views that this manifest asks for.")
@click.option("--dataset", help="With --views-from: only this dataset of the manifest.")
@click.option(
    "--retry-rejects",
    multiple=True,
    metavar="CORPUS",
    help="Try again what was rejected in this dataset, or in those of this folder; may be given several times.",
)
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    metavar="NAME",
    help="With --retry-rejects: only what was rejected for this reason, or at this stage (list, read, decode, "
    "align); may be given several times.",
)
@reject_option("With --retry-rejects: finish a dataset that was unfinished for its rejects when no more are left.")
@cloud_options
@click.pass_context
def tokenize(
    context: click.Context,
    cloud: dict[str, Any],
    views_from: str | None,
    dataset: str | None,
    retry_rejects: tuple[str, ...],
    reasons: tuple[str, ...],
    max_reject_fraction: float,
) -> None:
    """Turn images, videos and annotated sets into shards of tokens.

    The work is cut into shards. Stop it at any time: the same command again keeps what is finished and ends with the
    same bytes. With more input, the same command makes shards of what is new. Options after -- go to Apache Beam.

    --retry-rejects reads again what could not be read, after files were mended or a network came back. Only shards
    that gain by it are written anew, as if nothing had failed; until then the dataset stays as it is.

    \b
    Examples:
      visent tokenize folder photos/ --out corpus/photos --annotate edge,gray,holes --holdout 0.05
      visent tokenize pairs image=rgb/ depth=depth/ --out corpus/depth
      visent tokenize videos --root clips/ --out corpus/clips --fps 5 --frames-per-clip 64
      visent tokenize webdataset --root datacomp/shards --out corpus/datacomp --workers 4
      visent tokenize folder gs://bucket/photos --out gs://bucket/corpus/photos --dry-run \\
          --runner DataflowRunner --project my-project --region europe-west4 --gpu nvidia-l4 --workers 20
      visent tokenize --views-from manifest.toml --dataset depth --workers 4
      visent tokenize --retry-rejects corpus/photos --reason truncated --reason read
    """
    if context.invoked_subcommand is not None:
        if views_from or retry_rejects:
            raise click.UsageError(
                "--views-from and --retry-rejects work on datasets that are there; they take no source"
            )
        if stray := _given(context):
            raise click.UsageError(f"{stray[0]} stands before the source; give it after {context.invoked_subcommand!r}")
        return
    if views_from and retry_rejects:
        raise click.UsageError("give --views-from or --retry-rejects, one after the other")
    if reasons and not retry_rejects:
        raise click.UsageError("--reason chooses what --retry-rejects tries again: give that, too")
    if dataset and not views_from:
        raise click.UsageError("--dataset chooses one of the manifest of --views-from: give that, too")
    if not views_from and not retry_rejects and (stray := _given(context)):
        raise click.UsageError(f"{stray[0]} says how to run, but not on what: name a source, or --retry-rejects")
    beam = context.meta.get(BEAM, [])
    if views_from:
        _make_views(views_from, dataset, cloud, beam)
    elif retry_rejects:
        _retry(retry_rejects, reasons, max_reject_fraction, cloud, beam)
    else:
        click.echo(context.get_help())


def _given(context: click.Context) -> list[str]:
    """Returns the options that stand on the command line, before a source."""
    command_line = click.core.ParameterSource.COMMANDLINE
    return [param.opts[0] for param in context.command.params
            if param.name and context.get_parameter_source(param.name) == command_line]  # fmt: skip


def _retry(
    corpora: Sequence[str], reasons: Sequence[str], limit: float, cloud: dict[str, Any], beam: Sequence[str]
) -> None:
    quiet_log()
    from pipelines.datasets import datasets_at
    from pipelines.resuming.retry import retry_rejects

    for folder in [folder for corpus in corpora for folder in datasets_at(corpus)]:
        retry = partial(retry_rejects, folder, reasons, max_reject_fraction=limit)
        summary = run_or_tell(cloud, beam, folder, retry)
        if summary:
            report(summary)


def _make_views(manifest: str, dataset: str | None, cloud: dict[str, Any], beam: Sequence[str]) -> None:
    quiet_log()
    from pipelines.tokenize import tokenize_views
    from pipelines.views import wanted_views

    wanted = wanted_views(manifest, dataset)
    if not wanted:
        click.echo(
            f"nothing to make: {manifest} reads every dataset in one view; `visent manifest balance` asks for more"
        )
    for folder, views in wanted:
        summary = run_or_tell(cloud, beam, folder, partial(tokenize_views, folder, views))
        if summary:
            report(summary)
