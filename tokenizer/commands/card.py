"""`visent tokenizer card`: what decides a tokenizer's tokens."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tokenizer.card import TokenizerCard


@click.command()
@click.argument("name_or_path", default="default")
def card(name_or_path: str) -> None:
    """Print what decides a tokenizer's tokens.

    That is its card; it also says where the weights come from. NAME_OR_PATH is a name, folder, checkpoint, URL or
    Hugging Face id.

    \b
    Example:
      visent tokenizer card
      visent tokenizer card my-tokenizer
    """
    from tokenizer.load import load_card

    print_card(load_card(name_or_path))


def print_card(shown: "TokenizerCard") -> None:
    """Prints a card as a table."""
    from tokenizer.commands.report import print_table

    deciding = [(key, str(value)) for key, value in shown.to_json().items() if key not in ("name", "about")]
    print_table(f"tokenizer {shown.name}", [("fingerprint", shown.fingerprint), *deciding, *shown.about.items()])
