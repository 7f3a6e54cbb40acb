"""The commands `visent tokenize`, `visent verify` and `visent show`."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipelines.sources.base import Source
    from pipelines.tokenize import Summary

FOLDER = click.Path(file_okay=False)


def _beam_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits what stands before `--` from the Beam options after it; click drops the `--` itself."""
    at = next((i for i, text in enumerate(arguments) if text.startswith("--")), len(arguments))
    return list(arguments[:at]), list(arguments[at:])


def _source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that every source has."""
    options = [
        click.option("--out", required=True, type=FOLDER, help="Folder of the dataset; its last part is the name."),
        click.option("--annotate", default="", metavar="NAMES", help="Roles to draw: edge,gray,holes."),
        click.option("--format", "format_", type=click.Choice(["parquet", "arrayrecord"]), default="parquet",
                     show_default=True, help="Of the shards."),
        click.option("--tokenizer", default="default", show_default=True,
                     help="Its name, folder, checkpoint, gs:// URL or Hugging Face id."),
        click.option("--preset", metavar="NAME", help="How a picture becomes a square: crop or squash."),
        click.option("--precision", metavar="NAME", help="Of the network's arithmetic: float32, tf32, bfloat16, ..."),
        click.option("--max-reject-fraction", type=float, default=0.05, show_default=True,
                     help="Fail when more than this part of the examples cannot be read."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _holdout(command: Callable[..., None]) -> Callable[..., None]:
    text = 'Part of the items put into split "val", by hash of their names.'
    return click.option("--holdout", type=float, default=0.0, show_default=True, help=text)(command)


def _items_per_shard(default: int, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option("--items-per-shard", type=int, default=default, show_default=True, help=f"{what} in one shard.")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--views-from", type=click.Path(dir_okay=False), help="Add the views that this manifest asks for.")
@click.option("--dataset", help="With --views-from: only this dataset of the manifest.")
@click.pass_context
def tokenize(context: click.Context, views_from: str | None, dataset: str | None) -> None:
    """Turn images, videos and annotated sets into shards of tokens.

    The work is cut into shards. Stop it at any time: the same command again keeps what is finished and ends with the
    same bytes. Options after -- go to Apache Beam.

    \b
    Examples:
      visent tokenize folder photos/ --out corpus/photos --annotate edge,gray,holes --holdout 0.05
      visent tokenize pairs image=rgb/ depth=depth/ --out corpus/depth
      visent tokenize videos clips/ --out corpus/clips --fps 5 --frames-per-clip 64
      visent tokenize webdataset datacomp/shards --out corpus/datacomp -- --direct_num_workers=4 \\
          --direct_running_mode=multi_processing
      visent tokenize --views-from manifest.toml --dataset depth
    """
    if context.invoked_subcommand is not None:
        if views_from:
            raise click.UsageError("--views-from makes views of finished datasets; it takes no source")
        return
    if views_from is None:
        click.echo(context.get_help())
        return
    _make_views(views_from, dataset, [])


def _make_views(manifest: str, dataset: str | None, beam: Sequence[str]) -> None:
    _quiet_log()
    from pipelines.tokenize import tokenize_views
    from pipelines.views import wanted_views

    for folder, views in wanted_views(manifest, dataset):
        _report(tokenize_views(folder, views, beam))


@tokenize.command()
@click.argument("roots", nargs=-1, required=True, metavar="ROOT... [-- BEAM OPTIONS]")
@click.option("--video-stills", type=float, metavar="FPS", help="Also take this many frames per second from videos.")
@_items_per_shard(2048, "Pictures (or videos)")
@_holdout
@_source_options
def folder(roots: tuple[str, ...], video_stills: float | None, items_per_shard: int, **common: Any) -> None:
    """Every picture below the folders is one row.

    A picture's key is its path without ending. Files are recognised by content; what cannot be decoded is listed in
    *.rejects.jsonl with its reason.

    \b
    Example:
      visent tokenize folder photos/ clips/ --video-stills 2 --annotate edge --out corpus/photos
    """
    from pipelines.sources.folder import FolderSource

    paths, beam = _beam_arguments(roots)
    source = FolderSource(paths=tuple(paths), items_per_unit=items_per_shard, video_stills=video_stills)
    _tokenize(source, beam, **common)


@tokenize.command()
@click.argument("roles", nargs=-1, required=True, metavar="ROOT | ROLE=FOLDER... [-- BEAM OPTIONS]")
@click.option(
    "--depth", multiple=True, metavar="ROLE", help="A role of depth maps (16-bit PNG, .npy, .npz); 'depth' is one."
)
@click.option(
    "--depth-is",
    type=click.Choice(["disparity", "distance"]),
    default="disparity",
    show_default=True,
    help="Whether larger depth values are nearer (disparity) or farther (distance).",
)
@click.option("--labels", multiple=True, metavar="ROLE", help="A role of class ids, painted with the palette of VOC.")
@_items_per_shard(2048, "Pairs")
@_holdout
@_source_options
def pairs(
    roles: tuple[str, ...],
    depth: tuple[str, ...],
    depth_is: Any,
    labels: tuple[str, ...],
    items_per_shard: int,
    **common: Any,
) -> None:
    """Files of the same name in one folder for each role are one row.

    Give a folder that holds one folder for each role, or each role with its folder, the input first. A folder may end
    in a file name with one *, which stands for the name that pairs. Other sizes in the same shape are fine; a missing
    half or another shape is rejected.

    \b
    Examples:
      visent tokenize pairs nyu/ --out corpus/depth            (nyu/image/*.jpg, nyu/depth/*.png)
      visent tokenize pairs 'image=nyu/rgb_*.jpg' 'depth=nyu/sync_depth_*.png' --depth-is distance --out corpus/depth
    """
    from pipelines.sources.pairs import PairsSource, roles_below

    given, beam = _beam_arguments(roles)
    paths = roles_below(given[0]) if len(given) == 1 and "=" not in given[0] else _named(given)
    source = PairsSource(paths=paths, items_per_unit=items_per_shard, depth=("depth", *depth), labels=labels,
                         depth_is=depth_is)  # fmt: skip
    _tokenize(source, beam, **common)


def _named(given: Sequence[str]) -> dict[str, str]:
    from visent.errors import UserError

    paths = {}
    for text in given:
        role, equals, path = text.partition("=")
        if not equals or not path or role in paths:
            raise UserError(f"{text!r} is no new ROLE=FOLDER; give for example image=photos/ depth=depth/")
        paths[role] = path
    return paths


@tokenize.command()
@click.argument("root", nargs=-1, required=True, metavar="ROOT [-- BEAM OPTIONS]")
@click.option("--fps", type=float, default=5.0, show_default=True, help="Frames per second of video, sampled by time.")
@click.option("--frames-per-clip", type=int, default=64, show_default=True, help="Frames in one row.")
@click.option("--stills", is_flag=True, help="Make each frame a row of role image instead.")
@_items_per_shard(64, "Videos")
@_holdout
@_source_options
def videos(
    root: tuple[str, ...], fps: float, frames_per_clip: int, stills: bool, items_per_shard: int, **common: Any
) -> None:
    """Every video below ROOT is cut into clips, each a row of role frames.

    \b
    Examples:
      visent tokenize videos ucf101/ --out corpus/ucf101 --fps 5 --frames-per-clip 64
      visent tokenize videos clips/ --stills --fps 2 --annotate edge --out corpus/stills
    """
    from pipelines.sources.videos import VideosSource

    path, beam = _one_root(root)
    source = VideosSource(root=path, items_per_unit=items_per_shard, fps=fps, frames_per_clip=frames_per_clip,
                          as_stills=stills)  # fmt: skip
    _tokenize(source, beam, **common)


@tokenize.command()
@click.argument("root", nargs=-1, required=True, metavar="ROOT [-- BEAM OPTIONS]")
@_holdout
@_source_options
def webdataset(root: tuple[str, ...], **common: Any) -> None:
    """Every tar below ROOT is one shard, every sample in it with a picture one row.

    Reads what img2dataset writes for DataComp and LAION: key.jpg, key.txt, key.json side by side.

    \b
    Example:
      visent tokenize webdataset datacomp/shards --out corpus/datacomp
    """
    from pipelines.sources.webdataset import WebdatasetSource

    path, beam = _one_root(root)
    _tokenize(WebdatasetSource(root=path), beam, **common)


def _one_root(given: Sequence[str]) -> tuple[str, list[str]]:
    paths, beam = _beam_arguments(given)
    if len(paths) != 1:
        raise click.UsageError(f"one ROOT is expected, got {len(paths)}: {' '.join(paths)}")
    return paths[0], beam


def _quiet_log() -> None:
    """Keeps Beam's log off the screen: its import warns of parts nobody needs, and its errors come as tracebacks."""
    if not os.environ.get("VISENT_TRACEBACK"):
        logging.disable(logging.CRITICAL)


def _tokenize(
    source: "Source",
    beam: Sequence[str],
    *,
    out: str,
    annotate: str,
    format_: Any,
    tokenizer: str,
    preset: str | None,
    precision: str | None,
    max_reject_fraction: float,
    holdout: float,
) -> None:
    _quiet_log()
    from pathlib import Path

    from pipelines.job import Job
    from pipelines.tokenize import tokenize as run

    folder = out if "://" in out else str(Path(out).absolute())
    names = tuple(name.strip() for name in annotate.split(",") if name.strip())
    job = Job(out=folder, name=folder.rstrip("/").rsplit("/", 1)[-1], source=source, annotate=names, format=format_,
              tokenizer=tokenizer, preset=preset, precision=precision, holdout=holdout)  # fmt: skip
    _report(run(job, beam, max_reject_fraction))


def _report(summary: "Summary") -> None:
    from rich.console import Console
    from rich.table import Table

    if summary.note:
        click.echo(f"note: {summary.note}", err=True)
    table = Table("", "value", title=f"dataset {summary.name}", title_justify="left")
    rows = [
        ("shards", f"{summary.units} ({summary.units_kept} finished before)"),
        ("rows", f"{summary.rows:,}"),
        ("rejected", str(sum(summary.rejects.values()))),
        *((f"  {reason}", str(count)) for reason, count in sorted(summary.rejects.items())),
        ("size", f"{summary.bytes / 1e6:,.2f} MB"),
    ]
    if summary.pictures:
        rows += [
            ("images encoded", f"{summary.pictures:,}"),
            ("images/s", f"{summary.pictures_per_second:,.1f}"),
            ("start-up", f"{summary.startup_seconds:.1f} s of {summary.seconds:.1f} s"),
        ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    click.echo(f"wrote {summary.out}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("datasets", nargs=-1, required=True, type=FOLDER, metavar="DATASET...")
def verify(datasets: tuple[str, ...]) -> None:
    """Check every shard of a dataset against its facts.

    Reads all bytes: checksums, rows, keys, roles and codes, receipts and facts. Ends with exit status 1 when anything
    is wrong.

    \b
    Example:
      visent verify corpus/photos corpus/clips
    """
    from pipelines.verify import report, verify_dataset

    if not report([verify_dataset(dataset) for dataset in datasets]):
        raise SystemExit(1)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("what", metavar="DATASET | MANIFEST")
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="PNG to write.")
@click.option("--count", type=int, default=8, show_default=True, help="Rows, or visual sentences, on the sheet.")
@click.option("--view", type=int, default=0, show_default=True, help="Of a dataset: the view to show.")
@click.option("--split", default="train", show_default=True, help="Split to show.")
@click.option("--stage", help="Of a manifest: the stage whose visual sentences are drawn.")
@click.option("--task", help="Of a manifest: only this task.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of a manifest: seed of the order of sentences.")
@click.option("--tokenizer", default=None, help="Tokenizer that decodes; the one that the dataset was made with.")
def show(what: str, out: str, **options: Any) -> None:
    """Draw rows or visual sentences as a contact sheet.

    What is drawn is decoded from the stored codes, so it shows what a model sees.

    \b
    Examples:
      visent show corpus/photos --out rows.png
      visent show manifest.toml --stage sequences --task depth --out sentences.png
    """
    from pipelines.show import show_dataset, show_manifest

    draw = show_manifest if what.endswith((".toml", ".json")) else show_dataset
    click.echo(f"wrote {draw(what, out, **options)}")
