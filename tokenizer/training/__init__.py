"""Training of a tokenizer: pictures, losses, steps, checkpoints."""
