"""The commands of `visent tokenizer`, one file each in `commands/`."""

import click

from tokenizer.commands.card import card
from tokenizer.commands.convert import convert
from tokenizer.commands.decode import decode
from tokenizer.commands.encode import encode
from tokenizer.commands.evaluate import evaluate
from tokenizer.commands.train import train


@click.group()
def tokenizer() -> None:
    """Train, inspect and judge tokenizers.

    \b
    Example:
      visent tokenizer card default
      visent tokenizer eval photos/ --sheet round-trips.png
      visent tokenizer train photos/ more-photos/ --out my-tokenizer
    """


for command in (card, encode, decode, evaluate, train, convert):
    tokenizer.add_command(command)
