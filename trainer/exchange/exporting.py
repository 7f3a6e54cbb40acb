"""A run's newest checkpoint as a folder that transformers loads."""

import json
import shutil
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import jax

from manifests import files
from trainer.config import ComputeConfig
from trainer.exchange import weights
from trainer.exchange.readme import readme
from trainer.exchange.settings import to_config, to_generation_config
from trainer.exchange.tensors import learned, take, tensors
from trainer.mesh import make_mesh
from trainer.run_folder import SavedRun
from visent import __version__
from visent.errors import UserError


def export(run: SavedRun, out: Path, dtype: str = "float32", file_bytes: int = 2 * 10**9) -> None:
    """Writes the folder; it appears when it is whole.

    Parameters are spread over all devices here, and no more than one file's tensors are copied at once.

    Raises:
        UserError: `out` is there already or cannot be written, or a number does not fit the type.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is already there: name another --out, or delete it")
    partial_folder = out.with_name(f"{files.TEMPORARY}{uuid.uuid4().hex[:12]}-{out.name}")
    try:
        partial_folder.mkdir(parents=True)
        _write(run, partial_folder, dtype, file_bytes)
        partial_folder.replace(out)
    except OSError as error:
        raise files.cannot_write(out, error) from error
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)


def _write(run: SavedRun, folder: Path, dtype: str, file_bytes: int) -> None:
    model = run.config.model
    mesh = make_mesh(ComputeConfig(data=1, fsdp=jax.device_count()))
    params = learned(run.params(mesh), model)
    weights.write(folder, tensors(model), partial(take, params), dtype, file_bytes)
    config = to_config(model, positions(run), dtype, _made_of(run))
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", to_generation_config(model))
    (folder / "README.md").write_text(readme(run), encoding="utf-8")


def positions(run: SavedRun) -> int:
    """Returns the longest input that the model was trained for, the begin token and a whole sentence."""
    longest = max((stage.context or 0 for stage in run.config.stages.values()), default=0)
    return longest + (run.config.model.begin is not None)


def _made_of(run: SavedRun) -> dict[str, Any]:
    """Returns what transformers has no field for."""
    model, card = run.config.model, run.lock.card
    return {
        "version": __version__,
        "model": model.name,
        "recipe": run.config.recipe,
        "step": run.step,
        "codebook_size": model.codebook_size,
        "begin_token": model.begin,
        "tokens_per_image": card.tokens_per_image,
        "tokenizer": {"name": card.name, "fingerprint": card.fingerprint},
        "lock_digest": run.facts.lock_digest,
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
