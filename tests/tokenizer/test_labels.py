"""Label maps: how files are read, nearest colours, and mIoU against other ways to compute it."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tokenizer.images import ImageError
from tokenizer.labels import Confusion, LabelMap, decode_label_map, read_labels, voc_palette

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 5, (6, 8)).astype(np.uint8)
COLOURS = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0], [0, 0, 200], [90, 90, 90]], np.uint8)


def png(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def palette_png(labels: np.ndarray, colours: np.ndarray) -> bytes:
    image = Image.fromarray(labels, "P")
    image.putpalette(colours.tobytes(), "RGB")
    return png(image)


def test_a_palette_picture_is_its_indices_and_its_palette() -> None:
    read = decode_label_map(palette_png(LABELS, COLOURS))
    np.testing.assert_array_equal(read.labels, LABELS)
    np.testing.assert_array_equal(read.picture, COLOURS[LABELS])
    assert read.named
    assert read.present == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_grey_values_are_labels_in_the_colours_of_voc(depth: type) -> None:
    read = decode_label_map(png(Image.fromarray(LABELS.astype(depth) * 51)))
    np.testing.assert_array_equal(read.labels, LABELS * 51)
    np.testing.assert_array_equal(read.picture, voc_palette()[LABELS * 51])


def test_a_colour_picture_has_its_colours_as_labels() -> None:
    read = decode_label_map(png(Image.fromarray(COLOURS[LABELS])))
    np.testing.assert_array_equal(read.picture, COLOURS[LABELS])
    assert not read.named
    assert len(read.palette) == 5


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(Image.fromarray(RNG.integers(0, 256, (40, 40, 3), np.uint8))), "too-many-colours"),
        (png(Image.fromarray(RNG.integers(0, 9000, (40, 40)).astype(np.uint16))), "not-labels"),
        (png(Image.fromarray(RNG.random((9, 9)).astype(np.float32)), "TIFF"), "not-labels"),
        (palette_png(LABELS, COLOURS[[0, 1, 1, 2, 3]]), "same-colour"),
        (palette_png(np.repeat(LABELS, 9, 0), COLOURS)[:-30], "truncated"),
        (b"", "empty"),
    ],
    ids=["photo", "many grey values", "numbers", "one colour twice", "cut", "empty"],
)
def test_what_is_no_label_map_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as refused:
        decode_label_map(data)
    assert refused.value.reason == reason


def test_an_index_without_a_colour_is_refused() -> None:
    image = Image.fromarray(np.full((4, 4), 200, np.uint8), "P")
    image.putpalette(COLOURS.tobytes(), "RGB")
    data = png(image, "BMP")
    with pytest.raises(ImageError, match="label 200 has no colour"):
        decode_label_map(data)


@given(st.integers(2, 64), st.integers(1, 64), st.sampled_from(["crop", "squash"]))
def test_a_square_holds_no_new_label(height: int, width: int, preset: str) -> None:
    labels = np.random.default_rng(height).integers(0, 5, (height, width)).astype(np.uint8)
    square = LabelMap(labels, COLOURS, named=True).square(preset, 16)
    assert square.labels.shape == (16, 16)
    assert set(square.present) <= set(np.unique(labels))


def test_pixels_are_read_as_the_nearest_colour_of_a_class() -> None:
    truth = LabelMap(LABELS, COLOURS, named=True)
    noisy = np.clip(truth.picture + RNG.integers(-40, 41, (*LABELS.shape, 3)), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(read_labels(noisy, truth, range(5)), LABELS)
    distances = np.square(noisy[..., None, :].astype(int) - COLOURS[[0, 2, 3]]).sum(-1)
    np.testing.assert_array_equal(read_labels(noisy, truth, [0, 2, 3, 77]), np.array([0, 2, 3])[distances.argmin(-1)])


def test_a_colour_shared_with_a_class_of_other_maps_is_the_one_of_this_map() -> None:
    """Palettes are often filled up with black, which is also the background's colour."""
    padded = np.concatenate([COLOURS, np.zeros((3, 3), np.uint8)])
    truth = LabelMap(np.full((2, 2), 7, np.uint8), padded, named=True)
    assert read_labels(truth.picture, truth, [0, 1, 7]).tolist() == [[7, 7], [7, 7]]


def two_label_sets() -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Truth and reading of five maps, with a class only in truth, one only in the reading, and pixels left out."""
    rng = np.random.default_rng(1)
    truth = [rng.integers(0, 6, (9, 7)).astype(np.uint8) for _ in range(5)]
    found = [
        np.where(rng.random(one.shape) < 0.7, one, rng.integers(0, 6, one.shape)).astype(np.uint8) for one in truth
    ]
    truth = [np.where(one == 4, 255, one).astype(np.uint8) for one in truth]
    found = [np.where(one == 3, 9, one).astype(np.uint8) for one in found]
    return truth, found, np.concatenate([one.ravel() != 255 for one in truth])


def accumulated(truth: list[np.ndarray], found: list[np.ndarray], ignore: int) -> Confusion:
    confusion = Confusion()
    for a, b in zip(truth, found, strict=True):
        confusion.add(a, b, a != ignore)
    return confusion


def test_iou_is_that_of_sets_of_pixels() -> None:
    truth, found, kept = two_label_sets()
    confusion = accumulated(truth, found, 255)
    flat_truth, flat_found = (np.concatenate([one.ravel() for one in maps])[kept] for maps in (truth, found))
    expected = {}
    for label in range(256):
        a, b = set(np.flatnonzero(flat_truth == label)), set(np.flatnonzero(flat_found == label))
        if a | b:
            expected[label] = len(a & b) / len(a | b)
    np.testing.assert_allclose([confusion.iou[label] for label in expected], list(expected.values()))
    assert np.isnan(np.delete(confusion.iou, list(expected))).all()
    assert expected[3] == expected[9] == expected[4] == 0
    assert confusion.miou == pytest.approx(np.mean(list(expected.values())))


def test_miou_and_accuracy_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is in the demo extra")
    truth, found, kept = two_label_sets()
    confusion = accumulated(truth, found, 255)
    flat_truth, flat_found = (np.concatenate([one.ravel() for one in maps])[kept] for maps in (truth, found))
    assert confusion.miou == pytest.approx(metrics.jaccard_score(flat_truth, flat_found, average="macro"))
    assert confusion.accuracy == pytest.approx(metrics.accuracy_score(flat_truth, flat_found))
    np.testing.assert_array_equal(confusion.counts, metrics.confusion_matrix(flat_truth, flat_found, labels=range(256)))


def test_no_pixel_has_no_miou() -> None:
    assert np.isnan(Confusion().miou)
    assert np.isnan(Confusion().accuracy)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("voc/VOCdevkit/VOC2012/SegmentationClass/*.png", True),
        ("davis/DAVIS2017/Annotations/480p/*/00000.png", True),
        ("youtube_vos/train/Annotations/*/*.png", True),
        ("ade20k/ADEChallengeData2016/annotations/validation/*.png", True),
        ("coco/annotations/panoptic_val2017/*.png", False),
    ],
)
def test_real_annotations_are_read_as_pillow_shows_them(samples: Path, pattern: str, named: bool) -> None:
    paths = sorted(samples.glob(pattern))
    assert paths
    for path in paths:
        read = decode_label_map(path.read_bytes())
        assert read.named == named
        image = Image.open(path)
        if image.mode == "L":
            np.testing.assert_array_equal(read.labels, np.asarray(image))
        else:
            np.testing.assert_array_equal(read.picture, np.asarray(image.convert("RGB")))
