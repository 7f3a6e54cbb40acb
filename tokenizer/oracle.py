"""The same weights in diffusers' `VQModel`, under torch: an implementation that is not ours."""

import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float32, UInt8, UInt16

from tokenizer.checkpoints import Checkpoint, write
from tokenizer.vqgan import VQGAN

SAME_TOKENS = 0.999  # below it, rounding does not explain the difference
SAME_PIXELS = 1e-3


@dataclass(frozen=True, kw_only=True)
class OracleResult:
    """How far diffusers' VQModel and this network agree, both in float32."""

    pictures: int
    same_tokens: float  # part of them
    pixel_difference: float  # the largest between decoded pictures, in 0..1

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the differences."""
        return self.same_tokens >= SAME_TOKENS and self.pixel_difference <= SAME_PIXELS


def oracle_missing() -> str:
    """Returns the packages that the comparison needs and does not find, joined; empty when all are there."""
    return " and ".join(name for name in ("torch", "diffusers") if importlib.util.find_spec(name) is None)


def compare_with_diffusers(
    checkpoint: Checkpoint, model: VQGAN, squares: UInt8[np.ndarray, "n s s 3"], codes: UInt16[np.ndarray, "n t"]
) -> OracleResult:
    """Encodes pictures and decodes their codes with diffusers; `codes` are ours in float32.

    Raises:
        UserError: VQModel cannot hold this network.
    """
    import torch

    config = checkpoint.config
    theirs = _vqmodel(checkpoint)
    pixels = torch.from_numpy(squares.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    with torch.no_grad():
        latents = theirs.encode(pixels * 2 - 1 if config.signed_pixels else pixels).latents
        _, _, (_, _, found) = theirs.quantize(latents)
        same = float((found.numpy().reshape(codes.shape) == codes).mean())
        shape = (len(codes), config.grid, config.grid, config.codebook_dim)
        vectors = theirs.quantize.get_codebook_entry(torch.from_numpy(codes.astype(np.int64).reshape(-1)), shape)
        decoded = theirs.decoder(theirs.post_quant_conv(vectors)).numpy().transpose(0, 2, 3, 1)
    decoded = np.clip((decoded + 1) / 2 if config.signed_pixels else decoded, 0, 1)
    difference = float(np.abs(_decode(model, codes) - decoded).max())
    return OracleResult(pictures=len(squares), same_tokens=same, pixel_difference=difference)


def _vqmodel(checkpoint: Checkpoint) -> Any:
    from diffusers import VQModel
    from diffusers.utils import logging

    logging.set_verbosity_error()  # it notes the absence of accelerate, which makes no difference here
    with tempfile.TemporaryDirectory(prefix="visent-") as folder:
        write(checkpoint, "diffusers", Path(folder) / "vqvae")
        return VQModel.from_pretrained(folder, subfolder="vqvae", local_files_only=True).eval().float()


def _decode(model: VQGAN, codes: UInt16[np.ndarray, "n t"]) -> Float32[np.ndarray, "n s s 3"]:
    with jax.default_matmul_precision("highest"):
        return np.asarray(nnx.jit(VQGAN.decode)(model, jnp.asarray(codes, jnp.int32)))
