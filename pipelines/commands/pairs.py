"""`visent tokenize pairs`."""

from collections.abc import Sequence
from typing import Any

import click

from pipelines.commands.common import beam_arguments, holdout_option, items_per_shard_option, run_job, source_options


@click.command()
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
@items_per_shard_option(2048, "Pairs")
@holdout_option
@source_options
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
    half or another shape is rejected. Folders may be URLs, such as gs://bucket/nyu.

    \b
    Examples:
      visent tokenize pairs nyu/ --out corpus/depth            (nyu/image/*.jpg, nyu/depth/*.png)
      visent tokenize pairs 'image=nyu/rgb_*.jpg' 'depth=nyu/sync_depth_*.png' --depth-is distance --out corpus/depth
    """
    from pipelines.sources.pairs import PairsSource, roles_below

    given, beam = beam_arguments(roles)
    paths = roles_below(given[0]) if len(given) == 1 and "=" not in given[0] else _named(given)
    source = PairsSource(paths=paths, items_per_unit=items_per_shard, depth=("depth", *depth), labels=labels,
                         depth_is=depth_is)  # fmt: skip
    run_job(source, beam, **common)


def _named(given: Sequence[str]) -> dict[str, str]:
    from visent.errors import UserError

    paths = {}
    for text in given:
        role, equals, path = text.partition("=")
        if not equals or not path or role in paths:
            raise UserError(f"{text!r} is no new ROLE=FOLDER; give for example image=photos/ depth=depth/")
        paths[role] = path
    return paths
