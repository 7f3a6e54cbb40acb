"""The numbers in TensorFlow's frozen graphs and in SavedModels made of such; the graphs themselves are never run.

A graph is a program that may read and write any file of this machine, so its numbers alone are taken, for networks of
ours, which also run on any device. Reading needs tensorflow, and nothing else here does.
"""

import math
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from visent.errors import UserError, said

SAVED_MODEL = "saved_model.pb"
FLOATS = ("float16", "bfloat16", "float32", "float64")


def graph_file(path: Path) -> Path | None:
    """Returns the file with the graph, of a SavedModel's folder or of a frozen graph (`.pb`); None of anything else."""
    if (path / SAVED_MODEL).is_file():
        return path / SAVED_MODEL
    return path if path.is_file() and path.suffix == ".pb" else None


def holds_name(file: Path, name: str) -> bool:
    """Tells, without tensorflow, whether a graph's bytes hold a name."""
    if file.stat().st_size == 0:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(name.encode()) >= 0


def read_constants(file: Path) -> dict[str, np.ndarray]:
    """Returns a graph's constants of floating point by name; those of a function in it are named `function/constant`.

    Raises:
        UserError: tensorflow is not installed, or the file is cut, damaged or no graph.
    """
    try:
        import tensorflow
    except ImportError as error:
        raise UserError(
            f"reading {file} needs tensorflow, which runs nothing of it: pip install 'visent[tensorflow]'; "
            "pytorch-fid's file of the same weights needs nothing"
        ) from error
    floats = {getattr(tensorflow, kind).as_datatype_enum for kind in FLOATS}
    found = {name: value for name, value in _constants(_graphs(file)) if value.dtype in floats}
    try:
        _check_sizes(found.values(), file.stat().st_size)
        return {name: tensorflow.make_ndarray(value) for name, value in found.items()}
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise UserError(f"{file} is a damaged graph of TensorFlow: {said(error)[:300]}; fetch it again") from error


def _check_sizes(values: Iterable[Any], most: int) -> None:
    """Refuses constants of more numbers than the file has bytes: one number may stand for a tensor of any size.

    Raises:
        ValueError: they are so many.
    """
    shapes = [[side.size for side in value.tensor_shape.dim] for value in values]
    if any(side < 0 for shape in shapes for side in shape) or sum(map(math.prod, shapes)) > most:
        raise ValueError("its constants are larger than the file")


def _graphs(file: Path) -> list[Any]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        if file.name == SAVED_MODEL:
            return [meta.graph_def for meta in SavedModel.FromString(file.read_bytes()).meta_graphs]
        return [GraphDef.FromString(file.read_bytes())]
    except DecodeError as error:
        raise UserError(f"{file} is no graph of TensorFlow, or is cut: fetch it again") from error


def _constants(graphs: list[Any]) -> Iterator[tuple[str, Any]]:
    for graph in graphs:
        for node in graph.node:
            if node.op == "Const":
                yield node.name, node.attr["value"].tensor
        for function in graph.library.function:
            for node in function.node_def:
                if node.op == "Const":
                    yield f"{function.signature.name}/{node.name}", node.attr["value"].tensor
