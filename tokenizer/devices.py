"""One program on all of a machine's devices: each holds the weights and takes an equal part of every batch.

A device's part is as large as the batch of one device alone, and the program is compiled once for all, so what comes
out for a picture is the same on one device and on several.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "devices"


def mesh_over(devices: Sequence[jax.Device]) -> Mesh | None:
    """Returns the devices in a row, or None where there is only one to use."""
    return Mesh(np.array(devices), (AXIS,)) if len(devices) > 1 else None


def held_by_each(weights: Any, mesh: Mesh) -> Any:
    """Copies the weights to every device."""
    return jax.device_put(weights, NamedSharding(mesh, PartitionSpec()))  # type: ignore[no-untyped-call]


def spread(function: Callable[[Any, Any], Any], mesh: Mesh) -> Callable[[Any, Any], Any]:
    """Returns the function of (weights, batch) so that each device runs it on its part of the batch."""
    whole, parts = PartitionSpec(), PartitionSpec(AXIS)  # type: ignore[no-untyped-call]
    return jax.shard_map(function, mesh=mesh, in_specs=(whole, parts), out_specs=parts, check_vma=False)


def on_all_devices(
    function: Callable[..., Any], weights: tuple[Any, ...], batch: int
) -> tuple[Callable[..., Any], int]:
    """Compiles a function of (*weights, batch) for all devices of this machine.

    Returns the function of the batch alone, and how many it takes at once: `batch` for each device.
    """
    mesh = mesh_over(jax.local_devices())
    if mesh is None:
        return functools.partial(jax.jit(function), *weights), batch
    own = spread(lambda weights, values: function(*weights, values), mesh)
    return functools.partial(jax.jit(own), held_by_each(weights, mesh)), batch * mesh.size
