"""From a deficit to views that are read: balance, tokenize, lock, and back down again."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_media import write_pictures

from manifests.cli import manifest
from manifests.corpus import Corpus
from manifests.lock import load_lock
from manifests.manifest import load
from pipelines.cli import tokenize, verify

TEXT = """\
version = 1

[datasets]
depth = "depth"   # one pair

[tasks.edge]
dataset = "depth"
kind = "discriminative"
sentence = ["image", "edge"]

[stages.s]
context = 32
sentences = 37
share = { edge = 1.0 }
"""


def balance(*arguments: str) -> str:
    done = CliRunner().invoke(manifest, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def views_read(path: str) -> int:
    balance("lock", path)
    lock = load_lock(path.replace(".toml", ".lock.json"))
    read = {(slot["key"], slot["view"]) for n in range(37) for slot in Corpus(lock).describe("s", "edge", n, 0)}
    return len(read)


def test_a_deficit_is_closed_by_views_that_are_made_once_and_can_be_left_unread(
    tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for role in ("image", "edge"):
        write_pictures(tmp_path / "in" / role, 1)
    made = CliRunner().invoke(tokenize, ["pairs", "in", "--out", "depth", "--tokenizer", tiny])
    assert made.exit_code == 0, made.output
    Path("manifest.toml").write_text(TEXT)

    balance("balance", "manifest.toml", "--close-with", "augment")
    assert load("manifest.toml").datasets["depth"].views == 37
    (work,) = json.loads(balance("plan", "manifest.toml", "--json"))
    assert work["images"] == 2 * 36

    assert CliRunner().invoke(tokenize, ["--views-from", "manifest.toml"]).exit_code == 0
    assert json.loads(balance("plan", "manifest.toml", "--json")) == []
    assert CliRunner().invoke(verify, ["depth"]).exit_code == 0
    assert views_read("manifest.toml") == 37
    digest = load_lock("manifest.lock.json").digest

    there = {file: file.stat().st_mtime_ns for file in Path("depth").iterdir()}
    assert CliRunner().invoke(tokenize, ["--views-from", "manifest.toml"]).exit_code == 0
    assert {file: file.stat().st_mtime_ns for file in Path("depth").iterdir()} == there

    balance("set", "manifest.toml", "datasets.depth.views=5")
    assert views_read("manifest.toml") == 5
    assert load_lock("manifest.lock.json").digest != digest
    assert {file: file.stat().st_mtime_ns for file in Path("depth").iterdir()} == there
    assert "# one pair" in Path("manifest.toml").read_text()
