"""Everything that a training run carries from step to step, and the optimizers that change it."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from tokenizer.training.config import TrainConfig
from tokenizer.training.discriminator import PatchGAN
from tokenizer.vqgan import VQGAN, VQGANConfig


@functools.partial(jax.tree_util.register_dataclass)
@dataclass(frozen=True)
class TrainState:
    """All that a checkpoint holds; what the configuration has no use for is None."""

    params: Any  # of the network, the codebook among them
    average: Any  # running mean of the parameters
    optimizer: Any
    counts: Float[Array, "k"]  # running mean of the choices per step of each code; of a revived code, the mean of all
    sums: Float[Array, "k d"] | None  # running mean of the sum of the features that chose it
    frequency: Float[Array, "k"]  # running mean of the choices, revived or not
    poor: Int[Array, ""]  # steps in a row in which too few codes were in use
    discriminator: Any
    discriminator_optimizer: Any
    step: Int[Array, ""]


def new_state(config: TrainConfig, params: Any) -> TrainState:
    """Returns the state before the first step."""
    size, dim = config.network.codebook_size, config.network.codebook_dim
    shape = config.discriminator_channels, config.discriminator_layers
    discriminator = _draw_discriminator(*shape, config.seed) if config.adversarial_weight else None
    return TrainState(
        params=params,
        average=jax.tree.map(jnp.copy, params) if config.ema_decay else None,
        optimizer=optimizer(config).init(params),
        counts=jnp.ones(size),
        sums=jnp.zeros((size, dim)) if config.codebook == "ema" else None,
        frequency=jnp.ones(size),
        poor=jnp.zeros((), jnp.int32),
        discriminator=discriminator,
        discriminator_optimizer=None if discriminator is None else optimizer(config).init(discriminator),
        step=jnp.zeros((), jnp.int32),
    )


# Compiled as one program; drawn one by one, the weights would take a compilation for each shape.
@functools.partial(jax.jit, static_argnums=(0, 1))
def draw(network: VQGANConfig, seed: int) -> Any:
    """Returns random weights of a network."""
    return nnx.state(VQGAN(network, nnx.Rngs(seed)), nnx.Param)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _draw_discriminator(channels: int, layers: int, seed: int) -> Any:
    return nnx.state(PatchGAN(channels, layers, jnp.float32, nnx.Rngs(seed)), nnx.Param)


def learning_rate(config: TrainConfig) -> optax.Schedule:
    """Returns warmup, a constant, then a linear fall: until the fall begins, a run may be made longer or shorter."""
    peak, fall = config.learning_rate, config.fall_begins
    parts = [optax.linear_schedule(0.0, peak, config.warmup_steps), optax.constant_schedule(peak)]
    if fall < config.steps:
        parts.append(optax.linear_schedule(peak, 0.0, config.steps - fall))
    return optax.join_schedules(parts, [config.warmup_steps, fall][: len(parts) - 1])


def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Returns Adam behind a bound on the gradient's norm."""
    b1, b2 = config.betas
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(learning_rate(config), b1=b1, b2=b2))


def follow_weights(average: Any, params: Any, step: Int[Array, ""], decay: float) -> Any:
    """Moves the running mean of the weights; the mean is shorter at first, so that the random start is forgotten."""
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda mean, value: kept * mean + (1 - kept) * value, average, params)


def codebook_of(params: Any) -> Float[Array, "k d"]:
    """Returns the codebook among the parameters."""
    return jnp.asarray(dict(nnx.to_flat_state(params))[("codebook",)][...])


def with_codebook(params: Any, codebook: Float[Array, "k d"]) -> Any:
    """Returns the parameters with another codebook."""
    flat = [(p, v.replace(codebook) if p == ("codebook",) else v) for p, v in nnx.to_flat_state(params)]
    return nnx.from_flat_state(flat)
