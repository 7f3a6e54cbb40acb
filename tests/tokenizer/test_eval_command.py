"""`visent tokenizer eval`: figures of pictures and of annotations, streamed, and what it refuses."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tokenizer import judging
from tokenizer.checkpoints import read, write
from tokenizer.cli import tokenizer
from tokenizer.images import decode_image, prepare
from tokenizer.labels import LabelMap, read_labels, voc_palette
from tokenizer.load import load
from tokenizer.quality import judge
from tokenizer.testing import tiny_tokenizer_dir
from visent.errors import UserError

CLASSES = (0, 3, 7, 255)


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(tokenizer, ["eval", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokenizer_dir(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten maps of three classes and a border, squares of 32 pixels, in the palette of VOC."""
    folder = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(0)
    for i in range(10):
        labels = np.kron(rng.choice(CLASSES, (4, 4)), np.ones((8, 8))).astype(np.uint8)
        image = Image.fromarray(labels, "P")
        image.putpalette(voc_palette().tobytes(), "RGB")
        image.save(folder / f"{i}.png")
    return folder


def figures(*arguments: object, out: Path) -> dict:
    result = run(*arguments, "--json", out)
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(out.read_text())


def test_the_figures_are_those_of_all_pictures_at_once(tiny: Path, photo_folder: Path, tmp_path: Path) -> None:
    loaded = load(tiny)
    paths = sorted(photo_folder.rglob("*.png"))
    expected = judge(loaded, np.stack([prepare(decode_image(path.read_bytes()), "crop", 32) for path in paths]))
    found = figures(photo_folder, "--tokenizer", tiny, out=tmp_path / "new" / "figures.json")
    assert {key: found[key] for key in vars(expected)} == pytest.approx(vars(expected))
    assert found["tokenizer"]["fingerprint"] == loaded.card.fingerprint
    assert found["labels"] is None


def test_the_table_and_the_sheet_show_a_sample(tiny: Path, photo_folder: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "new" / "sheet"
    result = run(photo_folder, "--tokenizer", tiny, "--limit", 10, "--sheet", sheet)
    assert result.exit_code == 0
    for text in ("10 of 10 drawn of 24 found", "SSIM", "dead codes", "bits per code", "from few pictures"):
        assert text in result.output
    with Image.open(sheet) as image:
        assert (image.format, image.size) == ("PNG", (8 * 36, 2 * (2 * 32 + 18)))


def test_only_a_few_batches_are_in_memory(
    tiny: Path, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No array that the command makes grows with the number of pictures."""
    picture = next(photo_folder.rglob("*.png"))
    for i in range(150):
        (tmp_path / f"{i}.png").symlink_to(picture)
    sizes: list[int] = []
    stack = np.stack
    monkeypatch.setattr(judging.np, "stack", lambda arrays: (sizes.append(len(arrays)), stack(arrays))[1])
    found = figures(tmp_path, "--tokenizer", tiny, out=tmp_path / "figures.json")
    assert found["images"] == sum(sizes) == 150
    assert max(sizes) == load(tiny).batch_size


def test_names_that_are_not_utf8_are_read(tiny: Path, photo_folder: Path, tmp_path: Path) -> None:
    picture = next(photo_folder.rglob("*.png"))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(picture.read_bytes())
    result = run(tmp_path, "--tokenizer", tiny, "--sheet", tmp_path / "sheet.png")
    assert result.exit_code == 0
    assert "1 of 1 found" in result.output


def test_rejects_are_counted_by_reason_and_listed(tiny: Path, photo_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(photo_folder, tmp_path / "bad")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"<html>")
    found = figures(folder, "--tokenizer", tiny, out=tmp_path / "figures.json")
    assert [(Path(reject["file"]).name, reject["reason"]) for reject in found["rejects"]] == [
        ("empty.jpg", "empty"), ("page.jpg", "not-an-image"),
    ]  # fmt: skip
    assert found["images"] == 24


def label_figures(tiny: Path, truth: list[np.ndarray], ignore: int | None) -> tuple[float, float]:
    """Returns mIoU and accuracy by the slow way: each pixel's nearest colour, a set of pixels for each class."""
    loaded, palette = load(tiny), voc_palette().astype(int)
    classes = sorted(set(np.unique(truth).tolist()) - {ignore})
    again = loaded.decode(loaded.encode(palette[np.stack(truth)].astype(np.uint8))).astype(int)
    distances = np.stack([np.square(again - palette[label]).sum(-1) for label in classes])
    read = np.array(classes)[distances.argmin(0)]
    kept = np.flatnonzero(np.stack(truth).ravel() != (-1 if ignore is None else ignore))
    a, b = np.stack(truth).ravel(), read.ravel()
    overlaps = []
    for label in classes:
        here, there = ({int(i) for i in kept if one[i] == label} for one in (a, b))
        overlaps.append(len(here & there) / len(here | there))
    return float(np.mean(overlaps)), float((a[kept] == b[kept]).mean())


@pytest.mark.parametrize("ignore", [None, 255])
def test_miou_of_palette_maps_is_over_all_pixels(ignore: int | None, tiny: Path, maps: Path, tmp_path: Path) -> None:
    option = ["--ignore-label", ignore] if ignore else []
    found = figures(maps, "--labels", *option, "--tokenizer", tiny, out=tmp_path / "figures.json")
    truth = [np.asarray(Image.open(path)) for path in sorted(maps.glob("*.png"))]
    miou, accuracy = label_figures(tiny, truth, ignore)
    assert found["labels"]["miou"] == pytest.approx(miou)
    assert found["labels"]["accuracy"] == pytest.approx(accuracy)
    assert list(found["labels"]["iou"]) == [str(label) for label in CLASSES if label != ignore]
    assert found["ssim"] is None


def test_grey_maps_count_as_those_with_the_palette_of_voc(tiny: Path, maps: Path, tmp_path: Path) -> None:
    (tmp_path / "grey").mkdir()
    for path in maps.glob("*.png"):
        Image.fromarray(np.asarray(Image.open(path))).save(tmp_path / "grey" / path.name)
    grey, palette = (
        figures(folder, "--labels", "--tokenizer", tiny, out=tmp_path / "figures.json")["labels"]
        for folder in (tmp_path / "grey", maps)
    )
    assert grey == palette


def test_miou_of_coloured_maps_is_the_mean_over_pictures(tiny: Path, maps: Path, tmp_path: Path) -> None:
    (tmp_path / "colours").mkdir()
    of_one = []
    for path in sorted(maps.glob("*.png")):
        image = Image.open(path)
        of_one.append(label_figures(tiny, [np.asarray(image)], None)[0])
        image.convert("RGB").save(tmp_path / "colours" / path.name)
    found = figures(tmp_path / "colours", "--labels", "--tokenizer", tiny, out=tmp_path / "figures.json")
    assert found["labels"]["miou"] == pytest.approx(np.mean(of_one))
    assert found["labels"]["iou"] == {}
    output = run(tmp_path / "colours", "--labels", "--tokenizer", tiny).output
    assert "mean over pictures" in output


def test_a_sheet_of_maps_has_what_was_read_in_its_third_row(tiny: Path, maps: Path, tmp_path: Path) -> None:
    result = run(maps, "--labels", "--tokenizer", tiny, "--sheet", tmp_path / "sheet.png")
    assert result.exit_code == 0
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    first = np.asarray(Image.open(maps / "0.png").convert("RGB"))
    np.testing.assert_array_equal(sheet[:32, :32], first)
    colours = {tuple(voc_palette()[label].tolist()) for label in CLASSES}
    assert {tuple(pixel) for pixel in sheet[64:96, :32].reshape(-1, 3).tolist()} <= colours


def test_a_perfect_round_trip_has_all_labels_right() -> None:
    truth = LabelMap(np.array([[0, 3], [7, 7]], np.uint8), voc_palette(), named=True)
    np.testing.assert_array_equal(read_labels(truth.picture, truth, CLASSES), truth.labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no file or folder 'nowhere'"),
        (["EMPTY"], "no image file below"),
        (["BROKEN"], "none of 1 files could be read (1 not-an-image)"),
        (["PHOTOS", "--labels"], "none of 24 files could be read (24 too-many-colours)"),
        (["PHOTOS", "--ignore-label", "255"], "give --labels too"),
        (["MAPS", "COLOURED", "--labels"], "judge each kind by itself"),
        (["COLOURED", "--labels", "--ignore-label", "3"], "which have no number"),
        (["BORDER", "--labels", "--ignore-label", "255"], "every pixel of every map has the label 255"),
        (["PHOTOS", "--sheet", "/proc/none/sheet.png"], "cannot write /proc/none/sheet.png"),
        (["PHOTOS", "--json", "EMPTY"], "it is a folder; name a file"),
    ],
)
def test_mistakes_are_one_clear_line(
    arguments: list[str], message: str, tiny: Path, photo_folder: Path, maps: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"<html>")
    Image.open(maps / "0.png").convert("RGB").save(tmp_path / "coloured.png")
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(tmp_path / "border.png")
    names = {
        "EMPTY": tmp_path / "empty", "BROKEN": tmp_path / "broken.jpg", "PHOTOS": photo_folder, "MAPS": maps,
        "COLOURED": tmp_path / "coloured.png", "BORDER": tmp_path / "border.png",
    }  # fmt: skip
    result = run(*(names.get(argument, argument) for argument in arguments), "--tokenizer", tiny)
    assert isinstance(result.exception, UserError), result.output
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_a_picture_that_comes_back_exactly_keeps_the_mean_finite(
    tiny: Path, photo_folder: Path, tmp_path: Path
) -> None:
    """A decoder whose last layer is zero paints everything black, so a black picture comes back exactly."""
    checkpoint = read(tiny)
    black = {
        name: np.zeros_like(checkpoint.tensors[name]) for name in ("decoder.conv_out.kernel", "decoder.conv_out.bias")
    }
    write(dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, **black}), "visent", tmp_path / "black")
    Image.new("RGB", (40, 40)).save(tmp_path / "black.png")
    found = figures(tmp_path / "black.png", "--tokenizer", tmp_path / "black", out=tmp_path / "figures.json")
    assert (found["exact"], found["psnr"]) == (1, None)
    both = [tmp_path / "black.png", photo_folder, "--tokenizer", tmp_path / "black"]
    found = figures(*both, out=tmp_path / "figures.json")
    assert (found["images"], found["exact"]) == (25, 1)
    assert 0 < found["psnr"] < 20
    assert "dB, 1 came back exactly" in run(*both).output
