"""The commands as a user types them: arguments, messages, pictures."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from made_media import write_pictures, write_video
from PIL import Image

from manifests.dataset import load_facts
from pipelines.cli import show, tokenize, verify
from visent.errors import UserError


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(tokenize, [str(argument) for argument in arguments])


def error(result: Result) -> str:
    if result.exit_code == 2:  # of a command line that makes no sense
        return result.output.strip().splitlines()[-1]
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def test_from_pictures_to_a_contact_sheet(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 5)
    out = tmp_path / "corpus" / "photos"
    result = call("folder", tmp_path / "in", "--out", out, "--annotate", "edge,gray", "--tokenizer", tiny)
    assert result.exit_code == 0, result.output
    assert "rows" in result.output
    assert load_facts(str(out)).name == "photos"
    checked = CliRunner().invoke(verify, [str(out)])
    assert checked.exit_code == 0
    next(out.glob("*.parquet")).unlink()
    assert CliRunner().invoke(verify, [str(out)]).exit_code == 1


def test_a_sheet_shows_every_role_of_every_row_and_every_frame_of_a_sentence(tmp_path: Path, tiny: str) -> None:
    write_video(tmp_path / "in" / "v.mp4")
    out = tmp_path / "clips"
    call("videos", "--root", tmp_path / "in", "--fps", "5", "--frames-per-clip", "5", "--out", out, "--tokenizer", tiny)
    sheet = tmp_path / "rows.png"
    result = CliRunner().invoke(show, [str(out), "--out", str(sheet), "--count", "2"])
    assert result.exit_code == 0, result.output
    (tmp_path / "manifest.toml").write_text(
        'version = 1\n[datasets]\nclips = "clips"\n[tasks.clips]\ndataset = "clips"\nkind = "natural"\n'
        'sentence = ["frames"]\n[stages.s]\ncontext = 64\nshare = { clips = 1.0 }\n'
    )
    sentences = tmp_path / "sentences.png"
    result = CliRunner().invoke(show, [str(tmp_path / "manifest.toml"), "--stage", "s", "--out", str(sentences)])
    assert result.exit_code == 0, result.output
    for path in (sheet, sentences):
        pixels = np.asarray(Image.open(path))
        assert pixels.shape[0] > 150
        assert pixels.std() > 10


def test_pairs_are_named_or_read_off_a_folder(tmp_path: Path, tiny: str) -> None:
    for role in ("image", "pose"):
        write_pictures(tmp_path / "in" / role, 2)
    assert call("pairs", tmp_path / "in", "--out", tmp_path / "a", "--tokenizer", tiny).exit_code == 0
    named = [f"{role}={tmp_path}/in/{role}" for role in ("pose", "image")]
    assert (
        call("pairs", *named, "--out", tmp_path / "b", "--tokenizer", tiny, "--", "--direct_num_workers=1").exit_code
        == 0
    )
    assert list(load_facts(str(tmp_path / "a")).schema.roles) == ["image", "pose"]
    assert list(load_facts(str(tmp_path / "b")).schema.roles) == ["pose", "image"]


def test_views_from_a_manifest_are_made_for_the_datasets_that_ask_for_them(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    call("folder", tmp_path / "in", "--out", tmp_path / "d", "--tokenizer", tiny)
    manifest = tmp_path / "manifest.toml"
    text = 'version = 1\n[datasets.d]\npath = "d"\nviews = 3\n[tasks.t]\ndataset = "d"\nkind = "single"\n'
    manifest.write_text(text + 'sentence = ["image"]\n[stages.s]\ncontext = 16\nshare = { t = 1.0 }\n')
    assert call("--views-from", manifest, "--dataset", "d").exit_code == 0
    assert load_facts(str(tmp_path / "d")).views() == 3
    assert "unknown dataset 'e'" in error(call("--views-from", manifest, "--dataset", "e"))
    assert call("--views-from", manifest, "--", "--direct_num_workers=2").exit_code == 0
    assert "did you mean 'direct_num_workers'" in error(call("--views-from", manifest, "--", "--direct_nun_workers=2"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("folder", "absent", "--out", "d"), "absent does not exist"),
        (("pairs", "image", "--out", "d"), "does not exist"),
        (("pairs", "image=", "b=c", "--out", "d"), "no new ROLE=FOLDER"),
        (("pairs", "a=.", "a=.", "--out", "d"), "no new ROLE=FOLDER"),
        (("videos", "--root", ".", "--fps", "-1", "--out", "d"), "--fps"),
        (("webdataset", "--root", ".", "--out", "d"), "no tars"),
        (("folder", ".", "--max-reject-fraction", "7", "--out", "d"), "expected a part of the examples, from 0 to 1"),
        (("folder", ".", "--max-reject-fraction", "nan", "--out", "d"), "expected a part of the examples"),
        (("--views-from", "absent.toml"), "absent.toml"),
        (("--views-from", "absent.toml", "--reason", "decode"), "--reason chooses what --retry-rejects tries again"),
        (("--reason", "decode"), "--reason chooses what --retry-rejects tries again"),
        (("--dataset", "d"), "--dataset chooses one of the manifest of --views-from"),
        (("--dry-run",), "--dry-run says how to run, but not on what"),
        (("--workers", "2", "folder", ".", "--out", "d"), "--workers stands before the source"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: str, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    more = () if arguments[0].startswith("--") else ("--tokenizer", tiny)
    text = error(call(*arguments, *more))
    assert message in text
    assert "\n" not in text


def test_show_says_what_is_missing(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    out = tmp_path / "d"
    call("folder", tmp_path / "in", "--out", out, "--tokenizer", tiny)
    sheet = str(tmp_path / "sheet.png")
    for arguments, message in {
        ("--split", "vall"): "unknown split",
        ("--view", "3"): "none is number 3",
        ("--tokenizer", "absent"): "no tokenizer",
    }.items():
        assert message in error(CliRunner().invoke(show, [str(out), "--out", sheet, *arguments]))
