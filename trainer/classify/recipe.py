"""The recipe of the probe."""

from trainer.classify.config import ClassifyConfig
from trainer.config import ModelConfig, RunConfig, StageConfig

STAGE = "classify"


def classify(model: ModelConfig) -> RunConfig:
    """DeLVM's ImageNet probe, all layers trained: 100 epochs of 1.28 million pictures in batches of 1024.

    The paper's own schedule was not available; this is the usual one for training vision transformers on ImageNet.
    """
    stage = StageConfig(
        steps=125_000,
        batch_sentences=1024,
        learning_rate=1e-3,
        final_learning_rate=1e-5,
        warmup_steps=6250,
        beta2=0.999,
        weight_decay=0.05,
    )
    return RunConfig(recipe="classify", model=model, stages={STAGE: stage}, log_every=50, classify=ClassifyConfig())
