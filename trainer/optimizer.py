"""AdamW as the papers use it, with the learning rate kept outside, so that a stage can change it alone."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from trainer.config import StageConfig
from trainer.model import Params


def learning_rate(stage: StageConfig, step: Int[Array, ""] | int) -> Float[Array, ""]:
    """Returns the rate of a stage's `step` (from 0): linear warmup, then half a cosine down to the final rate.

    The first of `warmup_steps` has 1/warmup_steps of the peak, not 0, so that no step is wasted.
    """
    now = jnp.asarray(step, jnp.float32)
    rising = stage.learning_rate * (now + 1) / max(stage.warmup_steps, 1)
    progress = (now - stage.warmup_steps) / max(stage.steps - stage.warmup_steps, 1)
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))
    falling = stage.final_learning_rate + (stage.learning_rate - stage.final_learning_rate) * cosine
    return jnp.where(now < stage.warmup_steps, rising, falling)


def decayed(params: Params) -> Any:
    """Returns a tree of booleans: matrices and embeddings decay; norms, biases and a frozen codebook do not."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("scale", "bias", "codebook"), params)


def direction(stage: StageConfig) -> optax.GradientTransformation:
    """Returns clip, Adam and decoupled weight decay (Loshchilov and Hutter 2019), before the learning rate.

    The state has the same shape for every stage: Adam's moments pass from one stage to the next.
    """
    clip = optax.identity() if stage.clip_norm is None else optax.clip_by_global_norm(stage.clip_norm)
    return optax.chain(
        clip,
        optax.scale_by_adam(stage.beta1, stage.beta2, stage.epsilon),
        optax.add_decayed_weights(stage.weight_decay, mask=decayed),
    )
