"""Small photos and a small training run for the tokenizer's tests."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_run import read

from tokenizer.training.pictures import Photos


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
def photos(photo_folder: Path) -> Photos:
    return read(photo_folder)
