"""Rain13K, Rain1400, SIDD and PolyU: damaged photos and clean ones, in the publishers' folders."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from made_media import picture_bytes, write_pictures
from PIL import Image
from reading_datasets import read_all, source_of
from scipy.io import savemat

from pipelines.sources.polyu import PolyU
from pipelines.sources.rain13k import Rain13K
from pipelines.sources.rain1400 import Rain1400
from pipelines.sources.sidd import SIDD
from visent.errors import UserError


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


def put(path: Path, seed: int = 0, size: tuple[int, int] = (48, 40), format: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes(seed, size, format))


def test_real_rain_is_paired_by_name_in_train_and_test(samples: Path) -> None:
    root = samples / "rain13k"
    found = read_all(Rain13K(root=str(root)))
    tests = [f"test/Rain100H/{n}" for n in (1, 10, 11, 12, 13, 14, 2, 3)]
    assert sorted(found.examples) == tests + [f"train/Rain13K/{n}" for n in range(1, 7)]
    assert {item.key.split("/")[0]: item.split for item in found.items} == {"train": "train", "test": "test"}
    assert found.rejects == {}
    for key, pair in found.pixels.items():
        ending = "png" if key.startswith("test") else "jpg"
        folder, name = key.rsplit("/", 1)
        np.testing.assert_array_equal(pair["rainy"][0], pixels(root / folder / "input" / f"{name}.{ending}"))
        np.testing.assert_array_equal(pair["image"][0], pixels(root / folder / "target" / f"{name}.{ending}"))
        assert pair["rainy"][0].mean() > pair["image"][0].mean()  # streaks are bright


def test_rainy_versions_share_their_clean_photo(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "Test2800"
    for k in (1, 2, 14):
        put(folder / "input" / f"901_{k}.jpg", k, format="JPEG")
    put(folder / "input" / "902_1.jpg", 4, format="JPEG")
    put(folder / "input" / "old_street.jpg", 5, format="JPEG")
    for seed, name in enumerate(("901", "902_1", "old_street", "950")):
        put(folder / "target" / f"{name}.jpg", 10 + seed, format="JPEG")
    found = read_all(Rain13K(root=str(tmp_path)))
    sources = {key.rsplit("/", 1)[1]: pair["image"][0].tobytes() for key, pair in found.pixels.items()}
    assert sorted(sources) == ["901_1", "901_14", "901_2", "902_1", "old_street"]
    assert sources["901_1"] == sources["901_2"] == sources["901_14"]
    assert len(set(sources.values())) == 3
    assert found.rejects == {"test/Test2800/950": "missing-rainy"}


def test_test_sets_are_chosen_by_name(tmp_path: Path) -> None:
    for name in ("Rain100L", "Test100"):
        for side in ("input", "target"):
            put(tmp_path / "test" / name / side / "1.png")
    found = read_all(Rain13K(root=str(tmp_path), test_sets=("Test100",)), splits=("test",))
    assert list(found.examples) == ["test/Test100/1"]
    with pytest.raises(UserError, match="there is no test/Test1200"):
        source_of(Rain13K(root=str(tmp_path), test_sets=("Test100", "Test1200"))).listing()
    with pytest.raises(UserError, match="did you mean 'Rain100L'"):
        Rain13K(root=str(tmp_path), test_sets=("Rain10L",))


def test_rain_without_a_clean_photo_and_doubled_names_are_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "Rain13K"
    put(folder / "input" / "1.jpg", 1, format="JPEG")
    put(folder / "input" / "1.png", 2)
    put(folder / "target" / "1.jpg", 3, format="JPEG")
    put(folder / "input" / "2.jpg", 4, format="JPEG")
    put(folder / "input" / "4.jpg", 7, format="JPEG")
    (folder / "target" / "4.jpg").write_bytes(picture_bytes(8, format="JPEG")[:-90])
    found = read_all(Rain13K(root=str(tmp_path)))
    assert found.rejects == {
        "train/Rain13K/1": "duplicate-key",
        "train/Rain13K/2": "missing-image",
        "train/Rain13K/4": "truncated",
    }
    assert list(found.examples) == ["train/Rain13K/1"]
    assert found.examples["train/Rain13K/1"].source == "train/Rain13K/input/1.jpg"
    assert len(found.items) == 4


@pytest.mark.parametrize("above", [True, False])
def test_rain1400_pairs_fourteen_versions_with_each_photo(tmp_path: Path, above: bool) -> None:
    root = tmp_path / "rainy_image_dataset"
    for part, first in (("training", 1), ("testing", 901)):
        for n in (first, first + 1):
            put(root / part / "ground_truth" / f"{n}.jpg", n, format="JPEG")
            for k in range(1, 15):
                put(root / part / "rainy_image" / f"{n}_{k}.jpg", 100 * n + k, format="JPEG")
    found = read_all(Rain1400(root=str(tmp_path if above else root)))
    assert len(found.examples) == 2 * 2 * 14
    assert found.rejects == {}
    clean = pixels(root / "testing" / "ground_truth" / "902.jpg")
    for k in range(1, 15):
        np.testing.assert_array_equal(found.pixels[f"testing/902_{k}"]["image"][0], clean)
    assert {item.split for item in found.items if item.key.startswith("testing")} == {"test"}


@pytest.mark.parametrize("folder", [".", "CroppedImages"])
def test_real_noise_of_polyu(samples: Path, folder: str) -> None:
    found = read_all(PolyU(root=str(samples / "polyu" / folder)))
    assert len(found.examples) == 15
    assert found.rejects == {}
    pair = found.pixels["Canon5D2_5_160_3200_chair_11"]
    files = samples / "polyu" / "CroppedImages"
    np.testing.assert_array_equal(pair["noisy"][0], pixels(files / "Canon5D2_5_160_3200_chair_11_real.JPG"))
    np.testing.assert_array_equal(pair["image"][0], pixels(files / "Canon5D2_5_160_3200_chair_11_mean.JPG"))
    assert roughness(pair["noisy"][0]) > roughness(pair["image"][0])


def roughness(picture: np.ndarray) -> float:
    """The mean step between neighbours, which noise raises."""
    return float(np.abs(np.diff(picture.astype(float), axis=1)).mean())


def test_windows_of_sidd_are_cut_at_full_resolution_and_named_by_their_place(samples: Path) -> None:
    root = samples / "sidd"
    found = read_all(SIDD(root=str(root), crops_per_picture=0))
    scenes = sorted(path.name for path in (root / "SIDD_Small_sRGB_Only" / "Data").iterdir())
    places = [(0, 0), (0, 256), (256, 0), (256, 256)]
    assert sorted(found.examples) == sorted(f"{scene}/010/{x}-{y}" for scene in scenes for x, y in places)
    assert found.rejects == {}
    for scene in scenes:
        files = root / "SIDD_Small_sRGB_Only" / "Data" / scene
        noisy, clean = (pixels(files / f"{scene[:4]}_{kind}_SRGB_010.PNG") for kind in ("NOISY", "GT"))
        for x, y in places:
            pair = found.pixels[f"{scene}/010/{x}-{y}"]
            np.testing.assert_array_equal(pair["noisy"][0], noisy[y : y + 256, x : x + 256])
            np.testing.assert_array_equal(pair["image"][0], clean[y : y + 256, x : x + 256])
            assert found.examples[f"{scene}/010/{x}-{y}"].meta["window"] == [x, y, x + 256, y + 256]


def scene_of_sidd(root: Path, number: int, size: tuple[int, int] = (200, 130)) -> Path:
    folder = root / "SIDD_Medium_Srgb" / "Data" / f"{number:04d}_001_S6_00100_00060_3200_L"
    for kind in ("NOISY", "GT"):
        for shot in ("010", "011"):
            put(folder / f"{number:04d}_{kind}_SRGB_{shot}.PNG", number, size)
    return folder


def test_fewer_windows_are_a_part_of_more_and_never_overlap(tmp_path: Path) -> None:
    scene_of_sidd(tmp_path, 1)
    few, more, all_windows = (
        read_all(SIDD(root=str(tmp_path), crop_size=32, crops_per_picture=count)) for count in (3, 10, 0)
    )
    assert (len(few.examples), len(more.examples), len(all_windows.examples)) == (2 * 3, 2 * 10, 2 * 6 * 4)
    assert set(few.examples) < set(more.examples) < set(all_windows.examples)
    chosen = [{key.rsplit("/", 1)[1] for key in more.examples if f"/{shot}/" in key} for shot in ("010", "011")]
    assert chosen[0] != chosen[1]  # chosen by the key, not once for all


def test_bad_photos_of_sidd_are_rejected(tmp_path: Path) -> None:
    cut = scene_of_sidd(tmp_path, 2)
    (cut / "0002_GT_SRGB_010.PNG").write_bytes((cut / "0002_GT_SRGB_010.PNG").read_bytes()[:5000])
    (cut / "0002_NOISY_SRGB_011.PNG").unlink()
    other = scene_of_sidd(tmp_path, 3)
    put(other / "0003_GT_SRGB_010.PNG", 3, (100, 130))
    put(other / "0003_GT_SRGB_011.PNG", 3, (20, 20))
    put(other / "0003_NOISY_SRGB_011.PNG", 3, (20, 20))
    found = read_all(SIDD(root=str(tmp_path), crop_size=32))
    assert found.examples == {}
    assert found.rejects == {
        "0002_001_S6_00100_00060_3200_L/010": "truncated",
        "0002_001_S6_00100_00060_3200_L/011": "missing-noisy",
        "0003_001_S6_00100_00060_3200_L/010": "sizes-differ",
        "0003_001_S6_00100_00060_3200_L/011": "too-small",
    }


def test_small_and_medium_sidd_side_by_side_double_their_keys(tmp_path: Path) -> None:
    folder = scene_of_sidd(tmp_path, 1)
    shutil.copytree(folder, tmp_path / "SIDD_Small_sRGB_Only" / "Data" / folder.name)
    found = read_all(SIDD(root=str(tmp_path), crop_size=32, crops_per_picture=1))
    assert found.rejects == {f"{folder.name}/{shot}": "duplicate-key" for shot in ("010", "011")}
    assert len(found.examples) == 2


def write_blocks(root: Path, scenes: int = 2, blocks: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    made = {}
    for kind in ("Noisy", "Gt"):
        name = f"Validation{kind}BlocksSrgb"
        made[kind] = random.integers(0, 256, (scenes, blocks, 16, 16, 3), np.uint8)
        savemat(root / f"{name}.mat", {name: made[kind]}, do_compression=True)
    return made


def test_validation_blocks_are_rows_of_their_own(tmp_path: Path) -> None:
    made = write_blocks(tmp_path)
    found = read_all(SIDD(root=str(tmp_path)))
    assert list(found.examples) == [f"validation/{s:02d}/{b:02d}" for s in (0, 1) for b in (0, 1, 2)]
    assert {item.split for item in found.items} == {"val"}
    np.testing.assert_array_equal(found.pixels["validation/01/02"]["noisy"][0], made["Noisy"][1, 2])
    np.testing.assert_array_equal(found.pixels["validation/01/02"]["image"][0], made["Gt"][1, 2])


def test_broken_blocks_are_rejected_one_by_one(tmp_path: Path) -> None:
    write_blocks(tmp_path)
    clean = tmp_path / "ValidationGtBlocksSrgb.mat"
    clean.write_bytes(clean.read_bytes()[:2000])
    found = read_all(SIDD(root=str(tmp_path)))
    assert (found.examples, len(found.rejects), set(found.rejects.values())) == ({}, 6, {"damaged"})
    clean.unlink()
    assert set(read_all(SIDD(root=str(tmp_path))).rejects.values()) == {"missing-image"}
    (tmp_path / "ValidationNoisyBlocksSrgb.mat").write_bytes(b"no mat file at all" * 20)
    with pytest.raises(UserError, match=r"ValidationNoisyBlocksSrgb\.mat does not hold blocks"):
        source_of(SIDD(root=str(tmp_path))).listing()


def test_options_of_sidd_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--crop-size must be 16"):
        SIDD(root=str(tmp_path), crop_size=4)
    with pytest.raises(UserError, match="--crops-per-picture"):
        SIDD(root=str(tmp_path), crops_per_picture=-1)


def test_an_empty_folder_says_which_layout_is_expected(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 1)
    for dataset in (Rain13K(root=str(tmp_path)), PolyU(root=str(tmp_path)), SIDD(root=str(tmp_path))):
        with pytest.raises(UserError, match=r"which holds pictures.*visent sources"):
            source_of(dataset).listing()
