"""`visent tokenizer card`: what decides a tokenizer's tokens."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tokenizer.card import TokenizerCard


@click.command()
@click.argument("name_or_path", default="default")
def card(name_or_path: str) -> None:
    """Print the card of a tokenizer: what decides its tokens, and where it comes from.

    \b
    Example:
      visent tokenizer card
      visent tokenizer card my-tokenizer
    """
    from tokenizer.load import load_card

    print_card(load_card(name_or_path))


def print_card(shown: "TokenizerCard") -> None:
    """Prints a card as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"tokenizer {shown.name}", show_header=False)
    table.add_row("fingerprint", shown.fingerprint)
    for key, value in shown.to_json().items():
        if key not in ("name", "about"):
            table.add_row(key, str(value))
    for key, value in shown.about.items():
        table.add_row(key, value)
    Console().print(table)
