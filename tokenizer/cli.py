"""The commands of `visent tokenizer`, one file each in `commands/`."""

import click

from tokenizer.commands.card import card
from tokenizer.commands.check import check
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
      visent tokenizer check openMUSE/vqgan-f16-8192-laion photos/
      visent tokenizer encode photos/ --out codes.npz
      visent tokenizer eval photos/ --sheet round-trips.png
      visent tokenizer train photos/ more-photos/ --out my-tokenizer
    """


for command in (card, check, encode, decode, evaluate, convert, train):
    tokenizer.add_command(command)
