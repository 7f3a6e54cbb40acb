"""Checkpoint layouts: where each project keeps the same weights, and how they are read and written.

`read` takes any of them and gives a `Checkpoint`; `write` puts one down in any layout that can hold it.
"""

from tokenizer.checkpoints.checkpoint import Checkpoint
from tokenizer.checkpoints.reading import read
from tokenizer.checkpoints.writing import LAYOUTS, write

__all__ = ["LAYOUTS", "Checkpoint", "read", "write"]
