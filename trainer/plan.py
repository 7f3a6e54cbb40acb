"""Fits a recipe to a lock, and says what the run will take, before anything is compiled."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from manifests.lock import Lock, load_lock, resolve
from trainer import recipes
from trainer.config import RunConfig, StageConfig
from trainer.start import codebook
from visent.errors import UserError, unknown


def read_lock(path: str) -> Lock:
    """Returns the lock of a manifest (`.toml`, resolved now) or a lock file (`.json`, as it stands).

    Raises:
        UserError: the file is missing or does not fit the datasets.
    """
    return load_lock(path) if path.endswith(".json") else resolve(path)


def fit(config: RunConfig, lock: Lock) -> RunConfig:
    """Returns the configuration with the tokenizer's codebook and the manifest's contexts filled in.

    Raises:
        UserError: a stage that the manifest lacks, a context that it does not have, or a recipe without the run that it
            needs.
    """
    recipes.check_needs(config)
    stages = {name: _fit_stage(name, stage, lock) for name, stage in config.stages.items() if stage.steps}
    if not stages:
        raise UserError("the run has no steps: give a stage some, as --set stages.images.steps=100")
    model = dataclasses.replace(config.model, codebook_size=lock.card.codebook_size)
    vectors = codebook(config, lock) if config.start is None else None
    if vectors is not None:
        model = dataclasses.replace(model, codebook_width=vectors.shape[1])
    return dataclasses.replace(config, model=model, stages=stages)


def _fit_stage(name: str, stage: StageConfig, lock: Lock) -> StageConfig:
    if name not in lock.stages:
        raise UserError(
            f"{unknown('stage of the recipe', name, lock.stages)}; add [stages.{name}] to the manifest, which `visent "
            f"manifest init --recipe` writes, or leave it out with --set stages.{name}.steps=0"
        )
    context = lock.stage(name).context
    if stage.context not in (None, context):
        raise UserError(
            f"stage {name!r} has context {stage.context} in the recipe and {context} in the manifest: change the "
            f"manifest, or use --set stages.{name}.context={context}"
        )
    return dataclasses.replace(stage, context=context)


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What one stage takes."""

    context: int
    batch_sentences: int
    steps: int
    tokens: int  # of the whole stage
    flops_per_step: float  # forward and backward, attention counted causally, without recomputation


def costs(config: RunConfig) -> Mapping[str, StageCost]:
    """Returns the cost of each stage of a fitted configuration."""
    return {name: _cost(config, stage) for name, stage in config.stages.items()}


def _cost(config: RunConfig, stage: StageConfig) -> StageCost:
    assert stage.context is not None, "fit the configuration first"
    tokens = stage.batch_sentences * stage.context
    return StageCost(
        context=stage.context,
        batch_sentences=stage.batch_sentences,
        steps=stage.steps,
        tokens=tokens * stage.steps,
        flops_per_step=tokens * config.model.flops_per_token(stage.context),
    )
