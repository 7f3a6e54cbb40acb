"""Small real ONNX models, and the TOML files that describe them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SIDE = 24  # of the models' input


def convolution(kernel: np.ndarray, bias: Sequence[float] | None = None) -> list[Any]:
    """The parts of a model y = conv(x): (out, in, height, width), zeros around."""
    around = [kernel.shape[2] // 2, kernel.shape[3] // 2] * 2
    weights = [numpy_helper.from_array(kernel.astype(np.float32), "kernel")]
    if bias is not None:
        weights.append(numpy_helper.from_array(np.array(bias, np.float32), "bias"))
    return [[helper.make_node("Conv", ["x", *(w.name for w in weights)], ["y"], pads=around)], weights]


def per_pixel(colours: Sequence[Sequence[float]], bias: Sequence[float] | None = None) -> list[Any]:
    """A convolution of 1 x 1: each output is a weighted sum of the channels."""
    return convolution(np.array(colours)[..., None, None], bias)


def write_model(
    folder: Path,
    parts: list[Any],
    name: str = "model.onnx",
    batch: int | str = "n",
    outputs: Sequence[str] = ("y",),
    kind: int = TensorProto.FLOAT,
    given: int = TensorProto.FLOAT,
    shape: tuple[int | str, ...] = (3, SIDE, SIDE),
) -> Path:
    """Writes a model of the nodes and weights in `parts`, from "x" to `outputs`."""
    nodes, weights = parts
    x = helper.make_tensor_value_info("x", kind, [batch, *shape])
    y = [helper.make_tensor_value_info(output, given, None) for output in outputs]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], y, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 9
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(model.SerializeToString())
    return folder / name


def write_card(folder: Path, **fields: object) -> str:
    """Writes model.toml; without `decode` it is an image. Returns the annotator drawn=<path>."""
    values = {"file": "model.onnx", "size": [SIDE, SIDE], "decode": "image", **fields}
    folder.mkdir(parents=True, exist_ok=True)
    lines = (f"{name} = {_toml(value)}" for name, value in values.items() if value is not None)
    (folder / "model.toml").write_text("\n".join(lines) + "\n")
    return f"drawn={folder / 'model.toml'}"


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
