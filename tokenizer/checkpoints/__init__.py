"""Checkpoint layouts: where each project keeps the same weights, and how they are read and written."""
