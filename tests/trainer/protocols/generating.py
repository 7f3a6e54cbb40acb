"""A run of random weights, cases for it, and what it makes of them, for tests of several processes too."""

from pathlib import Path

import jax
import numpy as np

from manifests.lock import Lock
from trainer import model as llama
from trainer.checkpoint import Checkpoints, Keep
from trainer.config import RunConfig
from trainer.generate import Sampling
from trainer.protocols.cases import Cases
from trainer.protocols.generation import generate_cases
from trainer.protocols.samples import Samples
from trainer.run_facts import RunFacts
from trainer.run_folder import RunFolder
from trainer.sampling import TrainedRun

COUNT, NEW = 150, 12  # samples, in three files; codes of each


def write_run(folder: Path, config: RunConfig, lock: Lock, seed: int = 1) -> Path:
    """Writes a run of weights large enough that scores are far apart."""
    params = jax.tree.map(lambda x: x * 20 if x.ndim > 1 else x, llama.init(config.model, seed))
    run, facts = RunFolder(folder), RunFacts(config=config, lock_digest=lock.digest, fingerprint=lock.card.fingerprint)
    run.write(facts, lock)
    with Checkpoints(run.checkpoints, Keep()) as checkpoints:
        checkpoints.save_params(7, params, facts)
    return folder


def make_cases(count: int = COUNT, new: int = NEW, prompt: int = 5) -> Cases:
    """Random prompts of 64 codes; their truth is not looked at while generating."""
    random = np.random.default_rng(0)
    prompts = random.integers(0, 64, (count, prompt)).astype(np.uint16)
    truth = random.integers(0, 64, (count, new)).astype(np.uint16)
    return Cases(
        keys=[f"picture {number}" for number in range(count)], prompt=prompts, new_tokens=new, truth_codes=truth,
        truth=lambda numbers: np.zeros((len(numbers), 1, 8, 8, 3), np.uint8),
    )  # fmt: skip


def make(run: TrainedRun, out: Path | str, cases: Cases, batch: int, seed: int = 0) -> Samples:
    """Generates them all in float32."""
    how = Sampling(seed=seed)
    return generate_cases(run, cases, how, out, name="seg to image", batch=batch, precision="float32")


def chunk_bytes(out: Path) -> dict[str, bytes]:
    """Returns what was written, by name without the folder."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("samples/*/*/*.npy"))}
