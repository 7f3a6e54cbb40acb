"""Between the network's parameters and named tensors: the names and shapes it has, building it, reading it out."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from tokenizer.checkpoints.checkpoint import Checkpoint
from tokenizer.vqgan import VQGAN, VQGANConfig
from visent.errors import UserError

Shape = tuple[int, ...]
LISTED = 6  # names that an error message shows of each kind


def parameter_shapes(config: VQGANConfig) -> Mapping[str, Shape]:
    """Returns the shape of each parameter by its name: its path in the network, joined by dots."""
    return {_name(path): tuple(variable.shape) for path, variable in _abstract(config)[1]}


def build(checkpoint: Checkpoint) -> VQGAN:
    """Builds the network of a checkpoint; nothing is initialised at random on the way."""
    graph, flat = _abstract(checkpoint.config)
    loaded = [
        (path, variable.replace(jnp.asarray(checkpoint.tensors[_name(path)], jnp.float32))) for path, variable in flat
    ]
    model = nnx.merge(graph, nnx.from_flat_state(loaded))
    assert isinstance(model, VQGAN)
    return model


@functools.lru_cache(maxsize=16)
def _abstract(config: VQGANConfig) -> tuple[Any, Any]:
    """Returns the network without numbers: its graph and its flat state. Tracing it takes about a second."""
    graph, state = nnx.split(nnx.eval_shape(lambda: VQGAN(config, nnx.Rngs(0))), nnx.Param)
    return graph, nnx.to_flat_state(state)


def read_out(model: VQGAN, dtype: str) -> Checkpoint:
    """Returns the parameters of a network as a checkpoint, its numbers rounded to `dtype`."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    tensors = {_name(path): np.asarray(variable[...]).astype(dtype) for path, variable in flat}
    return Checkpoint(layout="visent", config=model.config, tensors=tensors, stored_dtype=dtype)


def check_shapes(where: str, found: Mapping[str, Shape], expected: Mapping[str, Shape], hint: str = "") -> None:
    """Compares the tensors of a file with those that the network needs: each is there once, none is left over.

    `hint` joins the error.

    Raises:
        UserError: they differ; it lists the missing and the unexpected names with their shapes.
    """
    missing = [f"{name} {shape}" for name, shape in expected.items() if name not in found]
    extra = [f"{name} {shape}" for name, shape in found.items() if name not in expected]
    other = [
        f"{name} {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    faults = [("missing", missing), ("unexpected", extra), ("of another shape", other)]
    text = "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in faults if names)
    if text:
        raise UserError(
            f"the tensors of {where} are not those of its network ({len(found)} found, {len(expected)} expected): "
            f"{text}; {hint + '; ' * bool(hint)}fetch the file again, or the config that belongs to it"
        )


def check_numbers(where: str, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuses tensors that are not made of finite numbers.

    Raises:
        UserError: one holds NaN or infinity, or is not of a floating-point type.
    """
    for name, tensor in tensors.items():
        if tensor.dtype.kind != "f" and tensor.dtype.name != "bfloat16":
            raise UserError(f"{where}: tensor {name} is of type {tensor.dtype}, expected floating-point weights")
        if bad := int(tensor.size - np.isfinite(tensor).sum()):
            raise UserError(
                f"{where}: tensor {name} holds {bad} NaN or infinite numbers of {tensor.size}, expected finite "
                "weights; the training that wrote it diverged or the file is damaged: use an earlier or fresh copy"
            )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f", and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return ", ".join(listed[:LISTED]) + more


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
