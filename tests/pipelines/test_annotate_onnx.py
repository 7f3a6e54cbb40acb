"""ONNX models as annotators: what their TOML files say, and what is drawn."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from made_onnx import SIDE, convolution, per_pixel, write_card, write_model  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from PIL import Image  # noqa: E402

from pipelines.annotate.annotators import NETWORKS  # noqa: E402
from pipelines.annotate.networks import shared_network, weights  # noqa: E402
from pipelines.annotate.onnx_card import PALETTES, OnnxCard, read_card  # noqa: E402
from pipelines.meter import Meter  # noqa: E402
from pipelines.render import palettes  # noqa: E402
from visent.errors import UserError  # noqa: E402

SOBEL = np.broadcast_to(np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 3, (1, 3, 3, 3))
IDENTITY = per_pixel(np.eye(3).tolist())


def noise(seed: int = 0, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def drawn(annotator: str, *pictures: np.ndarray) -> list[np.ndarray]:
    """What the annotator draws on pictures, in batches as in a job."""
    network = shared_network(*weights([annotator]), 32)
    parts = [list(pictures[i : i + network.batch_size]) for i in range(0, len(pictures), network.batch_size)]
    return [picture for part in parts for picture in network.submit(part, Meter()).result()]


def test_sobels_edges_are_those_of_the_convolution(tmp_path: Path) -> None:
    write_model(tmp_path, convolution(SOBEL))
    picture = noise()
    (result,) = drawn(write_card(tmp_path, decode="edges", values="probabilities"), picture)
    grey = np.pad(picture.mean(axis=2) / 255, 1)
    expected = sum(
        SOBEL[0, 0, i, j] * 3 * grey[i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)
    )  # fmt: skip
    assert np.abs(result[..., 0] - np.clip(expected, 0, 1) * 255).max() < 0.51
    assert (result == result[..., :1]).all()


def test_logits_go_through_the_sigmoid(tmp_path: Path) -> None:
    write_model(tmp_path, per_pixel([[10, 0, 0]], [-5]))
    (result,) = drawn(write_card(tmp_path, decode="edges"), noise())
    red = noise()[..., 0] / 255
    assert np.abs(result[..., 0] - 255 / (1 + np.exp(5 - 10 * red))).max() < 0.51


@pytest.mark.parametrize("colours", ["RGB", "BGR"])
@pytest.mark.parametrize("batch", [1, 3, "n"])
def test_an_image_comes_back_as_the_network_gave_it(tmp_path: Path, colours: str, batch: int | str) -> None:
    """The normalized input, undone by the network: y = x std + mean; so the picture itself, in either order."""
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    write_model(tmp_path, per_pixel(np.diag(std).tolist(), mean), batch=batch)
    pictures = [noise(seed) for seed in range(5)]
    results = drawn(write_card(tmp_path, mean=mean, std=std, colours=colours), *pictures)
    assert all(np.array_equal(result, picture) for result, picture in zip(results, pictures, strict=True))


def test_the_network_sees_channels_in_the_order_of_the_card(tmp_path: Path) -> None:
    write_model(tmp_path, per_pixel([[1, 0, 0]]))
    (result,) = drawn(write_card(tmp_path, decode="edges", values="probabilities", colours="BGR"), noise())
    assert np.array_equal(result[..., 0], noise()[..., 2])


def test_a_range_is_stretched_and_what_is_outside_clipped(tmp_path: Path) -> None:
    write_model(tmp_path, per_pixel((2 * np.eye(3)).tolist(), [-1, -1, -1]))
    (result,) = drawn(write_card(tmp_path, range=[-1, 1]), noise())
    assert np.array_equal(result, noise())
    (result,) = drawn(write_card(tmp_path, range=[-0.5, 0.5]), noise())
    assert (result[noise() < 60] == 0).all()
    assert (result[noise() > 195] == 255).all()


@pytest.mark.parametrize("values", ["disparity", "distance"])
def test_near_is_bright_whatever_the_network_gives(tmp_path: Path, values: str) -> None:
    """A disparity of 0, or below, is far: networks have no unknown pixels."""
    bias = [0.5] if values == "distance" else [-0.5]
    write_model(tmp_path, per_pixel([[1, 0, 0]], bias))
    ramp = np.broadcast_to(np.linspace(0, 255, SIDE).astype(np.uint8)[:, None, None], (SIDE, SIDE, 3)).copy()
    (result,) = drawn(write_card(tmp_path, decode="depth", values=values), ramp)
    column = result[:, 0, 0].astype(int)
    assert (np.sign(np.diff(column[1:-1])) == (1 if values == "disparity" else -1)).all()
    assert {column.min(), column.max()} == {1, 255}


def test_labels_are_painted_in_the_palette_from_its_first_row(tmp_path: Path) -> None:
    """The highest of three scores is the class: wall, building, sky of ADE20K, which has a row for "other" before."""
    write_model(tmp_path, IDENTITY)
    card = write_card(tmp_path, decode="labels", palette="ade20k", first_row=1)
    (result,) = drawn(card, noise())
    expected = palettes.ade20k()[1:][noise().argmax(axis=2)]
    assert np.array_equal(result, expected)


def test_ids_and_channels_last(tmp_path: Path) -> None:
    nodes = [helper.make_node("ArgMax", ["x"], ["y"], axis=3, keepdims=0)]
    write_model(tmp_path, [nodes, []], shape=(SIDE, SIDE, 3), given=TensorProto.INT64)
    card = write_card(tmp_path, decode="labels", values="ids", palette="voc", layout="NHWC")
    halves = np.zeros((3 * SIDE, 2 * SIDE, 3), np.uint8)
    halves[:, :SIDE, 1], halves[:, SIDE:, 2] = 200, 200
    for picture in (noise(), halves):
        assert np.array_equal(drawn(card, picture)[0], palettes.voc()[picture.argmax(axis=2)])


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.UINT8])
def test_models_of_other_types_of_numbers(tmp_path: Path, kind: int) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    write_model(tmp_path, [nodes, []], kind=kind)
    card = write_card(tmp_path, scale=1, range=[0, 255])
    assert np.array_equal(drawn(card, noise())[0], noise())


def test_one_output_of_several_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["negative"]), helper.make_node("Identity", ["x"], ["same"])]
    write_model(tmp_path, [nodes, []], outputs=("negative", "same"))
    assert np.array_equal(drawn(write_card(tmp_path, output="same"), noise())[0], noise())
    with pytest.raises(UserError, match="outputs negative, same: name one"):
        drawn(write_card(tmp_path), noise())
    with pytest.raises(UserError, match="did you mean 'same'"):
        drawn(write_card(tmp_path, output="sane"), noise())


def test_a_picture_is_drawn_alike_alone_and_among_others_of_other_sizes(tmp_path: Path) -> None:
    write_model(tmp_path, convolution(SOBEL))
    card = write_card(tmp_path, decode="edges")
    pictures = [noise(seed, shape) for seed, shape in enumerate([(24, 24), (50, 31), (9, 77), (24, 25), (64, 64)])]
    together = drawn(card, *pictures)
    for picture, result in zip(pictures, together, strict=True):
        assert result.shape == picture.shape
        assert np.array_equal(drawn(card, picture)[0], result)


def test_enlarged_maps_lie_where_the_picture_is(tmp_path: Path) -> None:
    write_model(tmp_path, IDENTITY)
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8))
    smooth = np.asarray(small.resize((80, 60), Image.Resampling.BICUBIC))
    (result,) = drawn(write_card(tmp_path), smooth)
    assert np.abs(result.astype(int) - smooth).mean() < 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decoding": "edges"}, "unknown key 'decoding': did you mean 'decode'"),
        ({"decode": None}, "lacks decode"),
        ({"decode": "egdes"}, "did you mean 'edges'"),
        ({"decode": "edges", "values": "logit"}, "did you mean 'logits'"),
        ({"layout": "NCWH"}, "did you mean 'NCHW'"),
        ({"decode": "labels"}, "palette goes with"),
        ({"palette": "voc"}, "palette goes with"),
        ({"decode": "labels", "palette": "ade"}, "unknown palette"),
        ({"decode": "labels", "palette": "voc", "first_row": 256}, "has 256 rows"),
        ({"size": SIDE}, "expected a list of int"),
        ({"size": [SIDE]}, "expected 2 numbers"),
        ({"size": [SIDE, 2.5]}, "expected a list of int"),
        ({"mean": ["a", "b", "c"]}, "expected a list of float"),
        ({"scale": 0}, "must be positive"),
        ({"range": [1, 1]}, "range must rise"),
        ({"size": [SIDE, 48]}, "by its TOML it should take"),
        ({"layout": "NHWC"}, "by its TOML it should take"),
        ({"decode": "depth"}, "expected 1 map for decode"),
        ({"file": "other.onnx"}, "which is not there"),
    ],
)
def test_a_wrong_card_is_one_clear_error(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    write_model(tmp_path, IDENTITY)
    with pytest.raises(UserError, match=message):
        drawn(write_card(tmp_path, **fields), noise())


def test_a_card_that_is_missing_or_no_toml_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        weights([f"drawn={tmp_path}/absent.toml"])
    (tmp_path / "model.toml").write_text("file = ")
    with pytest.raises(UserError, match="no TOML"):
        weights([f"drawn={tmp_path}/model.toml"])


def test_a_model_that_is_none_is_one_clear_error(tmp_path: Path) -> None:
    whole = write_model(tmp_path, IDENTITY).read_bytes()
    for content in (b"", b"no model", whole[: len(whole) // 2]):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(UserError, match="no ONNX model"):
            drawn(write_card(tmp_path), noise())


def test_a_network_that_gives_nan_or_an_unknown_class_is_one_clear_error(tmp_path: Path) -> None:
    write_model(tmp_path, [[helper.make_node("Log", ["x"], ["y"])], []])
    with pytest.raises(UserError, match="not finite"):
        drawn(write_card(tmp_path), noise())
    kernel = np.zeros((21, 3))
    kernel[20] = 1
    write_model(tmp_path, per_pixel(kernel.tolist()))
    with pytest.raises(UserError, match=r"classes 20 to 20, palette 'cityscapes_train' .* 0 to 18"):
        drawn(write_card(tmp_path, decode="labels", palette="cityscapes_train"), noise())


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path, per_pixel((0.5 * np.eye(3)).tolist()))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'visent\[onnx\]'"):
        drawn(write_card(tmp_path), noise())


def test_the_digest_is_of_card_model_and_weights_beside_it(tmp_path: Path) -> None:
    write_model(tmp_path, IDENTITY)
    digests = [weights([write_card(tmp_path)])[0].sha256]
    digests.append(weights([write_card(tmp_path, batch_size=2)])[0].sha256)
    write_model(tmp_path, per_pixel((0.5 * np.eye(3)).tolist()))
    digests.append(weights([write_card(tmp_path)])[0].sha256)
    (tmp_path / "model.onnx.data").write_bytes(b"weights")
    digests.append(weights([write_card(tmp_path)])[0].sha256)
    assert len(set(digests)) == 4


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    path = write_model(tmp_path, IDENTITY)
    model = onnx.load(path)
    kernel = numpy_helper.from_array(np.ascontiguousarray(np.eye(3)[..., None, None], np.float32), "kernel")
    model.graph.initializer[0].CopyFrom(kernel)
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    assert (tmp_path / "model.onnx.data").stat().st_size
    assert np.array_equal(drawn(write_card(tmp_path), noise())[0], noise())


def test_the_readmes_card_and_names_are_those_of_the_code(tmp_path: Path) -> None:
    readme = (Path(__file__).resolve().parents[2] / "pipelines" / "README.md").read_text(encoding="utf-8")
    (tmp_path / "depth.toml").write_text(readme.split("```toml\n")[1].split("```")[0])
    assert read_card(tmp_path / "depth.toml").values == "disparity"
    for name in (*NETWORKS, *PALETTES, *(field.name for field in dataclasses.fields(OnnxCard) if field.name != "file")):
        assert f"`{name}`" in readme or f"\n{name} = " in readme, name
