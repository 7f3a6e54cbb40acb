#!/usr/bin/env python3
"""Makes an ONNX network with its card of the C3D that Inception Scores of UCF101 are made with.

    python docs/c3d_to_onnx.py conv3d_deepnetA_ucf.npz mean2.npz c3d/

The two files are those of pfnet-research/tgan2: Chainer's weights of `c3d_ucf101_finetune_whole_iter_20000`, and the
mean of its training clips. The network, the order of colours, the resizing and the cut of the mean are those of
tgan2/models/c3d/c3d_ucf101.py; the mean is subtracted from pixels of 0 to 255, as in google-research/magvit. Needs the
package onnx.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from visent.errors import UserError
from visent.untrusted.arrays import read_arrays

FRAMES, SIDE, CUT = 16, 112, 8  # of a clip; pixels before the part of the mean that is taken
CONVOLUTIONS = ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")
POOLED = {"conv1a": (1, 2, 2), "conv2a": (2, 2, 2), "conv3b": (2, 2, 2), "conv4b": (2, 2, 2), "conv5b": (2, 2, 2)}
LINEAR = ("fc6", "fc7", "fc8")
MOST_BYTES = 1 << 30
CARD = """\
file = "c3d_ucf101.onnx"
sha256 = "{sha256}"
port_of = "C3D, UCF101"
takes = "clips"
frames = 16
size = [112, 112]
resize = "corners"
colours = "BGR"
scale = 1.0
mean_file = "c3d_ucf101_mean.npy"
features = "fc7"
probabilities = "prob"
"""


def read(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Reads arrays of a .npz.

    Raises:
        UserError: it is missing, damaged, or lacks one.
    """
    try:
        with path.open("rb") as file:
            arrays = read_arrays(file, names, MOST_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for name in names:
        if name not in arrays:
            raise UserError(f"{path} holds no {name}: it is another file than the one that tgan2 uses")
    return arrays


def network(weights: dict[str, np.ndarray]) -> ModelProto:
    """Returns C3D with the weights; pools take what is left at an edge, as Chainer's do."""
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    nodes, last = [], "clip"
    for name in CONVOLUTIONS:
        nodes.append(helper.make_node("Conv", [last, f"{name}/W", f"{name}/b"], [f"{name}/sum"], pads=[1] * 6))
        nodes.append(helper.make_node("Relu", [f"{name}/sum"], [name]))
        last = name
        if sides := POOLED.get(name):
            last = f"{name}/pool"
            nodes.append(helper.make_node("MaxPool", [name], [last], kernel_shape=sides, strides=sides, ceil_mode=1))
    nodes.append(helper.make_node("Flatten", [last], ["flat"]))
    last = "flat"
    for name in LINEAR:
        out = name if name == "fc8" else f"{name}/sum"
        nodes.append(helper.make_node("Gemm", [last, f"{name}/W", f"{name}/b"], [out], transB=1))
        if name != "fc8":
            nodes.append(helper.make_node("Relu", [out], [name]))
        last = name
    nodes.append(helper.make_node("Softmax", ["fc8"], ["prob"], axis=1))
    given = helper.make_tensor_value_info("clip", TensorProto.FLOAT, ["clips", 3, FRAMES, SIDE, SIDE])
    widths = {"fc7": len(weights["fc7/b"]), "prob": len(weights["fc8/b"])}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["clips", widths[name]]) for name in widths]
    graph = helper.make_graph(nodes, "c3d_ucf101", [given], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def convert(weights: Path, mean: Path, folder: Path) -> None:
    """Writes the network, its mean and its card into a folder.

    Raises:
        UserError: a file is missing, damaged, or another.
    """
    names = tuple(f"{layer}/{part}" for layer in (*CONVOLUTIONS, *LINEAR) for part in "Wb")
    clip = read(mean, ("mean",))["mean"].astype(np.float32)
    cut = clip[..., CUT : CUT + SIDE, CUT : CUT + SIDE]
    if cut.shape != (3, FRAMES, SIDE, SIDE):
        raise UserError(f"{mean}: its mean is {list(clip.shape)}, expected [3, {FRAMES}, 128, 171]")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "c3d_ucf101.onnx"
    file.write_bytes(network(read(weights, names)).SerializeToString())
    checker.check_model(str(file))
    np.save(folder / "c3d_ucf101_mean.npy", cut)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    file.with_suffix(".toml").write_text(CARD.format(sha256=sha256))
    print(f"wrote {file} ({sha256[:8]}), its mean and its card: --network actions={file}")


def main() -> int:
    """Converts what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="conv3d_deepnetA_ucf.npz")
    parser.add_argument("mean", type=Path, help="mean2.npz")
    parser.add_argument("folder", type=Path, help="where the network goes")
    given = parser.parse_args()
    try:
        convert(given.weights, given.mean, given.folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
