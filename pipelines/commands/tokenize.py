"""`visent tokenize`: finds the command of a source, and adds views to finished datasets."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from pipelines.commands.cloud import cloud_options, run_or_tell
from pipelines.commands.common import quiet_log, report
from pipelines.sources.catalog import DATASETS, GENERAL
from visent.errors import unknown

BEAM = "pipelines.beam"  # where a context keeps the Beam options


class SourceGroup(click.Group):
    """The sources as commands, each imported when it is called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Takes the Beam options that follow --views-from; after a source's name they are that command's."""
        before = args[: args.index("--")] if "--" in args else args
        if len(before) < len(args) and any(text.split("=")[0] == "--views-from" for text in before):
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
@cloud_options
@click.pass_context
def tokenize(context: click.Context, cloud: dict[str, Any], views_from: str | None, dataset: str | None) -> None:
    """Turn images, videos and annotated sets into shards of tokens.

    The work is cut into shards. Stop it at any time: the same command again keeps what is finished and ends with the
    same bytes. Options after -- go to Apache Beam.

    \b
    Examples:
      visent tokenize folder photos/ --out corpus/photos --annotate edge,gray,holes --holdout 0.05
      visent tokenize pairs image=rgb/ depth=depth/ --out corpus/depth
      visent tokenize videos --root clips/ --out corpus/clips --fps 5 --frames-per-clip 64
      visent tokenize webdataset --root datacomp/shards --out corpus/datacomp -- --direct_num_workers=4 \\
          --direct_running_mode=multi_processing
      visent tokenize --views-from manifest.toml --dataset depth -- --direct_num_workers=4
    """
    if context.invoked_subcommand is not None:
        if views_from:
            raise click.UsageError("--views-from makes views of finished datasets; it takes no source")
        return
    if views_from is None:
        click.echo(context.get_help())
        return
    _make_views(views_from, dataset, cloud, context.meta.get(BEAM, []))


def _make_views(manifest: str, dataset: str | None, cloud: dict[str, Any], beam: Sequence[str]) -> None:
    quiet_log()
    from pipelines.tokenize import tokenize_views
    from pipelines.views import wanted_views

    for folder, views in wanted_views(manifest, dataset):
        summary = run_or_tell(cloud, beam, folder, partial(tokenize_views, folder, views))
        if summary:
            report(summary)
