"""The tensors of transformers' `LlamaForCausalLM`, and where each stands among the parameters here.

Both rotate pairs (i, i + d/2) of a head, so no row changes its place; matrices are transposed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from trainer import model as llama
from trainer.config import ModelConfig

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_IN_LAYERS: Mapping[str, tuple[str, ...]] = {
    "input_layernorm": ("attention_norm", "scale"),
    "self_attn.q_proj": ("attention", "query", "kernel"),
    "self_attn.k_proj": ("attention", "key", "kernel"),
    "self_attn.v_proj": ("attention", "value", "kernel"),
    "self_attn.o_proj": ("attention", "out", "kernel"),
    "post_attention_layernorm": ("mlp_norm", "scale"),
    "mlp.gate_proj": ("gate", "kernel"),
    "mlp.up_proj": ("up", "kernel"),
    "mlp.down_proj": ("down", "kernel"),
}


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor of a folder."""

    name: str
    shape: tuple[int, ...]
    path: tuple[str, ...]  # of the leaf here
    layer: int | None = None  # its place along the leaf's first axis, where layers are stacked

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape))


def tensors(model: ModelConfig) -> list[Tensor]:
    """Returns the tensors of a model with a learned embedding, in the order in which it computes."""
    rows = (model.vocabulary, model.hidden)
    found = [Tensor(name=EMBEDDING, shape=rows, path=("embedding", "embedding"))]
    for layer in range(model.layers):
        for name, path in _IN_LAYERS.items():
            place = ("layers", *path)
            full = f"model.layers.{layer}.{name}.weight"
            found.append(Tensor(name=full, shape=_shape(model, path), path=place, layer=layer))
    norm = Tensor(name="model.norm.weight", shape=(model.hidden,), path=("norm", "scale"))
    return [*found, norm, Tensor(name=HEAD, shape=rows, path=("head", "kernel"))]


def _shape(model: ModelConfig, path: tuple[str, ...]) -> tuple[int, ...]:
    if path[-1] == "scale":
        return (model.hidden,)
    if path[0] == "down":
        return (model.hidden, model.mlp)
    return (model.mlp if path[0] in ("gate", "up") else model.hidden, model.hidden)


def take(params: llama.Params, tensor: Tensor) -> Float32[np.ndarray, "..."]:
    """Returns a tensor's numbers as transformers has them; the rest of its leaf stays where it is."""
    leaf = _leaf(params, tensor.path)
    numbers = np.asarray(leaf if tensor.layer is None else leaf[tensor.layer])
    return numbers.T if tensor.path[-1] == "kernel" else numbers


def put(params: llama.Params, tensor: Tensor, numbers: np.ndarray) -> None:
    """Writes a tensor's numbers, as transformers has them, into `params` of numpy arrays."""
    leaf = _leaf(params, tensor.path)
    leaf[... if tensor.layer is None else tensor.layer] = numbers.T if tensor.path[-1] == "kernel" else numbers


def learned(params: llama.Params, model: ModelConfig) -> llama.Params:
    """Returns parameters with a plain table of embeddings: a codebook is multiplied with its projection."""
    if model.embedding == "learned":
        return params
    parts = params["embedding"]
    codes = np.asarray(parts["codebook"]) @ np.asarray(parts["projection"]["kernel"])
    return {**params, "embedding": {"embedding": np.concatenate((codes, np.asarray(parts["special"])))}}


def _leaf(params: llama.Params, path: tuple[str, ...]) -> Any:
    found: Any = params
    for part in path:
        found = found[part]
    return found
