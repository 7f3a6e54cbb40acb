"""ONNX networks that judge: their cards, and that they give what numpy gives."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from trainer.networks import onnx_network  # noqa: E402
from trainer.networks.onnx_card import read_card, read_mean  # noqa: E402
from trainer.networks.opening import open_network  # noqa: E402
from trainer.networks.resizing import resized  # noqa: E402
from visent.errors import UserError  # noqa: E402

FRAMES, SIDE, CHANNELS, CLASSES = 4, 12, 6, 5
DRAWN = np.random.default_rng(3)
KERNEL = DRAWN.normal(0, 0.3, (CHANNELS, 3, 3, 3, 3)).astype(np.float32)
MATRIX = DRAWN.normal(0, 1, (CHANNELS, CLASSES)).astype(np.float32)


def write_network(folder: Path, batch: int | str = "n") -> Path:
    """Writes a small C3D: one convolution of frames, a mean over all that is left, and a linear layer."""
    nodes = [
        helper.make_node("Conv", ["clip", "kernel"], ["conv1"], pads=[1] * 6),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("GlobalAveragePool", ["relu1"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["fc8"]),
        helper.make_node("Softmax", ["fc8"], ["prob"]),
        helper.make_node("Log", ["fc8"], ["log"]),
    ]
    given = helper.make_tensor_value_info("clip", TensorProto.FLOAT, [batch, 3, FRAMES, SIDE, SIDE])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("conv1", "pool", "fc8", "prob", "log")
    ]
    weights = [numpy_helper.from_array(KERNEL, "kernel"), numpy_helper.from_array(MATRIX, "matrix")]
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph(nodes, "c3d", [given], outputs, weights), opset_imports=opset)
    model.ir_version = 9
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "c3d.onnx").write_bytes(model.SerializeToString())
    return folder / "c3d.onnx"


def write_card(folder: Path, **changed: Any) -> Path:
    """Writes c3d.toml for the network; a field given as None is left out."""
    model = folder / "c3d.onnx"
    fields = {
        "file": "c3d.onnx",
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest() if model.is_file() else "0" * 64,
        "name": "small C3D",
        "takes": "clips",
        "frames": FRAMES,
        "size": [SIDE, SIDE],
        "scale": 1.0,
        "mean": [90.25, 97.66, 101.41],
        "std": [50, 60, 70.5],
        "features": "pool",
        "probabilities": "prob",
        **changed,
    }
    lines = (f"{name} = {f'{value!r}'}" for name, value in fields.items() if value is not None)
    (folder / "c3d.toml").write_text("\n".join(lines) + "\n")
    return folder / "c3d.toml"


def clips(count: int, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, FRAMES, *size, 3), np.uint8)


def by_numpy(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The features and logits of float[n f h w 3] by sums of shifted clips."""
    padded = np.pad(values.astype(np.float64), ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))
    frames, height, width = values.shape[1:4]
    convolved = sum(
        padded[:, f : f + frames, y : y + height, x : x + width] @ KERNEL[:, :, f, y, x].T
        for f in range(3)
        for y in range(3)
        for x in range(3)
    )  # fmt: skip
    features = np.maximum(convolved, 0).mean(axis=(1, 2, 3))
    return features, features @ MATRIX


def test_features_and_probabilities_are_numpys(tmp_path: Path) -> None:
    write_network(tmp_path)
    network, given = onnx_network.load(write_card(tmp_path)), clips(11)
    features, logits = by_numpy((given - np.array([90.25, 97.66, 101.41])) / [50, 60, 70.5])
    found = network.run(given)
    np.testing.assert_allclose(found.features, features, rtol=1e-4, atol=1e-5)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, shares, rtol=1e-4)
    assert (network.takes, network.features, network.classes) == ("clips", CHANNELS, CLASSES)


def test_c3ds_own_preparation(tmp_path: Path) -> None:
    """As tgan2 and MAGVIT do it: resized on aligned corners, blue first, a mean for every place in the clip."""
    write_network(tmp_path)
    mean = np.random.default_rng(9).uniform(80, 120, (3, FRAMES, SIDE, SIDE)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    changed = {"resize": "corners", "colours": "BGR", "mean_file": "mean.npy", "mean": None, "std": None}
    given = clips(2, (17, 20))
    found = onnx_network.load(write_card(tmp_path, **changed)).run(given)
    values = resized(given[..., ::-1].astype(np.float32), (SIDE, SIDE), "corners") - mean.transpose(1, 2, 3, 0)
    np.testing.assert_allclose(found.features, by_numpy(values)[0], rtol=1e-4)


def test_the_middle_is_cut_out_after_resizing(tmp_path: Path) -> None:
    write_network(tmp_path)
    card = write_card(tmp_path, size=[16, 21], crop=[SIDE, SIDE], mean=None, std=None)
    given = clips(2, (16, 21))
    found = onnx_network.load(card).run(given)
    np.testing.assert_allclose(found.features, by_numpy(given[:, :, 2:14, 4:16].astype(float))[0], rtol=1e-4)


def test_logits_get_their_softmax(tmp_path: Path) -> None:
    write_network(tmp_path)
    named = onnx_network.load(write_card(tmp_path)).run(clips(3)).probabilities
    logits = onnx_network.load(write_card(tmp_path, probabilities=None, logits="fc8")).run(clips(3)).probabilities
    np.testing.assert_allclose(named, logits, rtol=1e-5)


def test_a_network_of_one_fixed_batch_gives_the_same_bits(tmp_path: Path) -> None:
    write_network(tmp_path / "open")
    write_network(tmp_path / "three", batch=3)
    free = onnx_network.load(write_card(tmp_path / "open", batch_size=3)).run(clips(7))
    fixed = onnx_network.load(write_card(tmp_path / "three")).run(clips(7))
    assert np.array_equal(free.features, fixed.features)
    alone = onnx_network.load(write_card(tmp_path / "three")).run(clips(7)[6:])
    assert np.array_equal(alone.features[0], fixed.features[6])


def test_no_clips_get_no_features(tmp_path: Path) -> None:
    write_network(tmp_path)
    found = onnx_network.load(write_card(tmp_path)).run(clips(0))
    assert found.features.shape == (0, CHANNELS)
    assert found.probabilities.shape == (0, CLASSES)


def test_an_image_network_without_classes(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=1)]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 4, 6, 3])
    output = helper.make_tensor_value_info("mean", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "means", [given], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    (tmp_path / "c3d.onnx").write_bytes(model.SerializeToString())
    changed = {"takes": "images", "layout": "NHWC", "size": [4, 6], "features": "mean", "scale": 255.0}
    card = write_card(tmp_path, **changed, frames=None, probabilities=None, mean=None, std=None)
    given_pixels = clips(1, (4, 6))[0]
    found = onnx_network.load(card).run(given_pixels)
    np.testing.assert_allclose(found.features, given_pixels.mean(axis=(1, 2)) / 255, rtol=1e-5)
    assert found.probabilities is None


def test_its_label_says_whose_network_it_is(tmp_path: Path) -> None:
    model = write_network(tmp_path)
    own = onnx_network.load(write_card(tmp_path))
    assert own.label == f"small C3D ({own.sha256[:8]}; not the papers' network)"
    card = write_card(tmp_path, name=None, port_of="C3D, UCF101")
    port = open_network("actions", str(card))
    assert port.label == f"C3D, UCF101 ({port.sha256[:8]}, a port)"
    assert open_network("clips", str(card)).label == f"C3D, UCF101 ({port.sha256[:8]}; not the papers' network)"
    assert own.sha256 != port.sha256  # the card is part of what a network says
    assert onnx_network.load(model).sha256 == port.sha256  # by its file or by its card
    told = f"{hashlib.sha256(model.read_bytes()).hexdigest()}  c3d.onnx\n"
    described = hashlib.sha256(card.read_bytes()).hexdigest()
    assert port.sha256 == hashlib.sha256(f"{told}{described}  c3d.toml\n".encode()).hexdigest()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": None}, "lacks features; see docs/networks.md"),
        ({"sha256": None}, "lacks sha256"),
        ({"name": None}, "name is '', expected one of its own, or port_of"),
        ({"name": "C3D, UCF101"}, "or port_of where it is the papers' network"),
        ({"name": None, "port_of": "C3D"}, "port_of is 'C3D', expected one of 'Inception.*', 'C3D, UCF101'"),
        ({"feature": "pool"}, "unknown key 'feature': did you mean 'features'"),
        ({"features": "pol"}, "unknown output of .*c3d.onnx 'pol': did you mean 'pool'"),
        (
            {"features": "conv1"},
            r"output 'conv1' is float32\[8, 6, 4, 12, 12\] for a batch of 8, expected one row of numbers",
        ),
        ({"features": "log"}, "output 'log' has values that are not finite"),
        ({"probabilities": "fc8"}, "output 'fc8' is no list of probabilities: from .* name the output as logits"),
        ({"logits": "fc8"}, "both probabilities and logits are named"),
        ({"sha256": "0" * 64}, "has sha256 .* by c3d.toml it should have '0000.*: fetch the file that was described"),
        ({"frames": 8}, r"takes clip: tensor\(float\)\['n', 3, 4, 12, 12\]; .* one float NCFHW \(n, 3, 8, 12, 12\)"),
        ({"layout": "NFHWC"}, r"should take one float NFHWC \(n, 4, 12, 12, 3\)"),
        ({"layout": "NCHW"}, "layout is 'NCHW', expected N and then F, H, W, C in any order"),
        ({"frames": None}, "frames is 0, expected those of a clip"),
        ({"takes": "clip"}, "unknown takes 'clip': did you mean 'clips'"),
        ({"resize": "corner"}, "unknown resize 'corner': did you mean 'corners'"),
        ({"colours": "GRB"}, "unknown colours 'GRB'"),
        ({"size": [12]}, r"size is \[12\], expected 2 numbers"),
        ({"size": [100000, 12], "crop": [12, 12]}, "may be 4096 at most"),
        ({"crop": [13, 4]}, r"crop is \[13, 4\], expected a part of size, \[12, 12\]"),
        ({"std": [1.0, 0.0, 1.0]}, "std other than 0"),
        ({"mean": ["a", "b", "c"]}, "expected a list of float"),
        ({"file": "../c3d.onnx"}, "expected the name of a file beside the card"),
        ({"file": "other.onnx"}, "names the network .*other.onnx, which is not there"),
        ({"mean_file": "mean.npy"}, "cannot read .*mean.npy"),
    ],
)
def test_cards_that_do_not_fit_are_one_line(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    write_network(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        onnx_network.load(write_card(tmp_path, **changed))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: np.save(path, np.zeros((3, FRAMES, SIDE, SIDE + 1), np.float32)),
            r"expected finite floats \[3, 4",
        ),
        (lambda path: np.save(path, np.zeros((3, FRAMES, SIDE, SIDE), np.int32)), "is int32"),
        (lambda path: np.save(path, np.full((3, 1, 1, 1), np.nan)), "expected finite floats"),
        (lambda path: np.save(path, np.array([{}], object)), "pickled Python objects"),
        (lambda path: path.write_bytes(b"\x93NUMPY"), "no mean of pixels"),
    ],
)
def test_means_that_do_not_fit_are_one_line(tmp_path: Path, write: Callable[[Path], Any], message: str) -> None:
    write_network(tmp_path)
    write(tmp_path / "mean.npy")
    with pytest.raises(UserError, match=message):
        onnx_network.load(write_card(tmp_path, mean_file="mean.npy"))


def test_a_mean_may_be_the_same_in_all_frames(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.ones((3, 1, SIDE, SIDE)))
    card = read_card(write_card(tmp_path, mean_file="mean.npy"))
    assert read_mean(card, tmp_path).shape == (3, 1, SIDE, SIDE)


@pytest.mark.parametrize("name", ["c3d.onnx.data", "numbers.bin", "n" * 200])
def test_numbers_in_a_file_of_their_own_are_in_the_hash(tmp_path: Path, name: str) -> None:
    model = onnx.load(write_network(tmp_path))
    onnx.save_model(model, tmp_path / "c3d.onnx", save_as_external_data=True, location=name, size_threshold=0)
    (tmp_path / "c3d.onnx.bak").write_bytes(b"nothing of the network's")
    before = onnx_network.load(write_card(tmp_path))
    features, numbers = before.run(clips(1)).features, np.fromfile(tmp_path / name, np.float32)
    (tmp_path / name).unlink()  # it may still be read
    (2 * numbers).tofile(tmp_path / name)
    after = onnx_network.load(tmp_path / "c3d.toml")
    assert not np.allclose(features, after.run(clips(1)).features)
    assert before.sha256 != after.sha256
    (tmp_path / "c3d.onnx.bak").write_bytes(b"nor is this")
    assert onnx_network.load(tmp_path / "c3d.toml").sha256 == after.sha256


def test_missing_cards_and_other_files_are_one_line(tmp_path: Path) -> None:
    model = write_network(tmp_path)
    with pytest.raises(UserError, match=r"no .*c3d.toml: an ONNX network needs a TOML file"):
        onnx_network.load(model)
    model.write_bytes(b"no model")
    with pytest.raises(UserError, match="no ONNX model that runs here"):
        onnx_network.load(write_card(tmp_path))


def write_odd(folder: Path, nodes: list[Any], inputs: dict[str, list]) -> None:
    """Writes a network of some nodes in the place of the small C3D; it gives "pool" and "prob"."""
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in ("pool", "prob")]
    for output in outputs:
        output.ClearField("type")
    numbers = [
        numpy_helper.from_array(np.zeros(0, np.int64), "none"),
        numpy_helper.from_array(np.array([13, 13]), "odd"),
    ]
    graph = helper.make_graph(nodes, "odd", given, outputs, numbers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    (folder / "c3d.onnx").write_bytes(model.SerializeToString())


CLIP: list = ["n", 3, FRAMES, SIDE, SIDE]


@pytest.mark.parametrize(
    ("nodes", "inputs", "message"),
    [
        (["Identity", "Shape"], {"clip": CLIP}, r"output 'prob' is int64\[2\] for a batch of 8"),
        (["Identity", "Identity"], {"clip": [0, *CLIP[1:]]}, "takes clip: .* by its TOML it should take"),
        (["Identity", "Identity"], {"clip": [10**9, *CLIP[1:]]}, "takes clip: .* by its TOML it should take"),
        (["Identity", "Identity"], {"clip": CLIP, "mask": ["n"]}, r"mask: tensor\(float\)\['n'\]; by its TOML"),
        (["Identity", "nothing"], {"clip": CLIP}, r"output 'prob' is float32\[8, 0\] for a batch of 8"),
        (["Identity", "fails"], {"clip": CLIP}, r"c3d.onnx fails on \(8, 3, 4, 12, 12\) pixels: .*; export it again"),
        (["Identity", "Cast"], {"clip": CLIP}, "output 'prob' is object"),
    ],
)
def test_odd_networks_are_one_line(tmp_path: Path, nodes: list[str], inputs: dict[str, list], message: str) -> None:
    known = {
        "nothing": helper.make_node("Gather", ["flat", "none"], ["prob"], axis=1),
        "fails": helper.make_node("Reshape", ["flat", "odd"], ["prob"]),
        "Cast": helper.make_node("Cast", ["flat"], ["prob"], to=TensorProto.STRING),
    }
    made = [helper.make_node("Flatten", ["clip"], ["flat"]), helper.make_node(nodes[0], ["flat"], ["pool"])]
    made.append(known.get(nodes[1]) or helper.make_node(nodes[1], ["flat"], ["prob"]))
    write_odd(tmp_path, made, inputs)
    with pytest.raises(UserError, match=message) as caught:
        onnx_network.load(write_card(tmp_path))
    assert "\n" not in str(caught.value)


def test_pictures_and_clips_of_another_length_are_refused(tmp_path: Path) -> None:
    write_network(tmp_path)
    network = onnx_network.load(write_card(tmp_path))
    with pytest.raises(UserError, match="small C3D judges clips of 4 frames, got clips of 3 frames"):
        network.run(clips(2)[:, :3])
    with pytest.raises(UserError, match="got pictures"):
        network.run(clips(2)[0])


def test_networks_and_cards_are_recognised(tmp_path: Path) -> None:
    assert onnx_network.recognises(write_network(tmp_path))
    assert onnx_network.recognises(write_card(tmp_path))
    assert not onnx_network.recognises(tmp_path / "absent.onnx")
