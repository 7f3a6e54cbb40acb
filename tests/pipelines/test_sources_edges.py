"""BSDS500 and UDED: edges that people drew."""

from pathlib import Path

import numpy as np
from made_media import write_labels, write_picture
from PIL import Image
from reading_datasets import not_aligned, read_all
from scipy.io import loadmat, savemat

from pipelines.sources.bsds500 import BSDS500
from pipelines.sources.uded import UDED


def test_real_drawings_are_averaged(samples: Path) -> None:
    root = samples / "bsds500"
    found = read_all(BSDS500(root=str(root), edges="mean"))
    assert {split: sum(item.split == split for item in found.items) for split in ("train", "val", "test")} == {
        "train": 6, "val": 2, "test": 10}  # fmt: skip
    assert (len(found.examples), found.rejects) == (18, {})
    for key, pair in found.pixels.items():
        people = loadmat(root / "BSDS500" / "data" / "groundTruth" / f"{key}.mat")["groundTruth"][0]
        assert len(people) >= 5
        mean = sum(person["Boundaries"][0, 0].astype(float) for person in people) / len(people)
        np.testing.assert_array_equal(pair["edge"][0], np.repeat(np.rint(mean * 255)[..., None], 3, axis=2))
        assert pair["image"][0].shape == pair["edge"][0].shape


def test_edges_that_any_person_drew(samples: Path) -> None:
    root = samples / "bsds500" / "BSDS500"
    mean = read_all(BSDS500(root=str(root), edges="mean"), splits=("val",))
    found = read_all(BSDS500(root=str(root)), splits=("val",))
    for key, pair in found.pixels.items():
        np.testing.assert_array_equal(pair["edge"][0], np.where(mean.pixels[key]["edge"][0] > 0, 255, 0))


def write_drawings(path: Path, *drawings: np.ndarray) -> None:
    """Writes a .mat file as BSDS500 has them: a 1 x N cell array of 1 x 1 structs."""
    cells = np.empty((1, len(drawings)), object)
    for number, drawing in enumerate(drawings):
        cells[0, number] = {"Segmentation": drawing.astype(np.uint16), "Boundaries": drawing}
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"groundTruth": cells}, do_compression=True)


def test_faults_are_rejected(tmp_path: Path) -> None:
    images, truth = (tmp_path / "data" / folder / "train" for folder in ("images", "groundTruth"))
    drawing = np.eye(40, 48, dtype=np.uint8)
    for number in range(10):
        write_picture(images / f"{number}.jpg")
        write_drawings(truth / f"{number}.mat", drawing, drawing[::-1])
    (images / "1.jpg").unlink()
    (truth / "2.mat").unlink()
    whole = (truth / "3.mat").read_bytes()
    (truth / "3.mat").write_bytes(whole[: len(whole) // 2])
    (truth / "4.mat").write_bytes(b"")
    savemat(truth / "5.mat", {"groundtruth": drawing})
    savemat(truth / "6.mat", {"groundTruth": drawing})
    write_drawings(truth / "7.mat", drawing, drawing[:20])
    write_drawings(truth / "8.mat", drawing[:20])
    savemat(truth / "9.mat", {"groundTruth": np.empty((1, 0), object)})
    (images / "Thumbs.db").write_bytes(b"no picture")
    dataset = BSDS500(root=str(tmp_path), edges="mean")
    found = read_all(dataset)
    reasons = {1: "missing-image", 2: "missing-edge", 3: "damaged", 4: "damaged", 5: "missing-variable",
               6: "not-edges", 7: "sizes-differ", 9: "no-edges"}  # fmt: skip
    assert found.rejects == {f"train/{number}": reason for number, reason in reasons.items()}
    assert [not_aligned(dataset, example) for example in found.examples.values()] == ["", "sizes-differ"]
    assert set(np.unique(found.pixels["train/0"]["edge"][0])) == {0, 128}
    assert len(found.items) == 10


def test_real_edges_of_uded_are_white_on_black(samples: Path) -> None:
    found = read_all(UDED(root=str(samples / "uded")))
    assert (len(found.examples), found.rejects) == (8, {})
    assert {unit.split for unit in found.units} == {"test"}
    for key, pair in found.pixels.items():
        truth = np.array(Image.open(samples / "uded" / "gt" / f"{key}.png"))
        np.testing.assert_array_equal(pair["edge"][0], np.repeat(truth[..., None], 3, axis=2))
        assert 0 < (truth > 0).mean() < 0.2
        assert pair["image"][0].shape == pair["edge"][0].shape


def test_a_photo_of_uded_without_edges_is_rejected(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_picture(tmp_path / "imgs" / f"{name}.png")
    for name in ("b", "c"):
        write_labels(tmp_path / "gt" / f"{name}.png", np.eye(40, 48, dtype=np.uint8))
    found = read_all(UDED(root=str(tmp_path)))
    assert (list(found.examples), found.rejects) == (["b"], {"a": "missing-edge", "c": "missing-image"})
