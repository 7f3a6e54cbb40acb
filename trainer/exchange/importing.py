"""A folder of Hugging Face's Llama as a run: its parameters, and the lock of a manifest with the same codes."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from manifests import files
from manifests.lock import Lock
from trainer import model as llama
from trainer.checkpoint import Checkpoints, Keep
from trainer.config import ModelConfig, RunConfig, StageConfig
from trainer.exchange import weights
from trainer.exchange.settings import Settings, read_settings
from trainer.exchange.tensors import HEAD, Tensor, put, tensors
from trainer.run_facts import RunFacts
from trainer.run_folder import RunFolder, shapes
from visent.errors import UserError

RECIPE = "imported"
_OLD_BUFFERS = "rotary_emb.inv_freq"  # frequencies that older folders carry; they follow from rope_theta
_EVALUATED_TOGETHER = 8  # sentences in each batch of an evaluation


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder whose files were checked against its settings."""

    path: Path
    settings: Settings
    stored: dict[str, weights.Stored]
    wanted: list[Tensor]


def open_folder(path: Path) -> Folder:
    """Reads the settings and the headers of the files of a folder.

    Raises:
        UserError: it is no folder of a Llama, or its files do not fit its settings.
    """
    settings = read_settings(path)
    any_model = settings.model(path.name, settings.vocabulary, None)
    wanted = [tensor for tensor in tensors(any_model) if not (settings.tied and tensor.name == HEAD)]
    stored = {name: one for name, one in weights.stored(path).items() if not name.endswith(_OLD_BUFFERS)}
    if settings.tied:
        stored.pop(HEAD, None)  # a copy of the embedding, where there is one
    weights.check(stored, wanted, path)
    return Folder(path=path, settings=settings, stored=stored, wanted=wanted)


def import_folder(folder: Folder, lock: Lock, out: str, begin: str = "auto") -> RunConfig:
    """Writes a run of step 0 that generates, is evaluated, teaches and is trained on as others do.

    `begin` is the token that begins sentences: a number, "none", or "auto" for what the folder says. Every stage of the
    lock is one of the run's, without steps.

    Raises:
        UserError: the folder's codes are not the lock's, `out` has a run already, or a file cannot be read or written.
    """
    model = model_of(folder, lock, begin)
    stages = {name: StageConfig(steps=0, batch_sentences=_EVALUATED_TOGETHER, learning_rate=0.0,
                                final_learning_rate=0.0, context=stage.context)
              for name, stage in lock.stages.items()}  # fmt: skip
    config = RunConfig(recipe=RECIPE, model=model, stages=stages)
    facts = RunFacts(config=config, lock_digest=lock.digest, fingerprint=lock.card.fingerprint)
    run = RunFolder(out)
    if files.list_names(run.checkpoints):
        raise UserError(f"{out} has checkpoints already: name another --out, or delete it")
    params = read_params(folder, model)
    run.write(facts, lock)
    with Checkpoints(run.checkpoints, Keep()) as checkpoints:
        checkpoints.save_params(0, params, facts)
    return config


def read_params(folder: Folder, model: ModelConfig) -> llama.Params:
    """Returns a folder's parameters as float32 arrays of numpy.

    Raises:
        UserError: a file cannot be read, or a number is not finite.
    """
    params: Any = jax.tree.map(lambda leaf: np.empty(leaf.shape, np.float32), shapes(model))
    weights.read(folder.stored, folder.wanted, partial(put, params))
    if folder.settings.tied:
        params["head"]["kernel"][...] = params["embedding"]["embedding"].T
    read: llama.Params = params
    return read


def model_of(folder: Folder, lock: Lock, begin: str) -> ModelConfig:
    """Returns the model of a folder over the codes of a lock.

    Raises:
        UserError: the folder says that its codes are others, has too few, or `begin` is no special token.
    """
    settings, card = folder.settings, lock.card
    made = settings.ours.get("tokenizer", {}).get("fingerprint")
    if made not in (None, card.fingerprint):
        raise UserError(
            f"{folder.path} was trained on codes of tokenizer {settings.ours['tokenizer'].get('name')!r} ({made}), the "
            f"manifest has those of {card.name!r} ({card.fingerprint}): pass the manifest of shards of that tokenizer"
        )
    if settings.vocabulary < card.codebook_size:
        raise UserError(
            f"{folder.path} has {settings.vocabulary} tokens, the tokenizer of the manifest ({card.name!r}) "
            f"{card.codebook_size} codes: pass the manifest of shards of the tokenizer that the model was trained on"
        )
    chosen = begin_token(settings, card.codebook_size, begin)
    return settings.model(str(settings.ours.get("model", folder.path.resolve().name)), card.codebook_size, chosen)


def begin_token(settings: Settings, codebook_size: int, begin: str) -> int | None:
    """Returns the token that begins sentences, or None.

    By itself a folder says so with a `bos_token_id` that is no code. LVM's public folders have transformers' default
    there, which is a code, and their prompts begin with the first image: none.

    Raises:
        UserError: `begin` is no special token of the folder.
    """
    if begin == "none":
        return None
    special = range(codebook_size, settings.vocabulary)
    if begin == "auto":
        return settings.begin if settings.begin in special else None
    if not begin.isdigit() or int(begin) not in special:
        known = f"{special.start} to {special.stop - 1}" if special else "none, as the model has no special tokens"
        raise UserError(f"--begin is {begin}: expected auto, none, or a special token: {known}")
    return int(begin)
