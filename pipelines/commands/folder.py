"""`visent tokenize folder`."""

from typing import Any

import click

from pipelines.commands.common import beam_arguments, holdout_option, items_per_shard_option, run_job, source_options


@click.command()
@click.argument("roots", nargs=-1, required=True, metavar="ROOT... [-- BEAM OPTIONS]")
@click.option("--video-stills", type=float, metavar="FPS", help="Also take this many frames per second from videos.")
@items_per_shard_option(2048, "Pictures (or videos)")
@holdout_option
@source_options
def folder(roots: tuple[str, ...], video_stills: float | None, items_per_shard: int, **common: Any) -> None:
    """Every picture below the folders is one row.

    A picture's key is its path without ending. Files are recognised by content; what cannot be decoded is listed in
    *.rejects.jsonl with its reason. A folder may be a URL, such as gs://bucket/photos.

    \b
    Example:
      visent tokenize folder photos/ clips/ --video-stills 2 --annotate edge --out corpus/photos
    """
    from pipelines.sources.folder import FolderSource

    paths, beam = beam_arguments(roots)
    source = FolderSource(paths=tuple(paths), items_per_unit=items_per_shard, video_stills=video_stills)
    run_job(source, beam, **common)
