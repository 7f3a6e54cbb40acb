"""Loads a tokenizer by name or path, whatever its layout."""

from tokenizer.checkpoints.folder import load

__all__ = ["load"]
