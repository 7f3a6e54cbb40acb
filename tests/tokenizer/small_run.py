"""What the default recipe does, on 32 x 32 pixels."""

import dataclasses
from pathlib import Path

from tokenizer.testing import TINY
from tokenizer.training.pictures import Photos
from tokenizer.training.train import TrainConfig

CONFIG = TrainConfig(
    network=dataclasses.replace(TINY, codebook_size=32),
    steps=40,
    batch_size=8,
    crop=16,
    full_every=4,
    free_steps=2,
    warmup_steps=4,
    learning_rate=3e-3,
    holdout=4,
)


def read(*folders: Path, holdout: int = 4, max_pictures: int = 100) -> Photos:
    """Reads the pictures of some folders for that run."""
    return Photos(folders, size=32, preset="crop", holdout=holdout, max_pictures=max_pictures)
