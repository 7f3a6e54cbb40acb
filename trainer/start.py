"""The state before a run's first step: fresh, or with the parameters that another run learned."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32

from manifests.lock import Lock
from tokenizer.card import NOT_DECIDING, TokenizerCard
from trainer.config import ModelConfig, RunConfig
from trainer.model import any_codebook
from trainer.run_facts import differences
from trainer.run_folder import SavedRun, open_run
from trainer.sampling import load_tokenizer
from trainer.step import TrainState, make_state
from visent.errors import UserError

FREE = ("name", "init_std")  # fields of a model that decide nothing once there are parameters


def first_state(config: RunConfig, lock: Lock, mesh: Mesh) -> TrainState:
    """Returns the state of step 0 on a mesh: the optimizer's moments are always fresh.

    Raises:
        UserError: `config.start` has no checkpoint, or is a run of another tokenizer or model; or the model embeds with
            the tokenizer's codebook, and `config.tokenizer` is another.
    """
    if config.start is None:
        return make_state(config, mesh, codebook(config, lock))
    saved = open_start(config.start, config.model, lock.card)
    fresh = make_state(config, mesh, any_codebook(config.model))
    jax.tree.map(lambda array: array.delete(), fresh.params)  # there may be no room for both
    return fresh._replace(params=saved.params(mesh))


def codebook(config: RunConfig, lock: Lock) -> Float32[np.ndarray, "k w"] | None:
    """Returns the codebook that a fresh model embeds with, or None where it learns its embedding.

    Raises:
        UserError: `config.tokenizer` is not the one that made the tokens.
    """
    return load_tokenizer(config.tokenizer, lock).codebook if config.model.embedding == "codebook" else None


def open_start(root: str, model: ModelConfig, card: TokenizerCard) -> SavedRun:
    """Opens the run at `root` to start a run of `model` on tokens of `card` from its newest checkpoint.

    Raises:
        UserError: it has no checkpoint, or is a run of another tokenizer or model; the message names the differences.
    """
    saved = open_run(root)
    if saved.facts.fingerprint != card.fingerprint:
        found = "; ".join(differences(_deciding(saved.lock.card), _deciding(card)))
        raise UserError(
            f"--from {root} learned tokens of tokenizer {saved.lock.card.name!r} ({saved.facts.fingerprint}), the "
            f"manifest has those of {card.name!r} ({card.fingerprint}; {found}): start from a run of this tokenizer, "
            "or tokenize with the other"
        )
    found = "; ".join(differences(_shape(saved.config.model), _shape(model)))
    if found:
        raise UserError(
            f"--from {root} holds another model ({found}): leave --model and --set model.* out to take the model of "
            "that run, or start from another"
        )
    return saved


def _deciding(card: TokenizerCard) -> dict[str, Any]:
    return {name: value for name, value in card.to_json().items() if name not in NOT_DECIDING}


def _shape(model: ModelConfig) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(model).items() if name not in FREE}
