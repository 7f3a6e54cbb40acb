"""Reads the Inception-v3 of 2015-12-05 from what its publishers give, and makes a network of it.

pytorch-fid's and torch-fidelity's file of torch, OpenAI's frozen graph (ADM's evaluator) and TF-GAN's SavedModel of
TF-Hub hold the same layers under other names. A graph's numbers alone are read, by tensorflow; it is never run.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from trainer.networks import layers
from trainer.networks.graph_constants import graph_file, holds_name, read_constants
from trainer.networks.inception_network import CLASSES, FEATURES, NETWORK, Branches, Conv, Step, describe, layers_of
from trainer.networks.network import PAPERS, Network
from trainer.networks.running import batched
from trainer.networks.weights import check_shapes, is_pickled, names_of, read_state_dict, sha256_of
from visent.errors import UserError

NAME = PAPERS["images"]
# pytorch-fid's pt_inception-2015-12-05-6726825d.pth and torch-fidelity's weights-inception-2015-12-05-6726825d.pth
PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
WHERE = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth "
    f"(sha256 {PUBLISHED}, 95,628,359 bytes), or OpenAI's "
    "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/classify_image_graph_def.pb "
    "(no hash was published)"
)
EPSILON = 1e-3
BATCH = 32  # for each device
TELLS = ("Mixed_7c.branch_pool.conv.weight", "fc.weight")  # tensors that torch's ports of Inception have
LAST = "mixed_10/tower_2/conv/conv2d_params"  # a constant of the frozen graph
PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def recognises(path: Path) -> bool:
    """Tells whether these are weights of an Inception: torch's state dictionary, a frozen graph, or a SavedModel.

    Raises:
        UserError: the file is cut or damaged.
    """
    if (graph := graph_file(path)) is not None:
        return holds_name(graph, LAST)
    return is_pickled(path) and set(TELLS) <= set(names_of(path))


def load(path: Path) -> Network:
    """Reads the network.

    Raises:
        UserError: the weights are damaged or of another network, or they are a graph and tensorflow is not installed.
    """
    weights, sha256 = weights_of(path), sha256_of(path)
    known = sha256 == PUBLISHED
    return Network(
        name=NAME if known else f"{NAME}, unknown weights",
        where=str(path),
        sha256=sha256,
        same_as_papers="yes" if known else "no",
        takes="images",
        features=FEATURES,
        classes=CLASSES,
        run=batched(describe, weights, BATCH),
    )


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """Returns kernels and biases by layer, with batch normalisation in them, and the classes' matrix.

    Raises:
        UserError: the file is damaged, or of another network.
    """
    graph = graph_file(path)
    tensors = read_state_dict(path) if graph is None else _of_graph(path, read_constants(graph))
    channels, convs = layers_of(NETWORK, 3)
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (CLASSES, channels)}
    for name, (inputs, conv) in convs.items():
        shapes[f"{name}.conv.weight"] = (conv.channels, inputs, *conv.kernel)
        shapes |= {f"{name}.bn.{part}": (conv.channels,) for part in PARTS.values()}
    check_shapes(path, tensors, shapes, "the Inception of FID (with 1,008 classes; torchvision's is another)")
    weights = {"classes": np.ascontiguousarray(tensors["fc.weight"].T, np.float32)}
    for name in convs:
        kernel = tensors[f"{name}.conv.weight"].transpose(2, 3, 1, 0)
        scale, shift, mean, variance = (tensors[f"{name}.bn.{part}"] for part in PARTS.values())
        weights[f"{name}.kernel"], weights[f"{name}.bias"] = layers.folded(
            kernel, scale, shift, mean, variance, EPSILON
        )
    return weights


def _of_graph(path: Path, constants: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a graph's constants under torch's names; in a SavedModel they lie below the name of a function."""
    below = next((name.removesuffix(LAST) for name in constants if name.endswith(LAST)), None)
    if below is None:
        raise UserError(f"{path} holds no constant {LAST}: it is no graph of {NAME} with its weights in it; {WHERE}")
    found = {}
    for name, graph_name in graph_names(NETWORK):
        if (kernel := constants.get(f"{below}{graph_name}/conv2d_params")) is not None and kernel.ndim == 4:
            found[f"{name}.conv.weight"] = kernel.transpose(3, 2, 0, 1)
        for part, torch_part in PARTS.items():
            if (values := constants.get(f"{below}{graph_name}/batchnorm/{part}")) is not None:
                found[f"{name}.bn.{torch_part}"] = values
    if (matrix := constants.get(f"{below}softmax/weights")) is not None:
        found["fc.weight"] = matrix.T
    return found


def graph_names(steps: tuple[Step, ...], inside: str = "", graph_inside: str = "") -> Iterator[tuple[str, str]]:
    """Yields each convolution's name in torch's port and in the frozen graph.

    The graph counts: `conv`, `conv_1` ... along a way, `mixed`, `mixed_1` ... blocks, and `tower`, `tower_1` ... the
    ways of a block; a way of one convolution alone, and those of a fork at a way's end, have no tower.
    """
    convs = blocks = 0
    for step in steps:
        if isinstance(step, Conv):
            yield inside + step.name, graph_inside + _counted("conv", convs)
            convs += 1
        elif isinstance(step, Branches):
            yield from _ways(step, inside, f"{graph_inside}{_counted('mixed', blocks)}/")
            blocks += 1


def _ways(block: Branches, inside: str, graph_inside: str) -> Iterator[tuple[str, str]]:
    inside = f"{inside}{block.name}." if block.name else inside
    towers = alone = 0
    for way in block.ways:
        if len(way) == 1 and isinstance(way[0], Conv):
            yield inside + way[0].name, graph_inside + _counted("conv", alone)
            alone += 1
        elif len(way) > 1:
            yield from graph_names(way, inside, f"{graph_inside}{_counted('tower', towers)}/")
            towers += 1


def _counted(word: str, number: int) -> str:
    return f"{word}_{number}" if number else word
