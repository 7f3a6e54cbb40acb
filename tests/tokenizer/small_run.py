"""What the default recipe does, on 32 x 32 pixels."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokenizer.testing import TINY
from tokenizer.training.config import TrainConfig
from tokenizer.training.pictures import Pictures

CONFIG = TrainConfig(
    network=dataclasses.replace(TINY, codebook_size=32),
    steps=40,
    batch_size=8,
    crop=16,
    full_every=4,
    free_steps=2,
    warmup_steps=4,
    learning_rate=3e-3,
    ema_decay=0.8,
    holdout=4,
    max_pictures=100,
    discriminator_channels=8,
    discriminator_layers=1,
)

# Corners of the colour cube, so that any mixture of two of them is seen as such.
PALETTE = np.array(list(itertools.product((0, 255), repeat=3)), np.uint8)


def read(*folders: Path, renderings: Sequence[tuple[Path, float]] = (), **changes: Any) -> Pictures:
    """Reads the pictures of some folders for that run."""
    shares = tuple(share for _, share in renderings)
    return Pictures(dataclasses.replace(CONFIG, rendering_shares=shares, **changes), folders, renderings)
