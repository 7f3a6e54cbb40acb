"""The numbers in TensorFlow's SavedModel folders and frozen graphs; their graphs are programs and are never run.

A graph may read and write any file of this machine, so its numbers alone are taken and go into networks of ours, which
also run on any device. Reading needs tensorflow, and nothing else here does.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from manifests import files
from visent.errors import UserError, said

GRAPH, VARIABLES = "saved_model.pb", "variables/variables"


def is_saved_model(path: str | Path) -> bool:
    """Tells whether a path is a SavedModel's folder."""
    return (Path(path) / GRAPH).is_file()


def variable_names_in(path: str | Path, wanted: str) -> bool:
    """Tells without tensorflow whether a SavedModel has variables with `wanted` in the name of the first of them.

    The index is a sorted table whose first name of each block is written out.
    """
    index = Path(path) / f"{VARIABLES}.index"
    return index.is_file() and wanted.encode() in files.read_bytes(index)


def variables(path: str | Path) -> dict[str, np.ndarray]:
    """Returns a SavedModel's variables by name.

    Raises:
        UserError: tensorflow is not installed, or they are missing or damaged.
    """
    tensorflow = _tensorflow(path)
    try:
        reader = tensorflow.train.load_checkpoint(str(Path(path) / VARIABLES))
        kinds = reader.get_variable_to_dtype_map()
        return {name: np.asarray(reader.get_tensor(name)) for name in kinds if kinds[name].is_floating}
    except (tensorflow.errors.OpError, RuntimeError, ValueError) as error:
        raise UserError(
            f"cannot read the variables of {path}: {said(error)[:300]}; a file is missing or damaged: unpack it again"
        ) from error


def constants(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the constants in a frozen graph's file, or in a SavedModel's graph and its functions, by name.

    A constant of a function is named `function/constant`.

    Raises:
        UserError: tensorflow is not installed, or the file is none of the two.
    """
    tensorflow = _tensorflow(path)
    data = files.read_bytes(Path(path) / GRAPH if is_saved_model(path) else path)
    try:
        return {name: tensorflow.make_ndarray(value) for name, value in _constants(_graphs(path, data))}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is a damaged graph of TensorFlow: {said(error)[:300]}; fetch it again") from error


def _graphs(path: str | Path, data: bytes) -> list[Any]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        if is_saved_model(path):
            return [meta.graph_def for meta in SavedModel.FromString(data).meta_graphs]
        return [GraphDef.FromString(data)]
    except DecodeError as error:
        raise UserError(f"{path} is no graph of TensorFlow, or is cut: fetch it again") from error


def _constants(graphs: list[Any]) -> Iterator[tuple[str, Any]]:
    for graph in graphs:
        for node in graph.node:
            if node.op == "Const":
                yield node.name, node.attr["value"].tensor
        for function in graph.library.function:
            for node in function.node_def:
                if node.op == "Const":
                    yield f"{function.signature.name}/{node.name}", node.attr["value"].tensor


def _tensorflow(path: str | Path) -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise UserError(
            f"reading {path} needs tensorflow, which runs nothing of it: pip install 'visent[tensorflow]'"
        ) from error
    return tensorflow
