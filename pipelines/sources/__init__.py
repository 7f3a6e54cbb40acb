"""Where examples come from: one module per layout on disk."""
