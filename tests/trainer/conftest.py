"""A small random corpus with a manifest of both stages, and a run of a few steps over it."""

import dataclasses
from pathlib import Path

import pytest

from manifests.lock import Lock, resolve
from manifests.testing import write_random_dataset
from trainer import recipes
from trainer.config import ModelConfig, RunConfig, StageConfig

MANIFEST = """\
version = 1

[datasets]
photos = "photos"
pairs = "pairs"
rare = "rare"

[tasks.photos]
dataset = "photos"
kind = "single"
sentence = ["image"]

[tasks.edge]
dataset = "pairs"
kind = "discriminative"
sentence = ["image", "edge"]

[tasks.rare]
dataset = "rare"
kind = "generative"
sentence = ["depth", "image"]

[stages.images]
context = 16
share = { photos = 1.0 }

[stages.sequences]
context = 64
share = { photos = 0.5, edge = 0.25, rare = 0.25 }
"""

MODEL = ModelConfig(name="mini", hidden=32, mlp=48, heads=2, layers=2, codebook_size=64)


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest whose task `rare` has no held-out rows; 16 tokens per image, 64 codes."""
    folder = tmp_path_factory.mktemp("corpus")
    write_random_dataset(str(folder / "photos"), {"image": "still"}, examples={"train": 40, "val": 6})
    pair: dict = {"image": "still", "edge": "still"}
    write_random_dataset(str(folder / "pairs"), pair, examples={"train": 24, "val": 5})
    write_random_dataset(str(folder / "rare"), {"image": "still", "depth": "still"}, examples={"train": 4})
    path = folder / "manifest.toml"
    path.write_text(MANIFEST)
    return path


@pytest.fixture(scope="session")
def lock(manifest: Path) -> Lock:
    """The lock of the manifest."""
    return resolve(str(manifest))


@pytest.fixture(scope="session")
def config() -> RunConfig:
    """Six steps of images, then five of sequences, with a line and a checkpoint every other step."""
    images = StageConfig(steps=6, batch_sentences=8, learning_rate=1e-2, final_learning_rate=1e-3, warmup_steps=2)
    sequences = StageConfig(steps=5, batch_sentences=4, learning_rate=3e-3, final_learning_rate=1e-4)
    stages = {"images": images, "sequences": sequences}
    tiny = recipes.make("tiny")
    return dataclasses.replace(tiny, model=MODEL, stages=stages, log_every=1, checkpoint_every=2)


@pytest.fixture(scope="session")
def model() -> ModelConfig:
    """Two layers, 32 wide, 64 codes."""
    return MODEL
