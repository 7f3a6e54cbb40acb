"""A very small tokenizer for tests: the real classes and files, random weights, milliseconds per call."""

from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from tokenizer.tokenizer import save
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
    model = VQGAN(TINY, nnx.Rngs(seed))
    noise = jax.random.uniform(jax.random.key(seed), (16, 4, 4, 3))
    latents = model.latents(jax.image.resize(noise, (16, 32, 32, 3), "linear"))
    model.codebook[...] = jnp.reshape(latents, (-1, TINY.codebook_dim))[:: 256 // TINY.codebook_size]
    folder = parent / f"tiny-tokenizer-{seed}"
    save(folder, model, name=f"tiny-{seed}", about={"trained on": "nothing: random weights for tests"})
    return folder
