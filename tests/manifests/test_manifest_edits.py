"""set, check, diff and plan: what they change, what they find, what they say."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from manifests.assign import assign
from manifests.cli import manifest
from manifests.manifest import load, parse_text
from manifests.missing import remember_rate
from manifests.testing import TINY_CARD, write_random_dataset
from tokenizer.card import TokenizerCard
from visent.errors import UserError

TEXT = """\
# what we read
version = 1

[datasets]
photos = "photos"   # from the bucket
pairs = "pairs"

[tasks.photos]
dataset = "photos"
kind = "single"
sentence = ["image"]

[tasks.depth]   # both ways
dataset = "pairs"
kind = "discriminative"
sentence = ["image", "depth"]

[tasks.edge]
dataset = "pairs"
kind = "discriminative"
sentence = ["image", "edge"]

[stages.s]
context = 128   # 8 x 16
# the shares
share = { single = 0.5, discriminative = 0.5 }
"""


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_random_dataset("photos", {"image": "still"}, examples={"train": 80, "val": 4})
    roles: Any = {"image": "still", "depth": "still", "edge": "still"}
    write_random_dataset("pairs", roles, examples={"train": 40}, views=2)
    Path("manifest.toml").write_text(TEXT)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(manifest, list(arguments), catch_exceptions=False)


@given(st.sampled_from(["photos", "depth", "edge"]), st.floats(0, 0.99))
def test_a_tasks_share_is_what_was_set_and_the_others_keep_their_ratios(task: str, share: float) -> None:
    before = parse_text(TEXT, "m").task_shares("s")
    after = parse_text(assign(TEXT, "m", [f"tasks.{task}.share={share:.6f}"]), "m").task_shares("s")
    assert after.get(task, 0.0) == pytest.approx(float(f"{share:.6f}"), abs=1e-5)
    rest = {name: part for name, part in before.items() if name != task}
    for name, part in rest.items():
        assert after[name] == pytest.approx(part / sum(rest.values()) * (1 - share), abs=1e-5)


def test_setting_keeps_comments_and_order(corpus: Path) -> None:
    done = call(
        "set", "tasks.depth.share=0.2", "datasets.photos.views=1", "stages.s.context=256", "tasks.edge.layout=blocks"
    )
    assert done.exit_code == 0
    lines = Path("manifest.toml").read_text().splitlines()
    assert lines[4] == 'photos = {path = "photos", views = 1}  # from the bucket'
    assert lines[12] == "[tasks.depth]   # both ways"
    assert lines[-3:] == ["context = 256   # 8 x 16", "# the shares",
                          "share = { single = 0.533333, discriminative = 0.266667, depth = 0.2}"]  # fmt: skip
    assert load("manifest.toml").tasks["edge"].layout == "blocks"
    assert "says so already" in call("set", "stages.s.context=256").output


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("tasks.dept.share=0.2", "did you mean 'depth'"),
        ("tasks.depth.share=1.5", "expected a part of the stage"),
        ("tasks.depth.share=lots", "expected a part of the stage"),
        ("stages.t.context=256", "unknown key in stages 't'"),
        ("stages.s.contxt=256", "did you mean 'context'"),
        ("stages.s.context=-1", "expected 1 or more"),
        ("stages.s.context.x=1", "holds no key 'x'"),
        ("datasets.photos.views=0", "views is 0"),
        ("stages.s.context=", "sets nothing"),
    ],
)
def test_what_would_be_no_manifest_is_refused_and_nothing_is_written(
    corpus: Path, assignment: str, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        call("set", "stages.s.context=64", assignment)
    assert message in str(caught.value)
    assert Path("manifest.toml").read_text() == TEXT


def test_a_sound_manifest_has_no_findings(corpus: Path) -> None:
    done = call("check")
    assert (done.exit_code, done.output) == (0, "manifest.toml: 0 errors, 0 warnings\n")


def test_check_says_everything_that_is_wrong_at_once(corpus: Path) -> None:
    other = TokenizerCard.from_json({**TINY_CARD.to_json(), "weights_sha256": "1" * 64, "name": "other"})
    write_random_dataset("strange", {"image": "still"}, examples={"train": 4}, card=other)
    text = TEXT.replace('pairs = "pairs"', 'pairs = { path = "pairs", views = 9 }\ngone = "gone"\nstrange = "strange"')
    text = text.replace('["image", "edge"]', '["image", "egde"]').replace("discriminative = 0.5 }", "depth = 3 }")
    Path("manifest.toml").write_text(text)
    next(Path("photos").glob("*.parquet")).unlink()
    done = call("check", "--json")
    assert done.exit_code == 1
    found = {(finding["level"], finding["about"]): finding["message"] for finding in json.loads(done.output)}
    assert "did you mean 'edge'" in found["error", "tasks.edge"]
    assert "views, 2 are made" in found["error", "datasets.pairs"]
    assert "no dataset at" in found["error", "datasets.gone"]
    assert "is missing" in found["error", "datasets.photos"]
    assert "'other'" in found["error", "datasets.strange"] or "no task" in found["warning", "datasets.strange"]
    assert "add up to 3.5" in found["warning", "stages.s"]
    assert found["warning", "tasks.edge"] == "no stage reads it"


def test_a_dataset_without_training_examples_has_no_views_to_make(corpus: Path) -> None:
    write_random_dataset("held", {"image": "still"}, examples={"val": 4})
    Path("manifest.toml").write_text(TEXT.replace('pairs = "pairs"', 'pairs = "pairs"\nheld = "held"'))
    assert [finding["message"] for finding in json.loads(call("check", "--json").output)] == ["no task reads it"]
    assert "every view that it reads is there" in call("plan").output


def test_check_warns_of_deficits_and_short_clips(corpus: Path) -> None:
    write_random_dataset("clips", {"frames": "clip"}, examples={"train": 4}, frames=(8, 2))
    text = TEXT.replace('pairs"\n', 'pairs"\nclips = "clips"\n', 1).replace("single = 0.5", "natural = 0.5")
    text += '\n[tasks.clips]\ndataset = "clips"\nkind = "natural"\nsentence = ["frames"]\n'
    Path("manifest.toml").write_text(text + "\n[balance]\nmax_epochs = 1\n")
    messages = [finding["message"] for finding in json.loads(call("check", "--json").output)]
    assert any("'clips' lacks" in message for message in messages)
    assert any("leaves out 2 clips" in message for message in messages)


def test_diff_shows_only_what_differs_in_sentences_and_tokens(corpus: Path) -> None:
    Path("other.toml").write_text(TEXT)
    assert "0 of 3 differ" in call("diff", "manifest.toml", "other.toml").output
    call("set", "other.toml", "tasks.photos.share=0.75", "datasets.pairs.views=2")
    shown = call("diff", "manifest.toml", "other.toml").output
    assert "50.0 % → 75.0 %" in shown
    assert "1 → 2" in shown
    by_task = {one["task"]: one for one in json.loads(call("diff", "manifest.toml", "other.toml", "--json").output)}
    assert by_task["photos"]["after"]["tokens"] == pytest.approx(0.75 * (80 / 8 + 40 / 4 + 40 / 4) * 128)


def test_plan_counts_the_images_codes_and_time_of_missing_views(corpus: Path) -> None:
    assert "every view that it reads is there" in call("plan").output
    call("set", "datasets.pairs.views=5", "datasets.photos.views=3")
    works = {work["dataset"]: work for work in json.loads(call("plan", "--json", "--rate", "10").output)}
    assert (works["pairs"]["images"], works["pairs"]["examples"], works["pairs"]["views_made"]) == (3 * 40 * 3, 40, 2)
    assert (works["photos"]["images"], works["photos"]["codes"]) == (2 * 80, 2 * 80 * 16)
    assert works["photos"]["seconds"] == 16
    size = sum(path.stat().st_size for path in Path("photos").glob("train*.parquet"))
    assert works["photos"]["bytes"] == pytest.approx(2 * size, rel=0.2)
    assert "give --rate" in call("plan").output
    remember_rate(TINY_CARD.fingerprint, 160.0)
    assert "160.0" in call("plan").output


def test_views_written_in_the_manifest_are_counted_only_for_what_is_missing(corpus: Path) -> None:
    call("set", "datasets.pairs.views=2")
    assert "every view that it reads is there" in call("plan").output
    with pytest.raises(UserError, match="expected images per second above 0"):
        call("plan", "--rate", "0")
