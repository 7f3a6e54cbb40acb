"""LVM's evaluation (Bai et al., 2023), as far as its figures are known: foreground segmentation, perplexity by task."""

from trainer.generate import Sampling
from trainer.protocols.delvm import FOLDS, foreground
from trainer.protocols.part import Protocol


def lvm() -> Protocol:
    """Four splits of Pascal-5i with five pairs, drawn at temperature 1.

    Five is what LVM's page says of its perplexity by task; of its foreground segmentation it says nothing: our reading.
    Its code draws at temperature 1 and names no top-k: 100 is LVM-Lite's.
    """
    return Protocol(
        name="lvm",
        about="LVM's foreground segmentation on Pascal-5i, with 5 pairs, and perplexity by task",
        parts=tuple(foreground(fold, pairs=5, sampling=Sampling()) for fold in range(FOLDS)),
    )
