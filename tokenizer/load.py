"""Loads a tokenizer by name or path, whatever its layout."""

from pathlib import Path
from typing import TYPE_CHECKING

from tokenizer.card import tokenizer_dir

if TYPE_CHECKING:
    from tokenizer.tokenizer import Tokenizer


def load(name_or_path: str | Path = "default") -> "Tokenizer":
    """Loads a tokenizer: `default` (shipped with visent) or a folder.

    Raises:
        UserError: it is missing, or its files do not belong together.
    """
    from tokenizer.checkpoints.folder import read_folder
    from tokenizer.checkpoints.network import build
    from tokenizer.tokenizer import Tokenizer

    checkpoint, card = read_folder(tokenizer_dir(name_or_path))
    return Tokenizer(build(checkpoint), card)
