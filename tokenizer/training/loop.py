"""A training run in memory: the batches of its steps, spread over all devices, and the state that they change."""

import dataclasses
from collections.abc import Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, UInt8

from tokenizer.training.ahead import ahead
from tokenizer.training.config import TrainConfig
from tokenizer.training.discriminator import PatchGAN
from tokenizer.training.perceptual import Perceptual, require_perceptual
from tokenizer.training.pictures import Pictures
from tokenizer.training.state import TrainState, codebook_of, draw, new_state, with_codebook
from tokenizer.training.step import Figures, Program, phase_of, replicated, scale, update
from tokenizer.vqgan import VQGAN, VQGANConfig
from visent.errors import UserError


class Trainer:
    """One training run; `state` is replaced by every step.

    `init` is a network to start from, instead of random weights. Batches are split over all devices of all processes;
    every process cuts its own part, every device holds the whole state.
    """

    def __init__(
        self,
        config: TrainConfig,
        pictures: Pictures,
        *,
        perceptual: Perceptual | None = None,
        init: VQGAN | None = None,
    ) -> None:
        self.config, self.pictures = config, pictures
        mesh = Mesh(np.array(jax.devices()), ("data",))
        self._check_devices(mesh.size)
        require_perceptual(config, perceptual)
        self.program = Program(config, *graphs(config), mesh)
        self.perceptual = perceptual
        self._everywhere = jax.device_put(perceptual, replicated(mesh))
        params = draw(config.network, config.seed) if init is None else nnx.state(init, nnx.Param)
        state = new_state(config, params)
        if init is not None:
            state = _with_means(state, codebook_of(params), self._choices)
        self.state: TrainState = self._placed(state)

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.state.step)

    def model(self) -> VQGAN:
        """Returns the network as trained so far, in float32: its running mean, where there is one."""
        params = self.state.params
        if self.state.average is not None:
            params = self.state.average
            if self.config.codebook == "ema":  # which is a running mean already
                params = with_codebook(params, codebook_of(self.state.params))
        return self._local_model(params)

    def run(self) -> Generator[Figures, None, None]:
        """Runs to the last step and yields the figures of each; the next batches are cut meanwhile."""
        first = self.step
        with_batches = ahead(self._batch, range(first, self.config.steps))
        for step, images in zip(range(first, self.config.steps), with_batches, strict=True):
            if step == self.config.free_steps and not self.config.init:
                self._place_codebook()
            phase = phase_of(self.config, step)
            self.state, figures = update(self.program, phase, self.state, self._spread(images), self._everywhere)
            yield figures

    def _batch(self, step: int) -> UInt8[np.ndarray, "n s s 3"]:
        """Returns this process' part of the batch of a step."""
        config = self.config
        whole = config.full_every and step % config.full_every == config.full_every - 1
        count = config.full_batch_size if whole else config.batch_size
        side = config.network.image_size if whole else config.crop
        mine = count // jax.process_count()
        return self.pictures.crops((config.seed, step), mine, side, first=mine * jax.process_index())

    def _spread(self, images: UInt8[np.ndarray, "n s s 3"]) -> UInt8[Array, "m s s 3"]:
        """Returns the batch of all processes, split over all devices."""
        split = NamedSharding(self.program.mesh, PartitionSpec("data"))  # type: ignore[no-untyped-call]
        batch: Array = jax.make_array_from_process_local_data(split, images)  # type: ignore[no-untyped-call]
        return batch

    def _place_codebook(self) -> None:
        """Puts the codebook onto features of random crops, so that the first quantized step finds all codes in use."""
        config, size = self.config, self.config.network.codebook_size
        per_image = (config.crop // config.network.downsampling) ** 2
        batches = -(-4 * size // (per_image * config.batch_size))
        crops = self.pictures.crops((config.seed, 1 << 31), batches * config.batch_size, config.crop)
        model, latents = self._local_model(self.state.params), nnx.jit(VQGAN.latents)
        parts = [latents(model, scale(part)) for part in np.split(crops, batches)]
        features = jnp.concatenate([part.reshape(-1, config.network.codebook_dim) for part in parts])
        chosen = jax.random.permutation(jax.random.key(config.seed), features.astype(jnp.float32))[:size]
        params = with_codebook(self.state.params, jax.device_put(chosen, replicated(self.program.mesh)))
        state = dataclasses.replace(self.state, params=params)
        self.state = self._placed(_with_means(state, chosen, self._choices))

    @property
    def _choices(self) -> float:
        """Mean choices of a code in a step."""
        grid = self.config.crop // self.config.network.downsampling
        return self.config.batch_size * grid**2 / self.config.network.codebook_size

    def _placed(self, state: TrainState) -> TrainState:
        """Returns a copy of a state on all devices, which steps may overwrite."""
        placed: TrainState = jax.device_put(jax.tree.map(jnp.copy, state), replicated(self.program.mesh))
        return placed

    def _local_model(self, params: Any) -> VQGAN:
        model = nnx.merge(
            _graph(self.config.network, "float32"), jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), params)
        )
        assert isinstance(model, VQGAN)
        return model

    def _check_devices(self, devices: int) -> None:
        config = self.config
        sizes = {config.batch_size, config.full_batch_size} if config.full_every else {config.batch_size}
        if any(size % devices for size in sizes):
            raise UserError(
                f"batches of {' and '.join(map(str, sorted(sizes)))} images do not divide among {devices} devices; "
                f"set --batch-size to a multiple of {devices * max(sizes) // min(sizes)}"
            )


def _with_means(state: TrainState, codebook: Array, choices: float) -> TrainState:
    """Returns the state with running means as if each code had been chosen equally often, at its place."""
    counts = jnp.full(len(codebook), choices)
    sums = None if state.sums is None else codebook * choices
    return dataclasses.replace(state, counts=counts, sums=sums, frequency=jnp.copy(counts))


def graphs(config: TrainConfig) -> tuple[Any, Any]:
    """Returns the graphs of the network and of the discriminator, which is None where there is none."""
    return _graph(config.network, config.activations), _discriminator_graph(config)


def _graph(network: VQGANConfig, activations: str) -> Any:
    """Returns the graph of a network whose layers give activations of one type."""
    model = nnx.eval_shape(lambda: VQGAN(network, nnx.Rngs(0)))
    if activations != "float32":
        for _, module in nnx.iter_modules(model):
            if isinstance(module, nnx.Conv | nnx.GroupNorm | nnx.RMSNorm):
                module.dtype = jnp.dtype(activations)
    return nnx.split(model, nnx.Param)[0]


def _discriminator_graph(config: TrainConfig) -> Any:
    if not config.adversarial_weight:
        return None
    channels, layers = config.discriminator_channels, config.discriminator_layers
    dtype = jnp.dtype(config.activations)
    return nnx.split(nnx.eval_shape(lambda: PatchGAN(channels, layers, dtype, nnx.Rngs(0))), nnx.Param)[0]
