"""The options that choose a tokenizer, the same in every command."""

from collections.abc import Callable

import click


def choose_tokenizer(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --tokenizer, which arrives as `name_or_path`, and what `load` takes by the same name."""
    options = [
        click.option("--tokenizer", "name_or_path", default="default", show_default=True,
                     help="Its name, folder, checkpoint, gs:// URL or Hugging Face id."),
        click.option("--precision", metavar="NAME",
                     help="Of the network's arithmetic: float32, bfloat16, ... Default: the card's."),
    ]  # fmt: skip
    command = foreign_facts(command)
    for option in reversed(options):
        command = option(command)
    return command


def foreign_facts(command: Callable[..., None]) -> Callable[..., None]:
    """Adds what shapes of a foreign checkpoint do not tell; `load` and `open_tokenizer` take it by the same names."""
    options = [
        click.option("--signed-pixels/--unsigned-pixels", default=None,
                     help="Of a foreign checkpoint: pixels in [-1, 1] (or [0, 1]), where that is not its custom."),
        click.option("--image-size", type=click.IntRange(min=1), metavar="PIXELS",
                     help="Of a foreign checkpoint: the side of its images, where that is not 256."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def choose_preset(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --preset, which `load` takes too."""
    text = "How a picture becomes a square: crop or squash. Default: the card's."
    return click.option("--preset", metavar="NAME", help=text)(command)


def max_reject_fraction(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --max-reject-fraction, as `visent tokenize` has it."""
    return click.option(
        "--max-reject-fraction", type=click.FloatRange(0, 1), default=0.05, show_default=True,
        help="Fail when more than this part of the pictures cannot be read.",
    )(command)  # fmt: skip
