"""Recipes: functions that return a configuration. What is given to them is changed in it."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from tokenizer.training.config import TrainConfig
from tokenizer.vqgan import F16_8192


def default_recipe(**changes: Any) -> TrainConfig:
    """Returns the recipe of the tokenizer that ships with visent: half an hour on two CPU cores."""
    return dataclasses.replace(TrainConfig(), **changes)


def f16_8192_recipe(**changes: Any) -> TrainConfig:
    """Returns a recipe for the papers' network, of 256 x 256 pixels, 256 codes and 8192 entries; for accelerators.

    Losses and the discriminator are those of taming-transformers (L1 and perceptual at 1, hinge PatchGAN at 0.8 with
    the adaptive weight, Adam 0.5 and 0.9, a codebook by gradient); rate and warmup are open-muse's. Both train the
    codebook from its random start; here it is placed onto features after a few steps and dead codes are revived.
    """
    recipe = TrainConfig(
        recipe="f16-8192",
        network=F16_8192,
        steps=300_000,
        batch_size=32,
        crop=256,
        full_every=0,
        warmup_steps=1000,
        decay_fraction=0.0,
        learning_rate=1e-4,
        betas=(0.5, 0.9),
        ema_decay=0.999,
        activations="bfloat16",
        pixel_weight=1.0,
        l2_weight=0.0,
        l1_weight=1.0,
        chroma_weight=0.0,
        perceptual_weight=1.0,
        adversarial_weight=0.8,
        adversarial_from=20_000,
        codebook="gradient",
        revive_below=0.03,
    )
    return dataclasses.replace(recipe, **changes)


RECIPES: Mapping[str, Callable[..., TrainConfig]] = MappingProxyType(
    {"default": default_recipe, "f16-8192": f16_8192_recipe}
)
