"""The tokenizer: pixels to codes of a VQGAN and back, and the pictures that feed it."""
