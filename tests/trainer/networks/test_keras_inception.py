"""Layers models of TensorFlow.js are read without running anything, and say what Keras says."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainer.networks import keras_inception
from trainer.networks.tfjs_files import read_model
from visent.errors import UserError

DRAWN = np.random.default_rng(0)
SIZE = 24


def layer(kind: str, name: str, inputs: list[str], **config: Any) -> dict[str, Any]:
    nodes = [[[one, 0, 0, {}] for one in inputs]] if inputs else []
    return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}


def conv(name: str, of: str, kernel: list[int], strides: int = 1, padding: str = "same") -> dict[str, Any]:
    settings = {"filters": 6, "kernel_size": kernel, "strides": [strides] * 2, "padding": padding}
    return layer("Conv2D", name, [of], **settings, activation="linear", use_bias=False)


def pool(kind: str, name: str, of: str, size: int, strides: int, padding: str) -> dict[str, Any]:
    return layer(kind, name, [of], pool_size=[size] * 2, strides=[strides] * 2, padding=padding)


LAYERS = [
    layer("InputLayer", "input", [], batch_input_shape=[None, SIZE, SIZE, 3]),
    conv("conv_1", "input", [3, 3], 2, "valid"),
    layer("BatchNormalization", "norm_1", ["conv_1"], axis=3, epsilon=0.001, center=True, scale=False),
    layer("Activation", "relu_1", ["norm_1"], activation="relu"),
    conv("conv_2", "relu_1", [1, 5]),
    layer("BatchNormalization", "norm_2", ["conv_2"], axis=3, epsilon=0.01, center=True, scale=True),
    pool("AveragePooling2D", "average", "relu_1", 3, 1, "same"),
    pool("MaxPooling2D", "max", "relu_1", 3, 1, "same"),
    layer("Concatenate", "mixed", ["norm_2", "average", "max"], axis=3),
    pool("MaxPooling2D", "halved", "mixed", 3, 2, "valid"),
    pool("AveragePooling2D", "pooled", "halved", 5, 1, "valid"),
    layer("Flatten", "flat", ["pooled"]),
    layer("Dropout", "dropout", ["flat"], rate=0.5),
    layer("Dense", "dense_1", ["dropout"], units=7, activation="relu", use_bias=True),
    layer("Dense", "dense_2", ["dense_1"], units=4, activation="softmax", use_bias=True),
]
SHAPES = {
    "conv_1/kernel": (3, 3, 3, 6), "conv_2/kernel": (1, 5, 6, 6), "dense_1/kernel": (18, 7), "dense_1/bias": (7,),
    "dense_2/kernel": (7, 4), "dense_2/bias": (4,), "norm_1/beta": (6,), "norm_1/moving_mean": (6,),
    "norm_1/moving_variance": (6,), "norm_2/beta": (6,), "norm_2/gamma": (6,), "norm_2/moving_mean": (6,),
    "norm_2/moving_variance": (6,),
}  # fmt: skip


def manifest() -> tuple[list[dict[str, Any]], bytes, dict[str, np.ndarray]]:
    """Returns weights of 8 bits and one of whole floats, as tfjs lists and stores them, and their values."""
    listed, data, values = [], b"", {}
    for name, shape in SHAPES.items():
        if name == "dense_2/bias":
            values[name] = np.arange(4, dtype=np.float32)
            listed.append({"name": name, "shape": list(shape), "dtype": "float32"})
            data += values[name].tobytes()
            continue
        codes, low = DRAWN.integers(0, 256, shape, np.uint8), 0.1 if "variance" in name else -1.0
        squeezed = {"min": low, "scale": 0.0078125, "dtype": "uint8"}
        listed.append({"name": name, "shape": list(shape), "dtype": "float32", "quantization": squeezed})
        data, values[name] = data + codes.tobytes(), codes * np.float32(0.0078125) + np.float32(low)
    return listed, data, values


def write(folder: Path, layers: list[dict[str, Any]] = LAYERS, cut: int = 0) -> dict[str, np.ndarray]:
    """Writes the model as tfjs' converter does, in two shards; returns its weights."""
    listed, data, values = manifest()
    folder.mkdir(exist_ok=True)
    group = {"paths": ["group1-shard1of2.bin", "group1-shard2of2.bin"], "weights": listed}
    (folder / group["paths"][0]).write_bytes(data[:301])
    (folder / group["paths"][1]).write_bytes(data[301 : len(data) - cut])
    topology = {"model_config": {"class_name": "Model", "config": {"layers": layers}}}
    (folder / "model.json").write_text(json.dumps({"modelTopology": topology, "weightsManifest": [group]}))
    return values


def pack(folder: Path) -> None:
    """Turns a model into what nsfwjs' package has: JavaScript without quotes, and base64."""
    text = (folder / "model.json").read_text().replace(".bin", "").replace("0.001", ".001").replace(" ", "")
    for word, short in (("true", "!0"), ("false", "!1")):
        text = text.replace(word, short)
    for name in ("modelTopology", "weightsManifest", "layers", "class_name", "config", "quantization", "min"):
        text = text.replace(f'"{name}":', f"{name}:")
    wrapped = "!function(a){}(function(){return{1:[function(a,b,c){b.exports=%s},{}]},{},[1])(1)});"
    (folder / "model.min.js").write_text(wrapped % text)
    for shard in folder.glob("*.bin"):
        coded = base64.b64encode(shard.read_bytes()).decode()
        (folder / f"{shard.stem}.min.js").write_text(wrapped % f'"{coded}"')
        shard.unlink()
    (folder / "model.json").unlink()


def pictures(count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def test_a_package_s_javascript_gives_what_the_converter_s_files_give(tmp_path: Path) -> None:
    values = write(tmp_path / "files")
    write(tmp_path / "package")
    (config, found) = read_model(tmp_path / "files")
    assert found.keys() == values.keys()
    np.testing.assert_allclose(found["conv_1/kernel"], values["conv_1/kernel"], rtol=1e-6)
    pack(tmp_path / "package")
    packed_config, packed = read_model(tmp_path / "package")
    assert packed_config == config
    assert found["dense_2/bias"].tolist() == packed["dense_2/bias"].tolist() == [0, 1, 2, 3]


def test_it_says_what_keras_says(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="the oracle is pip install 'visent[tensorflow]'")
    values, results = write(tmp_path), {}
    for one in LAYERS:
        config = {name: value for name, value in one["config"].items() if name != "batch_input_shape"}
        if one["class_name"] == "InputLayer":
            results[one["name"]] = keras.Input((SIZE, SIZE, 3), name="input")
            continue
        inputs = [results[node[0]] for node in one["inbound_nodes"][0]]
        made = getattr(keras.layers, one["class_name"])(**config)
        results[one["name"]] = made(inputs if len(inputs) > 1 else inputs[0])
    model = keras.Model(results["input"], [results["flat"], results["dense_2"]])
    for one in model.layers:
        if one.name != "dropout":
            one.set_weights([values[f"{one.name}/{weight.name}"] for weight in one.weights])
    features, probabilities = (np.asarray(part) for part in model(pictures().astype(np.float32) / 255))
    found = keras_inception.load(tmp_path).run(pictures())
    np.testing.assert_allclose(found.features, features, atol=1e-5 * np.abs(features).max())
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-5)


def test_another_size_is_resized_with_corners_on_corners(tmp_path: Path) -> None:
    write(tmp_path)
    network = keras_inception.load(tmp_path)
    ramp = np.linspace(0, 250, 2 * SIZE - 1).round().astype(np.uint8)[None, :, None, None]
    large = np.broadcast_to(ramp, (1, 2 * SIZE - 1, 2 * SIZE - 1, 3))
    np.testing.assert_allclose(network.run(large).features, network.run(large[:, ::2, ::2]).features, atol=1e-4)


def test_it_is_never_called_a_paper_s_network(tmp_path: Path) -> None:
    write(tmp_path)
    network = keras_inception.load(tmp_path)
    assert keras_inception.recognises(tmp_path)
    assert (network.features, network.classes, network.same_as_papers) == (18, 4, "no")
    assert "not the papers' network" in network.label


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ((1, "class_name"), "Lambda", "unknown kind of layer 'Lambda'"),
        ((0, "config", "batch_input_shape"), [None, 10**12, SIZE, 3], "expected a height and width of 1 to 4096"),
        ((0, "config", "batch_input_shape"), [None, SIZE, SIZE, 4], "and 3 colours"),
        ((1, "config", "groups"), 3, "is dilated or in groups"),
        ((2, "config", "axis"), 1, "'norm_1' works along axis 1, expected that of the channels"),
        ((8, "config", "axis"), 1, "'mixed' works along axis 1, expected that of the channels"),
        ((13, "inbound_nodes"), [[["pooled", 0, 0, {}]]], r"takes \(1, 1, 18\), expected one row of numbers"),
        ((1, "config", "padding"), "causal", "unknown padding 'causal'"),
        ((1, "config", "strides"), [1, 2], "expected the same along both sides"),
        ((13, "config", "activation"), "swish", "unknown activation 'swish'"),
        ((13, "config"), {}, "does not fit together"),
        ((2, "inbound_nodes"), [[["dense_2", 0, 0, {}]]], "comes before what it takes, dense_2"),
    ],
)
def test_other_layers_are_one_clear_line(place: tuple[Any, ...], value: Any, told: str, tmp_path: Path) -> None:
    layers = json.loads(json.dumps(LAYERS))
    inside = layers
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    write(tmp_path, layers)
    with pytest.raises(UserError, match=told) as caught:
        keras_inception.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_cut_and_missing_files_are_one_clear_line(tmp_path: Path) -> None:
    write(tmp_path / "short", cut=5)
    with pytest.raises(UserError, match="lies beyond"):
        keras_inception.load(tmp_path / "short")
    write(tmp_path / "absent")
    (tmp_path / "absent" / "group1-shard2of2.bin").unlink()
    with pytest.raises(UserError, match="No such file"):
        keras_inception.load(tmp_path / "absent")
    write(tmp_path / "cut")
    pack(tmp_path / "cut")
    for name, told in (("model.min.js", "no object of plain values"), ("group1-shard1of2.min.js", "holds no base64")):
        file = tmp_path / "cut" / name
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match=told):
            keras_inception.load(tmp_path / "cut")
        file.write_bytes(whole)
    assert not keras_inception.recognises(tmp_path)


@pytest.mark.slow
def test_nsfwjs_s_own_inception_finds_photographs_harmless(samples: Path) -> None:
    """The folder that `npm pack nsfwjs@4.4.0` leaves is named by VISENT_TEST_NSFWJS."""
    folder = os.environ.get("VISENT_TEST_NSFWJS")
    if folder is None:
        pytest.skip("npm pack nsfwjs@4.4.0, unpack it, VISENT_TEST_NSFWJS=.../package/dist/models/inception_v3")
    network = keras_inception.load(Path(folder))
    assert (network.name, network.features, network.classes) == (keras_inception.NAME, 2048, 5)
    photos = sorted((samples / "photos").rglob("*.jpg"))[::25]
    pixels = np.stack([np.asarray(Image.open(photo).convert("RGB").resize((256, 256))) for photo in photos])
    assert np.mean(network.run(pixels).probabilities.argmax(axis=1) == 2) > 0.9
