"""The devices of a run as a mesh, and what lies where on it.

Three axes: `data` splits batches; `fsdp` splits batches, and parameters and moments too, which are gathered layer by
layer; `tensor` splits heads, the feed-forward width and the vocabulary (Megatron: first a product by columns, then one
by rows, and one sum over devices). The partitioner of XLA does the rest.
"""

from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from trainer.config import ComputeConfig, ModelConfig
from visent.errors import UserError

BATCH = ("data", "fsdp")  # the axes that a batch is split over
AXES = ("data", "fsdp", "tensor")
_BY_COLUMN = ("query", "key", "value", "gate", "up")  # each device computes some of a product's columns
_BY_ROW = ("out", "down")  # each device has some of a product's rows; results are added


def make_mesh(compute: ComputeConfig) -> Mesh:
    """Returns all devices as a mesh of `data` x `fsdp` x `tensor`.

    Raises:
        UserError: the sizes do not fit the number of devices.
    """
    found = sizes(compute, jax.device_count())
    return jax.make_mesh(tuple(found.values()), AXES, axis_types=(AxisType.Auto,) * 3)


def sizes(compute: ComputeConfig, devices: int) -> dict[str, int]:
    """Returns the size of each axis on so many devices.

    Raises:
        UserError: they do not fit the number of devices.
    """
    others = compute.fsdp * compute.tensor
    data = compute.data or max(devices // others, 1)
    if data * others != devices:
        raise UserError(
            f"a mesh of {data} (data) x {compute.fsdp} (fsdp) x {compute.tensor} (tensor) wants {data * others} "
            f"devices, there are {devices}: change compute.data, compute.fsdp or compute.tensor with --set; data 0 "
            "takes what the others leave"
        )
    return dict(zip(AXES, (data, compute.fsdp, compute.tensor), strict=True))


def check_model(model: ModelConfig, mesh: Mesh | AbstractMesh) -> None:
    """Checks that the mesh divides the model: what it does not divide, every device would hold or compute whole.

    Raises:
        UserError: a width or the heads are no multiple of the axes that split them; names the setting to change.
    """
    tensor = mesh.shape["tensor"]
    wanted = (
        ("tensor", 1, "heads", model.heads),
        ("tensor", 1, "mlp", model.mlp),
        ("tensor", 1, "vocabulary", model.vocabulary),
        ("fsdp", tensor, "hidden", model.hidden),
    )
    for axis, beside, name, size in wanted:
        parts = mesh.shape[axis] * beside
        if size % parts:
            fits = max(p for p in range(1, mesh.shape[axis] + 1) if p == 1 or size % (p * beside) == 0)
            times = " (with tensor)" if beside > 1 else ""
            raise UserError(
                f"compute.{axis} is {mesh.shape[axis]}: model {model.name} has {name} {size}, which does not divide "
                f"into {parts} parts{times}; use --set compute.{axis}={fits}"
            )


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Returns the layout of what every device holds whole."""
    return NamedSharding(mesh, P())  # type: ignore[no-untyped-call]


def over_batch(mesh: Mesh) -> NamedSharding:
    """Returns the layout of a batch: its first axis in parts."""
    return NamedSharding(mesh, P(BATCH))  # type: ignore[no-untyped-call]


def layout(mesh: Mesh, tree: Any) -> Any:
    """Returns the layout of every leaf (arrays or shapes) of parameters, moments or a whole `TrainState`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _leaf_layout(mesh, _names(path), leaf.shape), tree)


def placed(mesh: Mesh, shapes: Any) -> Any:
    """Returns shapes with the layout of each leaf on the mesh, for a tree to be restored as."""
    place: Any = jax.ShapeDtypeStruct
    return jax.tree.map(lambda x, on: place(x.shape, x.dtype, sharding=on), shapes, layout(mesh, shapes))


def batch_parts(mesh: Mesh | AbstractMesh) -> int:
    """Returns into how many parts a batch is split."""
    return int(mesh.shape["data"] * mesh.shape["fsdp"])


def constrain(x: Float[Array, "..."], *axes: Any) -> Float[Array, "..."]:
    """Lays `x` out over the axes of the current mesh (`jax.set_mesh`); without a mesh returns it as it is."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    laid: Array = jax.lax.with_sharding_constraint(x, P(*axes))  # type: ignore[no-untyped-call]
    return laid


def _names(path: tuple[Any, ...]) -> list[str]:
    return [str(getattr(key, "key", getattr(key, "name", ""))) for key in path]


def _leaf_layout(mesh: Mesh, names: list[str], shape: tuple[int, ...]) -> NamedSharding:
    spec = _spec(names, len(shape))
    divides = [part is None or size % _parts(mesh, part) == 0 for part, size in zip(spec, shape, strict=True)]
    return NamedSharding(mesh, P(*(part if ok else None for part, ok in zip(spec, divides, strict=True))))  # type: ignore[no-untyped-call]


def _parts(mesh: Mesh, axes: str | tuple[str, ...]) -> int:
    size = 1
    for axis in (axes,) if isinstance(axes, str) else axes:
        size *= mesh.shape[axis]
    return size


def _spec(names: list[str], dimensions: int) -> tuple[Any, ...]:
    """Returns the axes of a leaf by its name; where a size does not divide, the caller leaves the dimension whole."""
    whole: tuple[Any, ...] = (None,) * dimensions
    if dimensions < 2 or names[-1] == "scale":
        return whole
    if any(name in _BY_COLUMN for name in names) or "head" in names:
        return (*whole[:-2], "fsdp", "tensor")
    if any(name in _BY_ROW for name in names):
        return (*whole[:-2], "tensor", "fsdp")
    return (*whole[:-1], ("fsdp", "tensor"))  # embeddings: looked up by row
