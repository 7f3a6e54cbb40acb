"""A very small tokenizer for tests: the real classes and files, random weights, milliseconds per call."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tokenizer.checkpoints.folder import save
from tokenizer.vqgan import VQGAN, VQGANConfig

TINY = VQGANConfig(
    channels=8,
    channel_mult=(1, 2),
    num_res_blocks=1,
    decoder_res_blocks=1,
    z_channels=8,
    codebook_size=64,
    codebook_dim=4,
    image_size=32,
    patch_size=4,
    norm_groups=4,
)


def tiny_tokenizer_dir(parent: Path, *, seed: int = 0) -> Path:
    """Writes a random tokenizer of 32 x 32 pixels, 16 tokens per image and 64 codes; returns its folder.

    The codebook is made of features of noise pictures, so that different pictures get different codes.
    """
    model = random_model(TINY, seed)
    noise = jax.random.uniform(jax.random.key(seed), (16, 4, 4, 3))
    latents = nnx.jit(VQGAN.latents)(model, jax.image.resize(noise, (16, 32, 32, 3), "linear"))
    model.codebook[...] = jnp.asarray(np.reshape(latents, (-1, TINY.codebook_dim))[:: 256 // TINY.codebook_size])
    folder = parent / f"tiny-tokenizer-{seed}"
    save(folder, model, name=f"tiny-{seed}", about={"trained on": "nothing: random weights for tests"})
    return folder


def random_model(config: VQGANConfig, seed: int) -> VQGAN:
    """Fills the network by numpy: Flax's own initialisers would compile one program per shape, which takes seconds."""
    rng = np.random.default_rng(seed)
    graph, state = nnx.split(nnx.eval_shape(lambda: VQGAN(config, nnx.Rngs(0))))

    def fill(path: tuple[object, ...], shape: tuple[int, ...]) -> np.ndarray:
        if path[-1] in ("scale", "bias"):
            return np.full(shape, float(path[-1] == "scale"), np.float32)
        return rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype(np.float32)

    filled = [(path, value.replace(jnp.asarray(fill(path, value.shape)))) for path, value in nnx.to_flat_state(state)]
    return nnx.merge(graph, nnx.from_flat_state(filled))
