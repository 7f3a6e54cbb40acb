"""Small photos and a small training run for the tokenizer's tests."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_run import PALETTE, read

from tokenizer.training.pictures import Pictures


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four smooth coloured pictures of several sizes, in two folders."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(24):
        size = (int(rng.integers(40, 90)), int(rng.integers(40, 90)))
        picture = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        (root / f"part{i % 2}").mkdir(exist_ok=True)
        picture.save(root / f"part{i % 2}" / f"{i:03d}.png")
    return root


@pytest.fixture(scope="session")
def rendering_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve label maps: rectangles of eight colours, none of which mixes two of them."""
    root = tmp_path_factory.mktemp("renderings")
    rng = np.random.default_rng(1)
    for i in range(12):
        picture = Image.fromarray(PALETTE[rng.integers(0, 8, (5, 5))])
        size = (int(rng.integers(40, 90)), int(rng.integers(40, 90)))
        picture.resize(size, Image.Resampling.NEAREST).save(root / f"{i:03d}.png")
    return root


@pytest.fixture(scope="session")
def photos(photo_folder: Path) -> Pictures:
    return read(photo_folder)
