"""Training of a small tokenizer: reconstruction, a codebook that follows its codes, and a checkpoint to go on from.

The codebook is learned as in VQ-VAE-2 (Razavi et al. 2019, arXiv:1906.00446, appendix A.1): each entry is the running
mean of the features that chose it. Entries that nothing chooses are moved onto features of the current batch.
"""

import dataclasses
import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from tokenizer.training.config import TrainConfig
from tokenizer.training.pictures import Pictures
from tokenizer.vqgan import VQGAN, VQGANConfig

PIXEL_VARIANCE = 0.06  # of photos in [0, 1]; puts the error of pixels on the scale of the features' error


@functools.partial(jax.tree_util.register_dataclass)
@dataclass(frozen=True)
class TrainState:
    """All that a checkpoint holds."""

    params: Any  # of the network, the codebook among them
    average: Any  # running mean of the parameters; None where the configuration asks for none
    optimizer: Any
    counts: Float[Array, "k"]  # running mean of the choices per step of each code
    sums: Float[Array, "k d"]  # running mean of the sum of the features that chose it
    step: Int[Array, ""]


def learning_rate(config: TrainConfig) -> optax.Schedule:
    """Returns warmup, a constant, then a linear fall: until the fall begins, a run may be made longer or shorter."""
    peak, fall = config.learning_rate, config.fall_begins
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, peak, config.warmup_steps),
            optax.constant_schedule(peak),
            optax.linear_schedule(peak, 0.0, max(1, config.steps - fall)),
        ],
        [config.warmup_steps, fall],
    )


class Trainer:
    """One training run in memory; `state` is replaced by every step."""

    def __init__(self, config: TrainConfig, pictures: Pictures) -> None:
        self.config, self.pictures = config, pictures
        self.graph, _ = nnx.split(nnx.eval_shape(lambda: VQGAN(config.network, nnx.Rngs(0))), nnx.Param)
        params = _draw(config.network, config.seed)
        self.state = TrainState(
            params,
            jax.tree.map(jnp.copy, params) if config.ema_decay else None,
            _optimizer(config).init(params),
            counts=jnp.ones(config.network.codebook_size),
            sums=jnp.zeros((config.network.codebook_size, config.network.codebook_dim)),
            step=jnp.zeros((), jnp.int32),
        )

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.state.step)

    def model(self) -> VQGAN:
        """Returns the network as trained so far: its running mean, where there is one, with the codebook of now."""
        params = self.state.params
        if self.state.average is not None:
            params = _with_codebook(self.state.average, _codebook(params))
        model = nnx.merge(self.graph, jax.tree.map(jnp.array, params))
        assert isinstance(model, VQGAN)
        return model

    def run(self) -> Iterator[dict[str, float]]:
        """Runs to the last step and yields the figures of each; the next batch is cut meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self._batch, self.step)
            for step in range(self.step, self.config.steps):
                images = coming.result()
                coming = pool.submit(self._batch, step + 1)
                if step == self.config.free_steps:
                    self._place_codebook()
                quantized = step >= self.config.free_steps
                self.state, figures = _update(self.graph, self.config, quantized, self.state, images)
                yield {name: float(value) for name, value in figures.items()}

    def _batch(self, step: int) -> UInt8[np.ndarray, "n s s 3"]:
        config = self.config
        if step % config.full_every == config.full_every - 1:
            return self.pictures.crops((config.seed, step), config.full_batch_size, config.network.image_size)
        return self.pictures.crops((config.seed, step), config.batch_size, config.crop)

    def _place_codebook(self) -> None:
        """Puts the codebook onto features of random crops, so that the first quantized step finds all codes in use."""
        config, size = self.config, self.config.network.codebook_size
        per_image = (config.crop // config.network.downsampling) ** 2
        crops = self.pictures.crops((config.seed, 1 << 31), -(-4 * size // per_image), config.crop)
        model = nnx.merge(self.graph, self.state.params)
        features = nnx.jit(VQGAN.latents)(model, _scale(crops)).reshape(-1, config.network.codebook_dim)
        chosen = jax.random.permutation(jax.random.key(config.seed), features)[:size]
        params = _with_codebook(self.state.params, chosen)
        self.state = dataclasses.replace(self.state, params=params, counts=jnp.ones(size), sums=jnp.copy(chosen))


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(learning_rate(config), b1=0.9, b2=0.99))


# Compiled as one program; drawn one by one, the weights would take a compilation for each shape.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw(network: VQGANConfig, seed: int) -> Any:
    """Returns the weights before the first step."""
    return nnx.state(VQGAN(network, nnx.Rngs(seed)), nnx.Param)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _update(
    graph: Any, config: TrainConfig, quantized: bool, state: TrainState, images: UInt8[Array, "n s s 3"]
) -> tuple[TrainState, dict[str, Array]]:
    """Runs one step; returns the new state and the step's figures."""
    losses = functools.partial(_losses, graph, config, quantized)
    grads, (figures, latents, codes) = jax.grad(losses, has_aux=True)(state.params, _scale(images))
    updates, optimizer = _optimizer(config).update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    counts, sums = state.counts, state.sums
    if quantized:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        flat = latents.reshape(-1, latents.shape[-1])
        counts, sums, revived = follow(counts, sums, flat, codes.reshape(-1), key, config)
        params = _with_codebook(params, sums / counts[:, None])
        figures["revived"] = revived
        figures["usage"] = jnp.mean(counts > config.revive_below * codes.size / len(counts))
    average = state.average
    if average is not None:
        average = follow_weights(average, params, state.step, config.ema_decay)
    return TrainState(params, average, optimizer, counts, sums, state.step + 1), figures


def follow_weights(average: Any, params: Any, step: Int[Array, ""], decay: float) -> Any:
    """Moves the running mean of the weights; the mean is shorter at first, so that the random start is forgotten."""
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda mean, value: kept * mean + (1 - kept) * value, average, params)


def _losses(graph: Any, config: TrainConfig, quantized: bool, params: Any, images: Float[Array, "n s s 3"]) -> Any:
    """Returns the loss, and with it figures, features and codes; unquantized, the decoder sees the features."""
    model = nnx.merge(graph, params)
    latents = model.latents(images)
    codes = model.quantize(jax.lax.stop_gradient(latents))
    chosen = model.codebook[...][codes] if quantized else latents
    through = latents + jax.lax.stop_gradient(chosen - latents)
    error = model.reconstruct(through) - images
    pixels = jnp.mean(error**2) + config.l1_weight * jnp.mean(jnp.abs(error))
    pixels += config.chroma_weight * jnp.mean(coarse_chroma(error) ** 2)
    commitment = jnp.mean((latents - jax.lax.stop_gradient(chosen)) ** 2)
    figures = {"psnr": -10 * jnp.log10(jnp.mean(error**2)), "commitment": commitment}
    return pixels / PIXEL_VARIANCE + config.commitment * commitment, (figures, latents, codes)


def follow(
    counts: Float[Array, "k"],
    sums: Float[Array, "k d"],
    features: Float[Array, "n d"],
    codes: Int[Array, "n"],
    key: Array,
    config: TrainConfig,
) -> tuple[Float[Array, "k"], Float[Array, "k d"], Int[Array, ""]]:
    """Moves the running means of the codebook towards the features that chose each code, and revives dead codes.

    Returns the new counts and sums, whose quotient is the codebook, and how many codes were moved.
    """
    decay, size = config.codebook_decay, len(counts)
    counts = decay * counts + (1 - decay) * jnp.zeros(size).at[codes].add(1.0)
    sums = decay * sums + (1 - decay) * jnp.zeros_like(sums).at[codes].add(features)
    mean = len(codes) / size
    dead = counts < config.revive_below * mean
    fresh = features[jax.random.randint(key, (size,), 0, len(features))]
    counts = jnp.where(dead, mean, counts)
    return counts, jnp.where(dead[:, None], fresh * mean, sums), jnp.sum(dead)


def coarse_chroma(images: Float[Array, "n h w 3"]) -> Float[Array, "n ch cw 3"]:
    """Returns the colour without the brightness (ITU-R BT.601 luma), averaged over squares of 8 x 8 pixels."""
    n, h, w, _ = images.shape
    means = images.reshape(n, h // 8, 8, w // 8, 8, 3).mean(axis=(2, 4))
    return means - (means @ jnp.array([0.299, 0.587, 0.114]))[..., None]


def _scale(images: Any) -> Float[Array, "n s s 3"]:
    return jnp.asarray(images, jnp.float32) / 255


def _codebook(params: Any) -> Float[Array, "k d"]:
    return jnp.asarray(dict(nnx.to_flat_state(params))[("codebook",)][...])


def _with_codebook(params: Any, codebook: Float[Array, "k d"]) -> Any:
    flat = [(p, v.replace(codebook) if p == ("codebook",) else v) for p, v in nnx.to_flat_state(params)]
    return nnx.from_flat_state(flat)
