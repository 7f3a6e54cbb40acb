"""`visent tokenizer convert`: any layout to any other, with the same codes."""

import itertools
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_checkpoints import ATTENTIVE, made, place_of, same

from tokenizer.checkpoints import LAYOUTS, read, write
from tokenizer.commands.convert import LAYOUTS as OFFERED
from tokenizer.commands.convert import convert
from tokenizer.load import load_card
from tokenizer.testing import tiny_tokenizer_dir
from visent.errors import UserError


def run(*arguments: object) -> Result:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(convert, [str(argument) for argument in arguments])
    if isinstance(result.exception, UserError):
        raise result.exception
    return result


def test_every_layout_is_offered() -> None:
    assert OFFERED == LAYOUTS


@pytest.mark.parametrize(("before", "after"), itertools.permutations(LAYOUTS, 2))
def test_any_layout_becomes_any_other_with_one_fingerprint(tmp_path: Path, before: str, after: str) -> None:
    checkpoint = made(dtype="float16")
    (tmp_path / "in").mkdir()
    source, out = place_of(before, tmp_path / "in"), place_of(after, tmp_path)
    write(checkpoint, before, source)
    result = run(source, "--to", after, "--out", out)
    assert result.exit_code == 0, result.output
    assert same(read(out), checkpoint)
    assert result.output.count(load_card(source).fingerprint) == 2
    assert load_card(out).fingerprint == load_card(source).fingerprint
    assert ("other programs must be given pixels in [-1, 1]" in result.output) == (after in ("muse", "diffusers"))


def test_our_own_folder_keeps_name_preset_and_about(tmp_path: Path) -> None:
    source = tiny_tokenizer_dir(tmp_path)
    run(source, "--to", "visent", "--out", tmp_path / "again", "--preset", "squash")
    again, before = load_card(tmp_path / "again"), load_card(source)
    assert (again.preset, again.name, again.about) == ("squash", before.name, before.about)
    assert run(source, "--to", "visent", "--out", tmp_path / "named", "--name", "mine").exit_code == 0
    assert load_card(tmp_path / "named").name == "mine"


def test_without_its_decoder_a_tokenizer_has_the_same_fingerprint(tmp_path: Path) -> None:
    write(made(), "taming", tmp_path / "model.ckpt")
    result = run(tmp_path / "model.ckpt", "--to", "visent", "--out", tmp_path / "half", "--encoder-only")
    assert "none" in result.output
    half, whole = load_card(tmp_path / "half"), load_card(tmp_path / "model.ckpt")
    assert (half.fingerprint, half.decoder_sha256) == (whole.fingerprint, "")
    assert not read(tmp_path / "half").config.has_decoder


def test_a_preset_that_the_layout_cannot_say_is_told(tmp_path: Path) -> None:
    write(made(), "visent", tmp_path / "in")
    result = run(tmp_path / "in", "--to", "taming", "--out", tmp_path / "out.ckpt", "--preset", "squash")
    assert "load it with preset 'squash'" in result.output


def test_the_pixel_range_can_be_told(tmp_path: Path) -> None:
    write(made(), "taming", tmp_path / "model.ckpt")
    run(tmp_path / "model.ckpt", "--to", "visent", "--out", tmp_path / "out", "--unsigned-pixels")
    assert ATTENTIVE.signed_pixels
    assert not read(tmp_path / "out").config.signed_pixels


def test_what_cannot_be_held_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    source = tiny_tokenizer_dir(tmp_path)
    with pytest.raises(UserError, match="muse cannot hold this network: it folds 4 x 4 pixels"):
        run(source, "--to", "muse", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    source = tiny_tokenizer_dir(tmp_path)
    with pytest.raises(UserError, match="is already there: name another --out"):
        run(source, "--to", "visent", "--out", source)


def test_an_unknown_layout_lists_the_known(tmp_path: Path) -> None:
    result = run(tiny_tokenizer_dir(tmp_path), "--to", "onnx", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "'diffusers'" in result.output
