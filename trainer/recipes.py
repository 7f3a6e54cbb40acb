"""Recipes: functions that return a whole run's configuration."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from trainer.config import DistillConfig, ModelConfig, RunConfig, StageConfig
from visent.errors import UserError, unknown

# Design section 8: hidden, MLP, heads, layers of the papers' models.
MODELS: Mapping[str, ModelConfig] = {
    # So few steps need attention that is sharp from the start: 0.02 would take some hundred steps to get there.
    "tiny": ModelConfig(name="tiny", hidden=256, mlp=704, heads=4, layers=4, init_std=256**-0.5),
    "80m": ModelConfig(name="80m", hidden=768, mlp=3072, heads=12, layers=12),
    "300m": ModelConfig(name="300m", hidden=1024, mlp=2688, heads=8, layers=22),
    "600m": ModelConfig(name="600m", hidden=1536, mlp=4096, heads=16, layers=22),
    "1b": ModelConfig(name="1b", hidden=2048, mlp=5504, heads=16, layers=22),
    "3b": ModelConfig(name="3b", hidden=3200, mlp=8640, heads=32, layers=26),
    # Heads of 128 instead of 100: what the attention kernels of GPUs and TPUs take as it is.
    "3b-fast": ModelConfig(name="3b-fast", hidden=3200, mlp=8640, heads=25, layers=26),
}

_BLOCKWISE = 2e9  # parameters from which a model's feed-forward networks are computed by blocks of positions

Stages = Mapping[str, int]  # the manifest's stages in its order, with their contexts


def lvm_lite(model: ModelConfig, _: Stages) -> RunConfig:
    """LVM-Lite: single images at context 256, then visual sentences at 4096 (design section 8)."""
    images = StageConfig(
        steps=125_112,
        batch_sentences=8192,
        learning_rate=1.5e-4,
        final_learning_rate=1.5e-5,
        warmup_steps=2000,
        context=256,
    )
    sequences = StageConfig(
        steps=15_639,
        batch_sentences=512,
        learning_rate=1.5e-5,
        final_learning_rate=1.5e-6,
        warmup_steps=0,
        context=4096,
    )
    return RunConfig(recipe="lvm-lite", model=model, stages={"images": images, "sequences": sequences})


def lvm(model: ModelConfig, stages: Stages) -> RunConfig:
    """LVM as LVM-Lite compares with it: 16 random images a sentence, with as many tokens as its first stage.

    Our reading of the comparison: steps, tokens a step and schedule are those of that stage.
    """
    sequences = StageConfig(
        steps=125_112,
        batch_sentences=512,
        learning_rate=1.5e-4,
        final_learning_rate=1.5e-5,
        warmup_steps=2000,
        context=4096,
    )
    return RunConfig(recipe="lvm", model=model, stages={_only(stages, "sequences"): sequences})


def delvm(model: ModelConfig, stages: Stages) -> RunConfig:
    """DeLVM: one stage at context 2048, with the tokenizer's frozen codebook as embedding (design section 8).

    40,000 steps of 262,144 tokens, and a warmup of 0.0056 of them, as its public configurations have. Its feed-forward
    widths (2816 at 300M), biases and float16 are not taken over: models are those of LVM.
    """
    mixture = StageConfig(
        steps=40_000,
        batch_sentences=128,
        learning_rate=1.5e-4,
        final_learning_rate=1.5e-5,
        warmup_steps=224,
        context=2048,
    )
    return RunConfig(
        recipe="delvm",
        model=dataclasses.replace(model, embedding="codebook"),
        stages={_only(stages, "mixture"): mixture},
    )


def delvm_distill(model: ModelConfig, stages: Stages) -> RunConfig:
    """DeLVM's distillation: cross-entropy and divergence from a teacher (its is 1B), both weighed 1, temperature 1."""
    distill = DistillConfig(cross_entropy=1.0, divergence=1.0, temperature=1.0)
    return dataclasses.replace(delvm(model, stages), recipe="delvm-distill", distill=distill)


def long_video(model: ModelConfig, stages: Stages) -> RunConfig:
    """LVM-Lite's long videos: 1,500 more steps of 64 frames, context 16384.

    The paper gives frames and steps. Our reading: tokens a step and rates are those of its second stage; 100 steps warm
    up, since the moments of the run that is started from are not taken over.
    """
    video = StageConfig(
        steps=1500,
        batch_sentences=128,
        learning_rate=1.5e-5,
        final_learning_rate=1.5e-6,
        warmup_steps=100,
        context=16_384,
    )
    return RunConfig(recipe="long-video", model=model, stages={_only(stages, "video"): video})


def segmentation_finetune(model: ModelConfig, stages: Stages) -> RunConfig:
    """Fine-tuning for few-shot segmentation, on Pascal-5i: eight pairs of a photo and a mask a sentence.

    The papers give no schedule that we could find. Ours: 1,000 steps of 64 sentences, at the rates of LVM-Lite's second
    stage.
    """
    finetune = StageConfig(
        steps=1000,
        batch_sentences=64,
        learning_rate=1.5e-5,
        final_learning_rate=1.5e-6,
        warmup_steps=100,
        context=4096,
    )
    return RunConfig(
        recipe="segmentation-finetune",
        model=model,
        stages={_only(stages, "finetune"): finetune},
        checkpoint_every=250,
        evaluate_every=250,
    )


def continual(model: ModelConfig, stages: Stages) -> RunConfig:
    """Tasks one after the other: every stage of the manifest in its order, all with the same schedule.

    10,000 steps of 262,144 tokens each, at DeLVM's rates: the rate rises again where a task begins.
    """
    made = {name: _one_of_many(context) for name, context in stages.items()}
    return RunConfig(recipe="continual", model=model, stages=made)


def continual_rescaled(model: ModelConfig, stages: Stages) -> RunConfig:
    """As `continual`, with rates rescaled so that they fall once, over all tasks.

    The papers do not define it. Ours: of n tasks, task k (from 0) goes from peak x r^(k/n) to peak x r^((k+1)/n), where
    r is final / peak of `continual`. Each begins where the one before ended, as LVM-Lite's second stage does;
    the first begins and the last ends as in `continual`, and only the first warms up.
    """
    made = {}
    for number, (name, context) in enumerate(stages.items()):
        same = _one_of_many(context)
        peak, final = same.learning_rate, same.final_learning_rate
        parts = [k / len(stages) for k in (number, number + 1)]
        begin, end = (peak ** (1 - part) * final**part for part in parts)
        warmup = 0 if number else same.warmup_steps
        made[name] = dataclasses.replace(same, learning_rate=begin, final_learning_rate=end, warmup_steps=warmup)
    return RunConfig(recipe="continual-rescaled", model=model, stages=made)


def _one_of_many(context: int) -> StageConfig:
    return StageConfig(
        steps=10_000,
        batch_sentences=max(262_144 // context, 1),
        learning_rate=1.5e-4,
        final_learning_rate=1.5e-5,
        warmup_steps=224,
        context=context,
    )


def tiny(model: ModelConfig, _: Stages) -> RunConfig:
    """Both stages in minutes on a laptop; contexts are the manifest's."""
    images = StageConfig(
        steps=40,
        batch_sentences=16,
        learning_rate=3e-3,
        final_learning_rate=5e-4,
        warmup_steps=10,
    )
    sequences = StageConfig(
        steps=250,
        batch_sentences=4,
        learning_rate=2e-3,
        final_learning_rate=1e-4,
        warmup_steps=10,
    )
    return RunConfig(
        recipe="tiny",
        model=model,
        stages={"images": images, "sequences": sequences},
        log_every=10,
        checkpoint_every=100,
        evaluate_sentences=32,
    )


def _only(stages: Stages, name: str) -> str:
    """Returns the manifest's stage where it has one alone, whatever its name, and else the recipe's own."""
    return next(iter(stages)) if len(stages) == 1 else name


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe, and what it goes with."""

    make: Callable[[ModelConfig, Stages], RunConfig]
    about: str  # for the help of `visent train`
    manifest: str  # the recipe of `visent manifest init` that writes its stages
    model: str = "300m"  # unless another is asked for
    needs: Literal["start", "teacher"] | None = None  # a run that this one goes on from, or learns from


RECIPES: Mapping[str, Recipe] = {
    "lvm-lite": Recipe(make=lvm_lite, manifest="lvm-lite", about="single images, then sequences of 16"),
    "lvm": Recipe(make=lvm, manifest="lvm", about="the baseline: 16 random images a sentence"),
    "delvm": Recipe(make=delvm, manifest="delvm", about="8 images a sentence, the tokenizer's codebook"),
    "delvm-distill": Recipe(
        make=delvm_distill, manifest="delvm", needs="teacher", about="delvm, taught by --teacher or --teacher-cache"
    ),
    "long-video": Recipe(
        make=long_video, manifest="video-64", needs="start", about="64 frames a sentence, --from a run"
    ),
    "segmentation-finetune": Recipe(
        make=segmentation_finetune, manifest="pascal-5i", needs="start", about="photos and masks, --from a run"
    ),
    "continual": Recipe(make=continual, manifest="continual", about="the manifest's stages in turn, at the same rates"),
    "continual-rescaled": Recipe(
        make=continual_rescaled, manifest="continual", about="the same, at rates that fall once over all"
    ),
    "tiny": Recipe(make=tiny, manifest="lvm-lite", model="tiny", about="lvm-lite in minutes on a laptop"),
}


def check_needs(config: RunConfig) -> None:
    """Raises a `UserError` where a recipe lacks the run that it goes on from or learns from."""
    needs = RECIPES[config.recipe].needs if config.recipe in RECIPES else None
    if needs == "start" and config.start is None:
        raise UserError(f"recipe {config.recipe!r} goes on with a trained model: pass its run as --from RUN")
    if needs == "teacher" and not config.distill.on:
        raise UserError(
            f"recipe {config.recipe!r} learns from a teacher: pass a run as --teacher RUN, or what `visent teacher` "
            "wrote of one as --teacher-cache FOLDER"
        )


def find(recipe: str) -> Recipe:
    """Returns a recipe.

    Raises:
        UserError: there is none of this name.
    """
    if recipe == "classify":
        raise UserError("the probe on pictures has a command of its own: visent classify IMAGES --from RUN --out PROBE")
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    return RECIPES[recipe]


def make(recipe: str, model: str | ModelConfig | None = None, stages: Stages = MappingProxyType({})) -> RunConfig:
    """Returns the configuration of a recipe, with its own default model unless `model` is another.

    `stages` are the manifest's: a recipe of one stage takes the only one there, `continual` takes all.

    Raises:
        UserError: no such recipe or model.
    """
    found = find(recipe)
    if isinstance(model, str) and model not in MODELS:
        raise unknown("model", model, MODELS)
    made = found.make(model if isinstance(model, ModelConfig) else MODELS[model or found.model], stages)
    if made.model.parameters > _BLOCKWISE:
        made = dataclasses.replace(made, compute=dataclasses.replace(made.compute, block_tokens=1024))
    return made
