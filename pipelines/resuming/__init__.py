"""Going on with a dataset: what it was made of, more input, and rejects tried again."""
