"""NYU Depth V2 and the depth of ImageNet: relative depth from the publishers' coding."""

from pathlib import Path

import numpy as np
import pytest
from made_media import write_labels, write_picture
from PIL import Image
from reading_datasets import not_aligned, read_all

from pipelines.sources.imagenet_depth import ImageNetDepth
from pipelines.sources.nyu_depth import NYUDepth


def test_a_real_depth_map_is_bright_where_its_millimetres_are_few(samples: Path) -> None:
    found = read_all(NYUDepth(root=str(samples / "nyu_depth_v2")))
    key = "official_splits/test/fastdepth/00000"
    assert ({item.key: item.split for item in found.items}, found.rejects) == ({key: "test"}, {})
    folder = samples / "nyu_depth_v2" / "official_splits" / "test" / "fastdepth"
    millimetres = np.array(Image.open(folder / "sync_depth_00000.png")).astype(int)
    grey = found.pixels[key]["depth"][0][..., 0].astype(int)
    order = np.argsort(millimetres.ravel(), kind="stable")
    assert (np.diff(grey.ravel()[order]) <= 0).all()
    inverse = 1 / millimetres
    low, high = np.percentile(inverse, [1, 99])
    assert np.abs(grey - (1 + 254 * np.clip((inverse - low) / (high - low), 0, 1))).max() < 1
    metres = np.load(samples / "nyu_depth_v2" / "fast_depth_raw" / "depth.npy").reshape(millimetres.shape)
    assert np.abs(metres * 1000 - millimetres).max() <= 1  # the file holds millimetres


def write_frame(root: Path, folder: str, number: int, millimetres: np.ndarray) -> Path:
    write_picture(root / folder / f"rgb_{number:05d}.jpg")
    write_labels(root / folder / f"sync_depth_{number:05d}.png", millimetres.astype(np.uint16))
    return root / folder


def test_frames_of_videos_and_of_the_labelled_set_are_for_training(tmp_path: Path) -> None:
    depth = np.linspace(700, 9999, 40 * 48).reshape(40, 48)
    for folder in ("sync/kitchen_0028b", "official_splits/train/kitchen", "official_splits/test/bathroom"):
        write_frame(tmp_path, folder, 45, depth)
    keys = {"sync": "sync/kitchen_0028b/00045", "official": "official_splits/train/kitchen/00045"}
    assert set(read_all(NYUDepth(root=str(tmp_path)), splits=("train",)).examples) == set(keys.values())
    for part, key in keys.items():
        dataset = NYUDepth(root=str(tmp_path), train_on=part)  # type: ignore[arg-type]
        assert list(read_all(dataset, splits=("train",)).examples) == [key]
        assert list(read_all(dataset, splits=("test",)).examples) == ["official_splits/test/bathroom/00045"]


def test_unknown_depth_is_black_and_faults_are_rejected(tmp_path: Path) -> None:
    depth = np.full((40, 48), 2000)
    depth[:, :24], depth[:10] = 4000, 0
    for number in range(6):
        folder = write_frame(tmp_path, "sync/office_0003", number, depth)
    (folder / "rgb_00001.jpg").unlink()
    (folder / "sync_depth_00002.png").unlink()
    write_frame(tmp_path, "sync/office_0003", 3, depth * 0)
    cut = folder / "sync_depth_00004.png"
    cut.write_bytes(cut.read_bytes()[:70])
    write_frame(tmp_path, "sync/office_0003", 5, depth[:20])
    dataset = NYUDepth(root=str(tmp_path))
    found = read_all(dataset)
    reasons = {1: "missing-image", 2: "missing-depth", 3: "no-depth", 4: "truncated"}
    assert found.rejects == {f"sync/office_0003/{number:05d}": reason for number, reason in reasons.items()}
    grey = found.pixels["sync/office_0003/00000"]["depth"][0]
    assert (grey[:10] == 0).all()
    assert (grey[10:] > 0).all()
    assert (grey[10:, 24:] > grey[10:, :24]).all()
    assert not_aligned(dataset, found.examples["sync/office_0003/00005"]) == "sizes-differ"
    assert len(found.items) == 6


def test_real_midas_maps_are_the_floats_in_four_channels(samples: Path) -> None:
    """The same maps as 16-bit PNG, made from the floats by another program, order all pixels alike."""
    root = samples / "imagenet_depth"
    found = read_all(ImageNetDepth(root=str(root)))
    assert len(found.examples) == 6
    assert ({item.split for item in found.items}, found.rejects) == ({"val"}, {})
    for key, pair in found.pixels.items():
        _, wnid, name = key.split("/")
        assert found.examples[key].meta == {"wnid": wnid}
        levels = np.array(Image.open(root / "midas_16bit" / wnid / f"{name}.png")).astype(float)
        low, high = np.percentile(levels, [1, 99])
        expected = 1 + 254 * np.clip((levels - low) / (high - low), 0, 1)
        assert np.abs(pair["depth"][0][..., 0] - expected).max() < 1
        assert pair["image"][0].shape == pair["depth"][0].shape


def write_packed(path: Path, depth: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(depth.astype("<f4").view(np.uint8).reshape(*depth.shape, 4), "RGBA").save(path)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_whole_imagenet_beside_its_depth(tmp_path: Path, split: str) -> None:
    depth = np.linspace(1, 900, 40 * 48).reshape(40, 48)
    for name in ("n02085782_7", "n02085782_8", "n02085782_9"):
        write_picture(tmp_path / split / "n02085782" / f"{name}.JPEG")
        write_packed(tmp_path / "imagenet_depth" / split / "n02085782" / f"{name}.png", depth)
    write_picture(tmp_path / "imagenet_depth" / split / "n02085782" / "n02085782_8.png")
    write_packed(tmp_path / "imagenet_depth" / split / "n02085782" / "n02085782_9.png", depth - 1000)
    found = read_all(ImageNetDepth(root=str(tmp_path), images="{split}", depths="imagenet_depth/{split}"))
    assert list(found.examples) == [f"{split}/n02085782/n02085782_7"]
    assert (np.diff(found.pixels[f"{split}/n02085782/n02085782_7"]["depth"][0][..., 0].ravel().astype(int)) >= 0).all()
    names = {"n02085782_8": "not-depth", "n02085782_9": "no-depth"}
    assert found.rejects == {f"{split}/n02085782/{name}": reason for name, reason in names.items()}
