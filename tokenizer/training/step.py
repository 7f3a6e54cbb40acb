"""One step of training, compiled as one program for each phase of a run.

The gradient is taken in two parts: of all losses by the reconstructed pixels, then through the network. So the network
is run back once, whatever judges its pixels, and the adaptive weight of VQGAN's eq. 7 costs one layer more.
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt8

from tokenizer.training import codebook as learn
from tokenizer.training.config import TrainConfig
from tokenizer.training.discriminator import adaptive_weight, hinge
from tokenizer.training.losses import pixel_loss, psnr
from tokenizer.training.perceptual import Perceptual, sub_crop
from tokenizer.training.state import TrainState, codebook_of, follow_weights, optimizer, with_codebook

Figures = dict[str, Array]


@dataclass(frozen=True)
class Program:
    """What the compiled step depends on beside its arrays."""

    config: TrainConfig
    graph: Any  # of the network
    discriminator: Any  # its graph, or None
    mesh: Mesh


class Phase(NamedTuple):
    """What is in use at a step."""

    quantized: bool
    perceptual: bool
    adversarial: bool


def phase_of(config: TrainConfig, step: int) -> Phase:
    """Returns what is in use at a step."""
    return Phase(
        quantized=step >= config.free_steps,
        perceptual=config.perceptual_weight > 0 and step >= config.perceptual_from,
        adversarial=config.adversarial_weight > 0 and step >= config.adversarial_from,
    )


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def update(
    program: Program, phase: Phase, state: TrainState, images: UInt8[Array, "n s s 3"], perceptual: Perceptual | None
) -> tuple[TrainState, Figures]:
    """Runs one step; returns the new state and the step's figures."""
    config, real = program.config, scale(images)
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    forward = functools.partial(_forward, program, phase, images=real)
    (made, matching), pull, (latents, codes, commitment) = jax.vjp(forward, state.params, has_aux=True)
    toward, figures = _judge(config, phase, real, made, perceptual, jax.random.fold_in(key, 1))
    figures["commitment"] = commitment
    if phase.adversarial:
        adversarial, more = _adversarial(program, state.discriminator, made)
        weight = adaptive_weight(_last_layer(pull((toward, 0.0))), _last_layer(pull((adversarial, 0.0))))
        toward += config.adversarial_weight * weight * adversarial
        state, taught = _teach(program, state, real, made)
        figures |= more | taught | {"adversarial_weight": config.adversarial_weight * weight}
    (grads,) = pull((toward, jnp.ones_like(matching)))
    updates, moments = optimizer(config).update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    state = dataclasses.replace(state, params=params, optimizer=moments)
    if phase.quantized:
        state, learned = _learn_codebook(config, state, latents.reshape(-1, latents.shape[-1]), codes.reshape(-1), key)
        figures |= learned
    if state.average is not None:
        average = follow_weights(state.average, state.params, state.step, config.ema_decay)
        state = dataclasses.replace(state, average=average)
    state = dataclasses.replace(state, step=state.step + 1)
    everywhere = replicated(program.mesh)
    result: tuple[TrainState, Figures] = jax.lax.with_sharding_constraint((state, figures), everywhere)  # type: ignore[no-untyped-call]
    return result


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the placement of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]


def scale(images: Any) -> Float[Array, "n s s 3"]:
    """Returns 8-bit pixels as numbers in [0, 1]."""
    return jnp.asarray(images, jnp.float32) / 255


def _forward(program: Program, phase: Phase, params: Any, images: Float[Array, "n s s 3"]) -> Any:
    """Returns the pixels made and the loss of matching features to codes; beside them features, codes, commitment.

    Unquantized, the decoder sees the features. The gradient passes the quantizer straight through.
    """
    config, model = program.config, nnx.merge(program.graph, params)
    latents = model.latents(images).astype(jnp.float32)
    codes = model.quantize(jax.lax.stop_gradient(latents))
    chosen = model.codebook[...][codes] if phase.quantized else latents
    through = latents + jax.lax.stop_gradient(chosen - latents)
    commitment = jnp.mean((latents - jax.lax.stop_gradient(chosen)) ** 2)
    matching = config.commitment * commitment
    if config.codebook == "gradient":
        matching += config.codebook_weight * jnp.mean((chosen - jax.lax.stop_gradient(latents)) ** 2)
    made = model.reconstruct(through).astype(jnp.float32)
    return (made, matching), (latents, codes, commitment)


def _judge(
    config: TrainConfig, phase: Phase, real: Array, made: Array, perceptual: Perceptual | None, key: Array
) -> tuple[Array, Figures]:
    """Returns the gradient of the losses of reconstruction by the pixels made, and figures."""

    def loss_of(made: Array) -> tuple[Array, Figures]:
        loss, figures = pixel_loss(real, made, config), {"psnr": psnr(real, made)}
        if phase.perceptual:
            assert perceptual is not None
            side = config.perceptual_crop or real.shape[1]
            seen = sub_crop({"real": real, "made": made}, side, key)
            dtype = jnp.dtype(config.activations)
            distance = perceptual.distance(seen["real"], seen["made"], config.perceptual_depth, dtype)
            figures["lpips"] = jnp.mean(distance)
            loss += config.perceptual_weight * figures["lpips"]
        return loss, figures

    gradient, figures = jax.grad(loss_of, has_aux=True)(made)
    return gradient, figures


def _adversarial(program: Program, discriminator: Any, made: Array) -> tuple[Array, Figures]:
    """Returns the gradient of the loss of being seen as made, by the pixels made."""
    loss, gradient = jax.value_and_grad(lambda x: -jnp.mean(nnx.merge(program.discriminator, discriminator)(x)))(made)
    return gradient, {"adversarial": loss}


def _teach(program: Program, state: TrainState, real: Array, made: Array) -> tuple[TrainState, Figures]:
    """Moves the discriminator towards telling real from made."""

    def loss_of(params: Any) -> tuple[Array, Figures]:
        judge = nnx.merge(program.discriminator, params)
        on_real, on_made = judge(real), judge(jax.lax.stop_gradient(made))
        logits = {"logits_real": jnp.mean(on_real), "logits_made": jnp.mean(on_made)}
        loss = hinge(on_real, on_made)
        return loss, {"hinge": loss, **logits}

    grads, figures = jax.grad(loss_of, has_aux=True)(state.discriminator)
    updates, moments = optimizer(program.config).update(grads, state.discriminator_optimizer, state.discriminator)
    taught = optax.apply_updates(state.discriminator, updates)
    return dataclasses.replace(state, discriminator=taught, discriminator_optimizer=moments), figures


def _learn_codebook(
    config: TrainConfig, state: TrainState, features: Array, codes: Array, key: Array
) -> tuple[TrainState, Figures]:
    """Moves the codebook towards its features, or revives its dead codes where it is learned by gradient."""
    if state.sums is None:
        book = codebook_of(state.params)
        counts, book, revived = learn.revive(state.counts, book, features, codes, key, config)
        sums = None
    else:
        counts, sums, revived = learn.follow(state.counts, state.sums, features, codes, key, config)
        book = sums / counts[:, None]
    frequency = learn.count(state.frequency, codes, config)
    used = learn.usage(frequency, len(codes), config)
    poor = jnp.where(used < config.min_usage, state.poor + 1, 0)
    figures = {"usage": used, "perplexity": learn.perplexity(frequency), "revived": revived, "poor": poor}
    params = with_codebook(state.params, book)
    return dataclasses.replace(state, params=params, counts=counts, sums=sums, frequency=frequency, poor=poor), figures


def _last_layer(gradients: tuple[Any]) -> Array:
    """Returns the gradient of the decoder's last convolution; the compiler drops the rest."""
    return jnp.asarray(gradients[0]["decoder"]["conv_out"]["kernel"][...])
