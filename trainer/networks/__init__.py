"""Networks that judge generated pictures and clips: given by path, named beside every figure, never swapped."""
