"""Recipes: functions that return a whole run's configuration."""

from collections.abc import Callable, Mapping

from trainer.config import ModelConfig, RunConfig, StageConfig
from visent.errors import unknown

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


def lvm_lite(model: ModelConfig) -> RunConfig:
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


def tiny(model: ModelConfig) -> RunConfig:
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


RECIPES: Mapping[str, tuple[Callable[[ModelConfig], RunConfig], str]] = {  # with the model each takes by default
    "lvm-lite": (lvm_lite, "300m"),
    "tiny": (tiny, "tiny"),
}


def make(recipe: str, model: str | None = None) -> RunConfig:
    """Returns the configuration of a recipe, with its own default model unless `model` names another.

    Raises:
        UserError: no such recipe or model.
    """
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    function, default = RECIPES[recipe]
    if model is not None and model not in MODELS:
        raise unknown("model", model, MODELS)
    return function(MODELS[model or default])
