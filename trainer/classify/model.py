"""The network of the probe: patches of pixels, a LLaMA model's layers, average pooling, a linear head."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from trainer.classify.config import ClassifyConfig
from trainer.config import ComputeConfig, ModelConfig
from trainer.model import Llama, Params, dtype_of
from visent.errors import UserError

LAYERS = ("layers", "norm")  # what is taken over from a trained model; its embedding and head of codes are not


class PatchClassifier(nnx.Module):
    """Squares of pixels to scores of classes."""

    def __init__(
        self, config: ModelConfig, probe: ClassifyConfig, classes: int, compute: ComputeConfig, rngs: nnx.Rngs
    ) -> None:
        self.probe = probe
        pixels, normal = 3 * probe.patch**2, nnx.initializers.normal(config.init_std)
        half: Any = dtype_of(compute)
        self.patches = nnx.Linear(pixels, config.hidden, dtype=half, kernel_init=normal, rngs=rngs)
        self.llama = Llama(_without_codes(config), compute, rngs)
        self.classes = nnx.Linear(config.hidden, classes, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, images: UInt8[Array, "b s s 3"]) -> Float[Array, "b classes"]:
        """Returns float32 scores."""
        hidden = self.llama.trunk(self.patches(_cut(images, self.probe.patch)))
        return self.classes(hidden.astype(jnp.float32).mean(axis=1))


def definition(
    config: ModelConfig, probe: ClassifyConfig, classes: int, compute: ComputeConfig
) -> nnx.GraphDef[PatchClassifier]:
    """Returns the network's static half."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: PatchClassifier(config, probe, classes, compute, nnx.Rngs(0))))
    return graph


def init(config: ModelConfig, probe: ClassifyConfig, classes: int, seed: int) -> Params:
    """Returns fresh parameters."""
    made = PatchClassifier(config, probe, classes, ComputeConfig(), nnx.Rngs(seed))
    params: Params = nnx.to_pure_dict(nnx.state(made))
    return params


def with_layers_of(params: Params, trained: Params) -> Params:
    """Returns the classifier's parameters with the layers of a trained model.

    Raises:
        UserError: the layers are of another shape.
    """
    for name in LAYERS:
        mine, theirs = (jax.tree.map(jnp.shape, tree[name]) for tree in (params["llama"], trained))
        if mine != theirs:
            raise UserError("the run of --from has layers of other shapes: pass its own size with --model")
    return {**params, "llama": {**params["llama"], **{name: trained[name] for name in LAYERS}}}


def frozen(params: Params) -> Any:
    """Returns a tree of booleans: what only `train_layers` trains."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key == "llama", params)


def _without_codes(config: ModelConfig) -> ModelConfig:
    """Returns the model with an embedding and a head of two tokens, which nothing uses."""
    return dataclasses.replace(config, codebook_size=1, special_tokens=1, embedding="learned")


def _cut(images: UInt8[Array, "b s s 3"], patch: int) -> Float[Array, "b n p"]:
    """Returns the pixels of each patch, row by row, from -1 to 1."""
    b, side = images.shape[0], images.shape[1] // patch
    parts = images.reshape(b, side, patch, side, patch, 3).swapaxes(2, 3).reshape(b, side * side, -1)
    return parts.astype(jnp.float32) / 127.5 - 1
