"""The commands as a person calls them: tables, JSON, pictures, and one error line in place of a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from manifests.cli import manifest
from manifests.lock import load_lock
from manifests.manifest import load
from manifests.testing import write_random_dataset
from visent.errors import UserError


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_random_dataset("corpus/photos", {"image": "still"}, examples={"train": 40, "val": 4})
    pairs = {"image": "still", "edge": "still", "gray": "still", "holes": "still"}
    write_random_dataset("corpus/pairs", pairs, examples={"train": 40, "val": 4})
    write_random_dataset("corpus/clips", {"frames": "clip"}, examples={"train": 10}, frames=(16, 9))
    write_random_dataset("corpus/depth", {"image": "still", "depth": "still"}, examples={"train": 1}, views=20)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(manifest, list(arguments), catch_exceptions=False)


def test_from_datasets_to_a_lock(corpus: Path) -> None:
    written = call("init", "corpus/photos", "corpus/pairs", "corpus/clips", "corpus/depth")
    assert written.exit_code == 0
    assert load("manifest.toml").datasets["photos"].path == "corpus/photos"
    edited = Path("manifest.toml").read_text().replace("views = 20", "views = 1")
    Path("manifest.toml").write_text(edited)
    balanced = call("balance", "--plot", "balance.png")
    assert "depth reads" in balanced.output
    assert 1 < load("manifest.toml").datasets["depth"].views <= 20
    shown = call("show", "--plot", "show.png")
    for word in ("colorization", "inpainting", "depth_to_image", "5 clips too short", "no val", "wanted"):
        assert word in shown.output
    locked = call("lock")
    digest = load_lock("manifest.lock.json").digest
    assert f"digest {digest[:16]}" in locked.output
    assert all(Image.open(name).size[0] > 600 for name in ("balance.png", "show.png"))


def test_json_says_what_the_tables_say(corpus: Path) -> None:
    call("init", "corpus/photos", "corpus/depth")
    rows = json.loads(call("show", "--json", "--sentences", "sequences=80").output)["tasks"]
    depth = next(row for row in rows if row["task"] == "depth")
    assert (depth["examples"], depth["views"], depth["views_made"], depth["wanted_sentences"]) == (1, 20, 20, 40)
    assert depth["epochs"] == pytest.approx(40 * 8 / 20)
    assert depth["deficit"] == pytest.approx(40 - 4 * 20 / 8)
    answer = json.loads(call("balance", "--json", "--dry-run", "--sentences", "sequences=80").output)
    assert answer["after"]["views"][-1]["views"] == 80
    assert json.loads(call("lock", "--json").output)["digest"] == load_lock("manifest.lock.json").digest


def test_a_dry_run_writes_nothing(corpus: Path) -> None:
    call("init", "corpus/photos", "corpus/depth")
    before = Path("manifest.toml").read_text()
    assert "Nothing was written" in call("balance", "--dry-run").output
    assert Path("manifest.toml").read_text() == before


def test_init_replaces_a_manifest_only_when_told(corpus: Path) -> None:
    call("init", "corpus/photos")
    with pytest.raises(UserError, match=r"is there already: edit it, name another --out, or give --overwrite"):
        call("init", "corpus/photos")
    assert call("init", "corpus/photos", "corpus/clips", "--overwrite").exit_code == 0
    assert list(load("manifest.toml").datasets) == ["photos", "clips"]


def test_a_plan_that_is_none_is_refused(corpus: Path) -> None:
    call("init", "corpus/photos")
    assert "expected STAGE=N" in call("show", "--sentences", "images").output
    with pytest.raises(UserError, match=r"stage 'imags': did you mean 'images'"):
        call("show", "--sentences", "imags=5")


def test_a_mistake_is_one_line_and_no_traceback(corpus: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "visent", "manifest", "show", "absent.toml"],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: no manifest at absent.toml")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [(), ("init",), ("show",), ("balance",), ("lock",)])
def test_help_shows_an_example(command: tuple[str, ...]) -> None:
    text = call(*command, "--help").output
    assert f"visent manifest {' '.join(command)}" in text.split("Example:")[1]
