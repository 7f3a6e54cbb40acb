"""Small networks and their checkpoints, for the tests of the layouts."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from tokenizer.checkpoints import Checkpoint
from tokenizer.checkpoints.network import build, parameter_shapes
from tokenizer.vqgan import VQGAN, VQGANConfig

# Attention in one level and in the middle, three widths, 32 groups: all four projects can hold it.
ATTENTIVE = VQGANConfig(
    channels=32,
    channel_mult=(1, 1, 2),
    num_res_blocks=2,
    decoder_res_blocks=3,
    z_channels=16,
    codebook_size=64,
    codebook_dim=8,
    attn_resolutions=(64,),
    mid_attention=True,
    signed_pixels=True,
)
# The shape of f16-8192 with narrow layers: several widths, no attention.
PLAIN = dataclasses.replace(
    ATTENTIVE, channel_mult=(1, 2, 2, 4), attn_resolutions=(), mid_attention=False, signed_pixels=False, image_size=64
)


def made(config: VQGANConfig = ATTENTIVE, *, dtype: str = "float32", seed: int = 0) -> Checkpoint:
    """Random weights whose norms and biases are not those of a fresh network, so that a swap of two shows."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in parameter_shapes(config).items():
        spread = 0.05 if len(shape) == 1 else math.prod(shape[:-1]) ** -0.5
        tensors[name] = rng.normal(float(name.endswith("scale")), spread, shape).astype(np.float32).astype(dtype)
    return Checkpoint(layout="visent", config=config, tensors=tensors, stored_dtype=dtype)


def encode(checkpoint: Checkpoint, images: np.ndarray) -> np.ndarray:
    """Codes of images in [0, 1], of any size, in float32."""
    return np.asarray(nnx.jit(VQGAN.encode)(build(checkpoint), jnp.asarray(images)))


def reconstruct(checkpoint: Checkpoint, codes: np.ndarray) -> np.ndarray:
    """Images around [0, 1] of square grids of codes, not clipped."""
    side = math.isqrt(codes.shape[1])
    latents = checkpoint.tensors["codebook"].astype(np.float32)[codes].reshape(len(codes), side, side, -1)
    return np.asarray(nnx.jit(VQGAN.reconstruct)(build(checkpoint), jnp.asarray(latents)))


def pictures(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Smooth noise in [0, 1]."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    drawn = [
        Image.fromarray(rng.integers(0, 256, (size // 8, size // 8, 3), np.uint8)).resize((size, size))
        for _ in range(count)
    ]
    return np.stack([np.asarray(picture, np.float32) / 255 for picture in drawn])


def changed(checkpoint: Checkpoint, **tensors: Any) -> Checkpoint:
    """Another checkpoint with some tensors replaced; dots in names are written as two underscores."""
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, **named})


def same(left: Checkpoint, right: Checkpoint) -> bool:
    """Whether two checkpoints hold the same network and the same numbers of the same type."""
    return (
        left.config == right.config
        and left.stored_dtype == right.stored_dtype
        and left.tensors.keys() == right.tensors.keys()
        and all(np.array_equal(left.tensors[name], right.tensors[name]) for name in left.tensors)
    )


def place_of(layout: str, folder: Path) -> Path:
    """Where a test puts a checkpoint of a layout."""
    return folder / ("model.ckpt" if layout == "taming" else layout)
