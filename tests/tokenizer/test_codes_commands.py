"""`visent tokenizer encode` and `decode`: files of codes, and what is wrong with them."""

import io
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tokenizer.cli import tokenizer
from tokenizer.images import decode_image, prepare
from tokenizer.load import load
from tokenizer.testing import tiny_tokenizer_dir
from visent.errors import UserError


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(tokenizer, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, UserError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokenizer_dir(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def encoded(tiny: Path, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("encoded") / "codes.npz"
    result = run("encode", photo_folder, "--tokenizer", tiny, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def test_codes_are_those_of_the_pictures_and_name_their_tokenizer(
    tiny: Path, photo_folder: Path, encoded: Path
) -> None:
    loaded = load(tiny)
    with np.load(encoded, allow_pickle=False) as stored:
        paths = sorted(photo_folder.rglob("*.png"))
        assert stored["names"].tolist() == [path.relative_to(photo_folder).as_posix() for path in paths]
        squares = np.stack([prepare(decode_image(path.read_bytes()), "crop", 32) for path in paths])
        np.testing.assert_array_equal(stored["codes"], loaded.encode(squares))
        assert stored["codes"].dtype == np.uint16
        assert str(stored["fingerprint"]) == loaded.card.fingerprint
        assert loaded.card.weights_sha256 in str(stored["card"])


def test_the_same_pictures_give_the_same_bytes_later(
    tiny: Path, photo_folder: Path, encoded: Path, tmp_path: Path
) -> None:
    time.sleep(2.1)  # a zip's dates have steps of two seconds
    run("encode", photo_folder, "--tokenizer", tiny, "--out", tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == encoded.read_bytes()


def test_preset_and_nearest_change_the_codes_and_preset_the_fingerprint(
    tiny: Path, photo_folder: Path, encoded: Path, tmp_path: Path
) -> None:
    run("encode", photo_folder, "--tokenizer", tiny, "--preset", "squash", "--out", tmp_path / "squash.npz")
    run("encode", photo_folder, "--tokenizer", tiny, "--nearest", "--out", tmp_path / "nearest.npz")
    crop, squash, nearest = (np.load(path) for path in (encoded, tmp_path / "squash.npz", tmp_path / "nearest.npz"))
    assert not np.array_equal(crop["codes"], squash["codes"])
    assert not np.array_equal(crop["codes"], nearest["codes"])
    assert crop["fingerprint"] == nearest["fingerprint"] != squash["fingerprint"]
    result = run("decode", tmp_path / "squash.npz", "--tokenizer", tiny, "--out", tmp_path / "out")
    assert result.exit_code == 0, "the preset makes no difference to decoding"


def test_decoding_writes_each_picture_under_its_name(tiny: Path, encoded: Path, tmp_path: Path) -> None:
    result = run("decode", encoded, "--tokenizer", tiny, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    stored = np.load(encoded)
    pictures = load(tiny).decode(stored["codes"])
    for name, picture in zip(stored["names"], pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / name)), picture)
    assert len(list((tmp_path / "out").rglob("*"))) == 24 + 2
    assert "24 pictures are already there" in refused("decode", encoded, "--tokenizer", tiny, "--out", tmp_path / "out")
    assert run("decode", encoded, "--tokenizer", tiny, "--out", tmp_path / "out", "--overwrite").exit_code == 0


@pytest.mark.parametrize("shape", [(3, 16), (3, 4, 4)])
def test_a_plain_array_of_codes_is_decoded_with_a_note(shape: tuple[int, ...], tiny: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", np.arange(48).reshape(shape))
    result = run("decode", tmp_path / "codes.npy", "--tokenizer", tiny, "--out", tmp_path / "out")
    assert "does not say which tokenizer made it" in result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]


def test_pictures_of_one_name_keep_apart(tiny: Path, photo_folder: Path, tmp_path: Path) -> None:
    source = next(photo_folder.rglob("*.png"))
    for name in ("a/x.png", "b/x.png", "b/y.png", "b/y.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / name)
    run("encode", tmp_path / "a", tmp_path / "b", "--tokenizer", tiny, "--out", tmp_path / "codes.npz")
    assert run("decode", tmp_path / "codes.npz", "--tokenizer", tiny, "--out", tmp_path / "out").exit_code == 0
    below = (tmp_path / "out").joinpath(*tmp_path.parts[1:])
    written = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.png")}
    assert {str(path) for path in written} == {
        "y.png.png", "y.gif.png", str((below / "a/x.png").relative_to(tmp_path / "out")),
        str((below / "b/x.png").relative_to(tmp_path / "out")),
    }  # fmt: skip


def test_unreadable_pictures_are_listed_and_have_no_row(tiny: Path, photo_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(photo_folder, tmp_path / "bad")
    (folder / "page.jpg").write_bytes(b"<html>")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(b"")
    few = ["encode", folder, "--tokenizer", tiny, "--out", tmp_path / "codes.npz"]
    message = refused(*few)
    assert "2 of 26 pictures could not be read (1 empty, 1 not-an-image), over --max-reject-fraction 0.05" in message
    assert not (tmp_path / "codes.npz").exists()
    result = run(*few, "--max-reject-fraction", 0.1)
    assert result.exit_code == 0
    assert "page.jpg: not-an-image" in result.output
    assert "caf%E9.png: empty" in result.output
    assert "24 of 26" in result.output
    assert len(np.load(tmp_path / "codes.npz")["codes"]) == 24


def test_too_many_rejects_end_the_work_as_soon_as_that_is_certain(
    tiny: Path, photo_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(photo_folder, tmp_path / "bad")
    for i in range(10):
        (folder / f"{i}.jpg").write_bytes(b"")  # listed first
    (folder / "z.jpg").write_bytes(b"")  # listed last, and never read
    result = run("encode", folder, "--tokenizer", tiny, "--out", tmp_path / "codes.npz", "--max-reject-fraction", 0.2)
    assert "10 of 35 pictures could not be read (10 empty)" in str(result.exception)
    assert "z.jpg" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "nowhere", "--out", "codes.npz"], "no file or folder 'nowhere'"),
        (["encode", "EMPTY", "--out", "codes.npz"], "no image file below"),
        (["encode", "BROKEN", "--out", "codes.npz"], "none of the 1 pictures could be read (1 not-an-image)"),
        (["encode", "PHOTOS", "--out", "codes.npy"], "expected a name that ends in .npz"),
        (["encode", "PHOTOS", "--out", "EMPTY"], "expected a name that ends in .npz"),
        (["encode", "PHOTOS", "--out", "/proc/none/codes.npz"], "cannot write /proc/none/codes.npz"),
        (["encode", "PHOTOS", "--preset", "corp", "--out", "codes.npz"], "did you mean 'crop'"),
        (["encode", "PHOTOS", "--precision", "bfloat", "--out", "codes.npz"], "did you mean 'bfloat16'"),
        (["decode", "nowhere.npz", "--out", "OUT"], "cannot read nowhere.npz: No such file"),
        (["decode", "EMPTY", "--out", "OUT"], "Is a directory"),
        (["decode", "CODES", "--out", "BROKEN"], "is a file; name a folder"),
        (["decode", "CODES", "--out", "/proc/none"], "cannot write /proc/none"),
    ],
)
def test_mistakes_are_one_clear_line(
    arguments: list[str], message: str, tiny: Path, encoded: Path, photo_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.npz").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"<html>")
    names = {
        "EMPTY": tmp_path / "empty.npz", "BROKEN": tmp_path / "broken.jpg", "PHOTOS": photo_folder, "CODES": encoded,
        "OUT": tmp_path / "out",
    }  # fmt: skip
    given = [names.get(argument, argument) for argument in arguments]
    if arguments == ["encode", "PHOTOS", "--out", "EMPTY"]:
        message = "it is a folder"
    assert message in refused(*given, "--tokenizer", tiny)
    assert not Path("codes.npz").exists()


def test_codes_of_another_tokenizer_are_refused_unless_asked(encoded: Path, tmp_path: Path) -> None:
    other = tiny_tokenizer_dir(tmp_path, seed=1)
    message = refused("decode", encoded, "--tokenizer", other, "--out", tmp_path / "out")
    assert "was made by tokenizer 'tiny-0'" in message
    assert load(other).card.fingerprint in message
    arguments = ["decode", encoded, "--tokenizer", other, "--out", tmp_path / "out", "--any-tokenizer"]
    assert run(*arguments).exit_code == 0


def changed(encoded: Path, **arrays: np.ndarray | None) -> bytes:
    """The same npz with some arrays replaced, or left out."""
    with np.load(encoded) as stored:
        kept = {**stored, **arrays}
    data = io.BytesIO()
    np.savez(data, **{name: array for name, array in kept.items() if array is not None})
    return data.getvalue()


def npy(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


FAULTS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "cut npz": (lambda path: path.read_bytes()[:-300], "is cut or damaged"),
    "cut early": (lambda path: path.read_bytes()[:100], "is cut or damaged"),
    "flipped byte": (lambda path: path.read_bytes()[:300] + b"\xff\xff" + path.read_bytes()[302:], "is cut or damaged"),
    "cut npy": (lambda path: npy(np.zeros((9, 16), np.uint16))[:-9], "is cut or damaged"),
    "no codes": (lambda path: changed(path, codes=None), "expected one called 'codes'"),
    "pickle in npz": (lambda path: changed(path, names=np.array(["a"] * 24, object)), "are never loaded"),
    "pickle in npy": (lambda path: npy(np.array([{}, []], object)), "are never loaded"),
    "a picture": (lambda path: b"\x89PNG\r\n", "is neither .npz nor .npy"),
    "nothing": (lambda path: b"", "is neither .npz nor .npy"),
    "floats": (lambda path: changed(path, codes=np.zeros((24, 16))), "expected whole numbers"),
    "one number": (lambda path: changed(path, codes=np.array(3)), "expected whole numbers"),
    "too few tokens": (lambda path: changed(path, codes=np.zeros((24, 15), int)), "expected (pictures, 16)"),
    "too many names": (lambda path: changed(path, names=np.array(["a", "b"])), "one text for each of the 24"),
    "too high": (lambda path: changed(path, codes=np.full((24, 16), 64)), "codes of 64..64, expected 0..63"),
    "negative": (lambda path: changed(path, codes=np.full((24, 16), -1)), "codes of -1..-1, expected 0..63"),
    "way out": (lambda path: changed(path, names=np.array(["../x"] + ["y"] * 23)), "no path below a folder"),
    "absolute": (lambda path: changed(path, names=np.array(["/etc/x"] + ["y"] * 23)), "no path below a folder"),
    "one name": (lambda path: changed(path, names=np.array(["y.png"] * 24)), "names must differ"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_of_codes_is_refused_before_anything_is_written(
    fault: str, tiny: Path, encoded: Path, tmp_path: Path
) -> None:
    make, message = FAULTS[fault]
    (tmp_path / "codes").write_bytes(make(encoded))
    assert message in refused("decode", tmp_path / "codes", "--tokenizer", tiny, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_arrays_that_others_add_do_no_harm(tiny: Path, encoded: Path, tmp_path: Path) -> None:
    """Only the known arrays are read, so another one may even be pickled; and the zip may be compressed."""
    with np.load(encoded) as stored:
        np.savez_compressed(tmp_path / "more.npz", **stored, captions=np.array([{}], object))
    assert zipfile.ZipFile(tmp_path / "more.npz").testzip() is None
    assert run("decode", tmp_path / "more.npz", "--tokenizer", tiny, "--out", tmp_path / "out").exit_code == 0


def test_the_command_line_says_mistakes_in_one_line_with_status_1(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "visent",
        "tokenizer",
        "decode",
        str(tmp_path / "none.npz"),
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot read")
    assert done.stderr.count("\n") == 1
