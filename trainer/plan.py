"""Fits a recipe to a lock, and says what the run will take, before anything is compiled."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from manifests.lock import Lock, load_lock, resolve
from trainer import estimates, recipes
from trainer.config import ModelConfig, RunConfig, StageConfig
from trainer.estimates import Memory
from trainer.machine import Machine
from trainer.mesh import sizes
from trainer.start import codebook
from visent.errors import UserError, unknown

FORWARD_AGAIN = 4 / 3  # of the FLOPs, where the backward pass computes every layer again


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
    stages = {
        name: _fit_stage(config.recipe, name, stage, lock) for name, stage in config.stages.items() if stage.steps
    }
    if not stages:
        raise UserError("the run has no steps: give a stage some, as --set stages.images.steps=100")
    model = dataclasses.replace(config.model, codebook_size=lock.card.codebook_size)
    vectors = codebook(config, lock) if config.start is None else None
    if vectors is not None:
        model = dataclasses.replace(model, codebook_width=vectors.shape[1])
    return dataclasses.replace(config, model=model, stages=stages)


def _fit_stage(recipe: str, name: str, stage: StageConfig, lock: Lock) -> StageConfig:
    if name not in lock.stages:
        error, known = unknown("stage of the recipe", name, lock.stages), recipes.RECIPES.get(recipe)
        whole = f", or make one with `visent manifest init --recipe {known.manifest}`" if known else ""
        raise UserError(
            f"{error}; add [stages.{name}] to the manifest{whole}, or leave it out with --set stages.{name}.steps=0"
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


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What one stage takes of a machine."""

    cost: StageCost
    remat: str  # as asked for, or what auto comes to
    memory: Memory  # of each device
    fits: bool | None  # None where the memory of a device is not known
    microbatches: int | None  # in which it would fit, where it does not
    without_remat: int | None  # in which auto would compute nothing again, where it has to
    seconds: float  # of all steps


def on(machine: Machine, config: RunConfig, teacher: ModelConfig | None = None) -> Mapping[str, StagePlan]:
    """Returns what each stage of a fitted configuration takes of a machine; `teacher` is computed beside the model.

    Raises:
        UserError: the machine's devices do not make the mesh that the configuration asks for.
    """
    return {name: _plan(machine, config, stage, teacher) for name, stage in config.stages.items()}


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


def _plan(machine: Machine, config: RunConfig, stage: StageConfig, teacher: ModelConfig | None) -> StagePlan:
    mesh, model = sizes(config.compute, machine.devices), config.model
    compute = estimates.settled(config.compute, machine.platform)
    limit = machine.memory
    if limit is not None and teacher is not None:
        limit -= estimates.teacher_bytes(teacher, compute, mesh)
    remat = compute.remat
    if remat == "auto":
        remat = estimates.cheapest_remat(model, compute, stage, mesh, limit)
    memory = estimates.memory(model, dataclasses.replace(compute, remat=remat), stage, mesh)
    fits, split, plain = None, None, None
    if limit is not None:
        fits = memory.total <= estimates.SPARE * limit
        split = None if fits else estimates.fewest_microbatches(model, compute, stage, mesh, limit)
        if config.compute.remat == "auto" and remat != "none":
            keeping = dataclasses.replace(compute, remat="none")
            plain = estimates.fewest_microbatches(model, keeping, stage, mesh, limit)
    cost = _cost(config, stage)
    flops = cost.flops_per_step * (FORWARD_AGAIN if remat == "full" else 1)
    if teacher is not None:
        flops += stage.batch_sentences * cost.context * teacher.flops_per_token(cost.context) / 3
    return StagePlan(
        cost=cost, remat=remat, memory=memory, fits=fits, microbatches=split, without_remat=plain,
        seconds=stage.steps * flops / machine.flops,
    )  # fmt: skip
