"""The snippets of the README's 'Read from Python' do what it says of them."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import manifests
from manifests.corpus import Corpus
from manifests.lock import default_path, load_lock, resolve, write_lock
from manifests.testing import write_random_dataset

TEXT = """\
version = 1
[datasets]
d = "d"
[tasks.t]
dataset = "d"
kind = "single"
sentence = ["image"]
[stages.sequences]
context = 64
share = { t = 1 }
"""


def snippet(word: str) -> str:
    """Returns the block of code after the paragraph that begins with a word."""
    readme = (Path(manifests.__file__).parent / "README.md").read_text()
    section = readme.split("## Read from Python")[1].split("\n## ")[0]
    found = re.search(rf"\b{word}\b[^`]*```python\n(.*?)```", section, re.DOTALL)
    assert found, f"no block for {word} in the README"
    return found[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    roles: Any = {"image": "still"}
    write_random_dataset(str(tmp_path / "d"), roles, examples={"train": 100}, rows_per_shard=25)
    manifest = tmp_path / "manifest.toml"
    manifest.write_text(TEXT)
    write_lock(default_path(str(manifest)), resolve(str(manifest)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def batch(step: int) -> np.ndarray:
    numbers = np.arange(step * 32, (step + 1) * 32)
    return Corpus(load_lock("manifest.lock.json")).sentences("sequences", numbers, 0)[0]


def test_numpy(folder: Path) -> None:
    names: dict[str, Any] = {"step": 3}
    exec(snippet("numpy"), names)
    assert names["codes"].shape == (32, 64)
    assert names["codes"].dtype == np.uint16
    assert np.array_equal(names["codes"], batch(3))
    assert not np.array_equal(names["codes"], batch(4))


def test_jax(folder: Path) -> None:
    jax = pytest.importorskip("jax")
    names: dict[str, Any] = {"step": 3, "jax": jax}
    exec(snippet("numpy") + snippet("JAX"), names)
    assert np.array_equal(np.asarray(names["batch"]), batch(3))


TORCH = """\
import itertools, multiprocessing, sys
import torch
multiprocessing.set_start_method("fork")
torch.set_num_threads(1)
step = 3
{numpy}
{torch}
def take(loader, count):
    return np.stack([part.numpy() for part in itertools.islice(iter(loader), count)])
without = torch.utils.data.DataLoader(Batches("manifest.lock.json", "sequences", 32, step), batch_size=None)
np.save("two.npy", take(loader, 5))
np.save("none.npy", take(without, 5))
"""


def test_pytorch_goes_on_from_a_step_and_reads_the_same_with_any_number_of_workers(folder: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed, and visent does not need it")
    script = folder / "script.py"
    script.write_text(TORCH.format(numpy=snippet("numpy"), torch=snippet("PyTorch")))
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    expected = np.stack([batch(step) for step in range(3, 8)])
    assert np.array_equal(np.load("two.npy"), expected)
    assert np.array_equal(np.load("none.npy"), expected)
