"""Runs and folders of transformers for tests of the exchange between them."""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np

from manifests.lock import Lock
from trainer import model as llama
from trainer.checkpoint import Checkpoints, Keep
from trainer.config import ModelConfig, RunConfig, StageConfig
from trainer.exchange import weights
from trainer.exchange.settings import OURS, to_config
from trainer.exchange.tensors import take, tensors
from trainer.run_facts import RunFacts
from trainer.run_folder import RunFolder, SavedRun, open_run


def large_params(model: ModelConfig, codebook: np.ndarray | None = None) -> llama.Params:
    """Weights so large that scores are far apart at any width, and norms that are not all one."""
    rng = np.random.default_rng(1)
    scale = 85 * model.hidden**-0.5
    fresh = llama.init(model, 1, codebook)
    return jax.tree.map(lambda x: x * scale if x.std() > 0 else x * rng.uniform(0.5, 1.5, x.shape).astype("f4"), fresh)


def write_run(root: Path, lock: Lock, model: ModelConfig, params: llama.Params) -> SavedRun:
    """Writes a run whose checkpoint of step 7 has these parameters."""
    stage = StageConfig(steps=7, batch_sentences=4, learning_rate=1e-3, final_learning_rate=1e-4, context=64)
    config = RunConfig(recipe="tiny", model=model, stages={"sequences": stage})
    facts = RunFacts(config=config, lock_digest=lock.digest, fingerprint=lock.card.fingerprint)
    RunFolder(root).write(facts, lock)
    with Checkpoints(RunFolder(root).checkpoints, Keep()) as checkpoints:
        checkpoints.save_params(7, params, facts)
    return open_run(root)


def write_foreign(folder: Path, model: ModelConfig, params: llama.Params, **changes: object) -> Path:
    """Writes a folder that says nothing of visent; `changes` replace entries of its config.json."""
    folder.mkdir()
    weights.write(folder, tensors(model), partial(take, params), "float32", 20_000)
    config = {name: value for name, value in to_config(model, 64, "float32", {}).items() if name != OURS}
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder
