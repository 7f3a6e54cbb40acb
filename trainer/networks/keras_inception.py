"""Keras' Inception-v3 out of a folder of TensorFlow.js, walked as its configuration says, in plain JAX.

npm's `nsfwjs` 4.4.0 (MIT; `npm pack nsfwjs@4.4.0`, then `package/dist/models/inception_v3`) carries one: trained on
ImageNet, then on drawings and photographs that may be unfit for work, in weights of 8 bits. It sees pictures as an
Inception does, but no paper's figures are made with it. Pictures are prepared as nsfwjs does: divided by 255, then
resized bilinearly with corners on corners.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from trainer.networks import layers
from trainer.networks.network import Network
from trainer.networks.resizing import resized
from trainer.networks.running import batched
from trainer.networks.tfjs_files import DAMAGE, model_file, read_model
from trainer.networks.weights import sha256_of
from visent.errors import UserError, said, unknown

NAME = "Inception-v3 of nsfwjs 4.4.0"
PUBLISHED = "51896dc2a15ad344e3e53f58db5afa4c9a4baff0ba5ec360f457ecbd8bc71cca"  # of the seven files' names and hashes
BATCH = 32  # for each device
MOST_SIDE = 4096  # pixels of an input
ACTIVATIONS: Mapping[str, Callable[[Any], Any]] = {
    "linear": lambda values: values,
    "relu": jax.nn.relu,
    "softmax": layers.softmax,
}
Weights = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """A layer of Keras: what it is, its settings, and the layers whose results it takes."""

    name: str
    kind: str
    config: Mapping[str, Any]
    inputs: tuple[str, ...]


def recognises(path: Path) -> bool:
    """Tells whether a folder holds a model of TensorFlow.js."""
    return path.is_dir() and model_file(path) is not None


def load(path: Path) -> Network:
    """Reads the network; its features are what its first dense layer takes.

    Raises:
        UserError: a file is missing or damaged, or the model has layers that Inceptions have not.
    """
    config, weights = read_model(path)
    try:
        walk = _walk(config)
        describe = _describe(walk, size := _size(walk[0]))
        shape = jax.ShapeDtypeStruct((1, *size, 3), np.uint8)  # type: ignore[no-untyped-call]
        features, probabilities = jax.eval_shape(describe, weights, shape)
        if features.ndim != 2:
            raise UserError(f"the first dense layer in {path} takes {features.shape[1:]}, expected one row of numbers")
    except (*DAMAGE, ArithmeticError, RuntimeError) as error:
        raise UserError(f"the model in {path} does not fit together: {said(error)[:300]}") from error
    sha256 = sha256_of(path)
    return Network(
        name=NAME if sha256 == PUBLISHED else "a Keras model with nsfwjs' preparation",
        where=str(path),
        sha256=sha256,
        same_as_papers="no",
        takes="images",
        features=features.shape[1],
        classes=None if probabilities is None else probabilities.shape[1],
        run=batched(describe, weights, BATCH),
    )


def _size(layer: Layer) -> tuple[int, int]:
    """Returns the height and width of the pictures that a model takes."""
    _, *sides, channels = layer.config["batch_input_shape"]
    whole = all(type(side) is int and 1 <= side <= MOST_SIDE for side in sides)
    if len(sides) != 2 or not whole or channels != 3:
        raise UserError(f"layer {layer.name!r} takes {[*sides, channels]}, expected a height and width of 1 to "
                        f"{MOST_SIDE} and 3 colours")  # fmt: skip
    return sides[0], sides[1]


def _walk(config: Mapping[str, Any]) -> list[Layer]:
    """Returns the layers in an order in which each finds its inputs."""
    found: list[Layer] = []
    for one in config["layers"]:
        nodes = one["inbound_nodes"]
        inputs = tuple(str(node[0]) for node in nodes[0]) if nodes else ()
        layer = Layer(str(one["name"]), str(one["class_name"]), one["config"], inputs)
        if layer.kind not in KINDS:
            raise unknown("kind of layer", layer.kind, KINDS)
        if (layer.kind == "InputLayer") != (not found) or not set(inputs) <= {earlier.name for earlier in found}:
            raise UserError(f"layer {layer.name!r} comes before what it takes, {', '.join(inputs) or 'pictures'}")
        found.append(layer)
    if not any(layer.kind == "Dense" for layer in found):
        raise UserError("the model has no dense layer, whose input would be the features")
    return found


def _describe(walk: list[Layer], size: tuple[int, int]) -> Callable[[Weights, Any], tuple[Any, Any]]:
    def describe(weights: Weights, pixels: Any) -> tuple[Any, Any]:
        results = {walk[0].name: resized(pixels.astype(jnp.float32) / 255, size, "corners")}
        features = None
        for layer in walk[1:]:
            taken = [results[name] for name in layer.inputs]
            if layer.kind == "Dense" and features is None:
                features = taken[0]
            results[layer.name] = KINDS[layer.kind](layer, weights, *taken)
        last = walk[-1]
        return features, results[last.name] if last.config.get("activation") == "softmax" else None

    return describe


def _input(layer: Layer, weights: Weights, images: Any) -> Any:
    raise UserError(f"layer {layer.name!r} is a second input")


def _convolution(layer: Layer, weights: Weights, images: Any) -> Any:
    if list(layer.config.get("dilation_rate", [1, 1])) != [1, 1] or layer.config.get("groups", 1) != 1:
        raise UserError(f"layer {layer.name!r} is dilated or in groups, which no Inception is")
    made = layers.convolve(images, weights[f"{layer.name}/kernel"], _square(layer, "strides"), _padding(layer))
    return _activated(layer, made + weights[f"{layer.name}/bias"] if layer.config["use_bias"] else made)


def _normalisation(layer: Layer, weights: Weights, images: Any) -> Any:
    _check_axis(layer, images)
    mean, variance = weights[f"{layer.name}/moving_mean"], weights[f"{layer.name}/moving_variance"]
    factor = jax.lax.rsqrt(variance + layer.config["epsilon"])
    if layer.config["scale"]:
        factor = factor * weights[f"{layer.name}/gamma"]
    shift = weights[f"{layer.name}/beta"] if layer.config["center"] else 0
    return images * factor + (shift - mean * factor)


def _max_pooling(layer: Layer, weights: Weights, images: Any) -> Any:
    return layers.max_pool(images, _square(layer, "pool_size"), _square(layer, "strides"), _padding(layer))


def _average_pooling(layer: Layer, weights: Weights, images: Any) -> Any:
    if _square(layer, "strides") != 1 and images.shape[1] > _square(layer, "pool_size"):
        raise UserError(f"layer {layer.name!r} averages in steps, which no Inception does")
    return layers.average_pool(images, _square(layer, "pool_size"), _padding(layer))


def _joined(layer: Layer, weights: Weights, *parts: Any) -> Any:
    _check_axis(layer, parts[0])
    return jnp.concatenate(parts, axis=-1)


def _dense(layer: Layer, weights: Weights, features: Any) -> Any:
    made = layers.matmul(features, weights[f"{layer.name}/kernel"])
    return _activated(layer, made + weights[f"{layer.name}/bias"] if layer.config["use_bias"] else made)


def _activated(layer: Layer, values: Any) -> Any:
    name = layer.config["activation"]
    if name not in ACTIVATIONS:
        raise unknown("activation", str(name), ACTIVATIONS)
    return ACTIVATIONS[name](values)


def _square(layer: Layer, name: str) -> int:
    sides = layer.config[name]
    if len(sides) != 2 or sides[0] != sides[1]:
        raise UserError(f"layer {layer.name!r} has {name} {sides}, expected the same along both sides")
    return int(sides[0])


def _check_axis(layer: Layer, images: Any) -> None:
    axis = layer.config.get("axis", -1)
    if axis not in (-1, images.ndim - 1, [-1], [images.ndim - 1]):
        raise UserError(f"layer {layer.name!r} works along axis {axis}, expected that of the channels, the last")


def _padding(layer: Layer) -> str:
    if layer.config.get("data_format", "channels_last") != "channels_last":
        raise UserError(f"layer {layer.name!r} has its channels first, expected them last")
    if layer.config["padding"] not in ("same", "valid"):
        raise unknown("padding", str(layer.config["padding"]), ("same", "valid"))
    return str(layer.config["padding"]).upper()


KINDS: Mapping[str, Callable[..., Any]] = {
    "InputLayer": _input,
    "Conv2D": _convolution,
    "BatchNormalization": _normalisation,
    "Activation": lambda layer, weights, values: _activated(layer, values),
    "MaxPooling2D": _max_pooling,
    "AveragePooling2D": _average_pooling,
    "GlobalAveragePooling2D": lambda layer, weights, images: jnp.mean(images, axis=(1, 2)),
    "Concatenate": _joined,
    "Flatten": lambda layer, weights, images: images.reshape(len(images), -1),
    "Dropout": lambda layer, weights, values: values,
    "Dense": _dense,
}
