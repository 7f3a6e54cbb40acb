"""The Inception of FID: torch-fidelity's own class is the oracle, with random weights that torch itself wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenizer.checkpoints.torch_writer import write_torch
from trainer.networks import inception
from trainer.networks.inception_network import NETWORK, layers_of
from visent.errors import UserError

# What torch-fidelity 0.4.0 says of the weights and pictures below: every 341st feature, the mean, the best class.
TOLD = (
    ([0.8898216, 0.0332377, 0.0, 0.0297946, 1.4074621, 5.1953316, 0.0], 2.655114457, 0.45941393),
    ([0.5301275, 0.0657735, 0.0, 0.1686769, 0.8343568, 3.2781491, 0.0], 1.959688909, 0.606292193),
)
FIDELITY = "torch-fidelity is the oracle: pip install torch torch-fidelity"
TENSORFLOW = "tensorflow writes the graph: pip install 'visent[tensorflow]'"


def random_weights() -> dict[str, np.ndarray]:
    """Weights of the network's shapes whose features neither vanish nor explode, under torch's names."""
    drawn = np.random.default_rng(0)
    channels, convs = layers_of(NETWORK, 3)
    found = {"fc.weight": drawn.normal(0, 0.05, (1008, channels)), "fc.bias": drawn.normal(0, 1, 1008)}
    for name, (inputs, conv) in convs.items():
        spread = (2 / (inputs * conv.kernel[0] * conv.kernel[1])) ** 0.5
        found[f"{name}.conv.weight"] = drawn.normal(0, spread, (conv.channels, inputs, *conv.kernel))
        found[f"{name}.bn.weight"] = drawn.uniform(0.7, 1.3, conv.channels)
        found[f"{name}.bn.bias"] = drawn.normal(0, 0.2, conv.channels)
        found[f"{name}.bn.running_mean"] = drawn.normal(0, 0.2, conv.channels)
        found[f"{name}.bn.running_var"] = drawn.uniform(0.5, 1.5, conv.channels)
    return {name: tensor.astype(np.float32) for name, tensor in found.items()}


def pictures(height: int, width: int) -> np.ndarray:
    """A smooth picture and a noisy one."""
    drawn = np.random.default_rng(1)
    noise = drawn.integers(0, 256, (1, height, width, 3))
    waves = np.sin(np.add.outer(np.arange(height) / 9, np.arange(width) / 5))[None, ..., None] * np.array(
        [90, 60, -100]
    )
    return np.concatenate([noise, 128 + waves]).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return random_weights()


@pytest.fixture(scope="module")
def file(weights: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    write_torch(path, weights)
    return path


def change(path: Path, weights: dict[str, np.ndarray], **other: np.ndarray | None) -> Path:
    """Writes the weights with some others, or without those that are None."""
    changed = weights | {name.replace("__", "."): tensor for name, tensor in other.items()}
    write_torch(path, {name: tensor for name, tensor in changed.items() if tensor is not None})
    return path


@pytest.mark.slow
def test_features_and_probabilities_are_those_that_torch_fidelity_gave(file: Path) -> None:
    """Where torch is not installed; the test below asks it again."""
    found = inception.load(file).run(pictures(256, 256))
    assert found.probabilities.argmax(axis=1).tolist() == [914, 914]
    for features, probabilities, (some, mean, likeliest) in zip(*found, TOLD, strict=True):
        np.testing.assert_allclose(features[::341], some, atol=1e-4)
        np.testing.assert_allclose(features.mean(dtype=np.float64), mean, rtol=1e-6)
        np.testing.assert_allclose(probabilities.max(), likeliest, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 32), (256, 256), (299, 299), (411, 333)])
def test_features_and_probabilities_are_those_of_torch_fidelity(
    weights: dict[str, np.ndarray], size: tuple[int, int], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch", reason=FIDELITY)
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason=FIDELITY)
    file = tmp_path / "written_by_torch.pth"
    torch.save({name: torch.from_numpy(tensor) for name, tensor in weights.items()}, file)
    oracle = extractor.FeatureExtractorInceptionV3("oracle", ["2048", "logits_unbiased"], str(file))
    with torch.no_grad():
        features, logits = oracle(torch.from_numpy(pictures(*size)).permute(0, 3, 1, 2))
    expected = torch.softmax(logits.double(), 1).numpy()
    found = inception.load(file).run(pictures(*size))
    scale = np.abs(features.numpy()).max()
    np.testing.assert_allclose(found.features, features.numpy(), atol=1e-5 * scale)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    assert np.ptp(found.features, axis=0).max() > 0.01 * scale  # the two pictures differ


@pytest.mark.slow
def test_behind_the_resizing_it_is_pytorch_fid_s_network(weights: dict[str, np.ndarray], file: Path) -> None:
    """Assembled of pytorch-fid's blocks as its `fid_inception_v3` does, which would fetch the weights."""
    torch = pytest.importorskip("torch", reason=FIDELITY)
    patched = pytest.importorskip("pytorch_fid.inception", reason="pip install torch torchvision pytorch-fid")
    net = patched._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    net.Mixed_5b, net.Mixed_5c = patched.FIDInceptionA(192, 32), patched.FIDInceptionA(256, 64)
    net.Mixed_5d = patched.FIDInceptionA(288, 64)
    for name, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        setattr(net, f"Mixed_{name}", patched.FIDInceptionC(768, inner))
    net.Mixed_7b, net.Mixed_7c = patched.FIDInceptionE_1(1280), patched.FIDInceptionE_2(2048)
    net.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.items()})
    net.fc = torch.nn.Identity()
    net.eval()
    whole = pictures(299, 299)
    with torch.no_grad():
        expected = net((torch.from_numpy(whole).permute(0, 3, 1, 2).float() - 128) / 128).numpy()
    found = inception.load(file).run(whole).features
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def graph_of(tensorflow: Any, weights: dict[str, np.ndarray], below: str = "") -> Any:
    """Returns a GraphDef of the weights under the names of the frozen graph."""
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    with tensorflow.Graph().as_default() as graph:
        for name, graph_name in inception.graph_names(NETWORK):
            kernel = weights[f"{name}.conv.weight"].transpose(2, 3, 1, 0)
            tensorflow.constant(kernel, name=f"{below}{graph_name}/conv2d_params")
            for part, other in names.items():
                tensorflow.constant(weights[f"{name}.bn.{part}"], name=f"{below}{graph_name}/batchnorm/{other}")
        tensorflow.constant(weights["fc.weight"].T, name=f"{below}softmax/weights")
        tensorflow.constant(weights["fc.bias"], name=f"{below}softmax/biases")
        return graph.as_graph_def()


@pytest.mark.slow
def test_a_frozen_graph_gives_the_weights_that_torch_s_file_gives(
    weights: dict[str, np.ndarray], file: Path, tmp_path: Path
) -> None:
    tensorflow = pytest.importorskip("tensorflow", reason=TENSORFLOW)
    path = tmp_path / "classify_image_graph_def.pb"
    path.write_bytes(graph_of(tensorflow, weights).SerializeToString())
    assert inception.recognises(path)
    found, expected = inception.weights_of(path), inception.weights_of(file)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert inception.load(path).same_as_papers == "no"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"cut|damaged"):
        inception.load(path)


@pytest.mark.slow
def test_a_graph_that_claims_more_than_it_holds_is_refused(weights: dict[str, np.ndarray], tmp_path: Path) -> None:
    """One number stands for a constant of a hundred billion, which would be 400 GB."""
    tensorflow = pytest.importorskip("tensorflow", reason=TENSORFLOW)
    graph, path = graph_of(tensorflow, weights), tmp_path / "graph.pb"
    value = graph.node[0].attr["value"].tensor
    value.ClearField("tensor_content")
    value.float_val.append(1)
    for side in value.tensor_shape.dim:
        side.size = 600
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(UserError, match="its constants are larger than the file"):
        inception.load(path)


@pytest.mark.slow
def test_a_saved_model_gives_the_weights_that_torch_s_file_gives(
    weights: dict[str, np.ndarray], file: Path, tmp_path: Path
) -> None:
    tensorflow = pytest.importorskip("tensorflow", reason=TENSORFLOW)
    graph = graph_of(tensorflow, weights, "inception/")

    def outputs(images: Any) -> Any:
        found = tensorflow.graph_util.import_graph_def(graph, return_elements=["inception/softmax/weights:0"], name="")
        return {"pool_3": tensorflow.reduce_mean(images) * found[0]}

    module = tensorflow.Module()
    module.call = tensorflow.function(outputs, [tensorflow.TensorSpec([None, 299, 299, 3])])
    tensorflow.saved_model.save(module, str(tmp_path / "module"))
    assert inception.recognises(tmp_path / "module")
    found, expected = inception.weights_of(tmp_path / "module"), inception.weights_of(file)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert inception.load(tmp_path / "module").sha256 != inception.load(file).sha256


def test_names_of_the_frozen_graph() -> None:
    """As `classify_image_graph_def.pb` lists them."""
    names = {graph: name for name, graph in inception.graph_names(NETWORK)}
    assert len(names) == 94
    assert names["conv_4"] == "Conv2d_4a_3x3"
    assert names["mixed/tower/conv_1"] == "Mixed_5b.branch5x5_2"
    assert names["mixed_3/tower/conv_2"] == "Mixed_6a.branch3x3dbl_3"
    assert names["mixed_6/conv"] == "Mixed_6d.branch1x1"
    assert names["mixed_8/tower_1/conv_3"] == "Mixed_7a.branch7x7x3_4"
    assert names["mixed_10/tower_1/mixed/conv_1"] == "Mixed_7c.branch3x3dbl_3b"


def test_weights_of_unknown_origin_are_called_so(file: Path) -> None:
    network = inception.load(file)
    assert inception.recognises(file)
    assert (network.features, network.classes, network.takes, network.same_as_papers) == (2048, 1008, "images", "no")
    assert "unknown weights" in network.label
    assert network.sha256[:8] in network.label


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda path, weights: change(path, weights, Mixed_6c__branch_pool__conv__weight=None),
            "holds no Mixed_6c.bra",
        ),
        (lambda path, weights: change(path, weights, fc__weight=np.zeros((1000, 2048), np.float32)), "torchvision"),
        (lambda path, weights: change(path, weights, Mixed_7a__branch3x3_1__bn__bias=np.full(192, np.nan)), "finite"),
    ],
)
def test_another_network_is_one_clear_line(
    spoil: Callable[..., Path], told: str, weights: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        inception.load(spoil(tmp_path / "other.pth", weights))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.001])
def test_a_cut_file_is_one_clear_line(file: Path, kept: float, tmp_path: Path) -> None:
    data = file.read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(UserError, match="truncated or damaged"):
        inception.recognises(tmp_path / "cut.pth")


def test_what_is_no_inception_is_not_recognised(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("pool_3")
    (tmp_path / "empty.pb").write_bytes(b"")
    write_torch(tmp_path / "other.pth", {"conv_stem.weight": np.zeros((3, 3), np.float32)})
    for name in ("words.txt", "empty.pb", "other.pth", "absent.pth", "."):
        assert not inception.recognises(tmp_path / name)
