"""Shares by a target, and what closes a deficit."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from manifests.cli import manifest
from manifests.manifest import load
from manifests.rebalance import Request, rebalance
from manifests.testing import write_random_dataset
from visent.errors import UserError

TEXT = """\
version = 1

[datasets]
photos = "photos"
pairs = "pairs"

[tasks.photos]
dataset = "photos"
kind = "single"
sentence = ["image"]

[tasks.depth]
dataset = "pairs"
kind = "discriminative"
sentence = ["image", "depth"]

[stages.s]
context = 128
share = { photos = 1, discriminative = 1 }   # mine
within = { discriminative = { depth = 1 } }
"""


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    """64 sentences' worth of photos (8 a sentence) and 4 of depth (4 pairs a sentence)."""
    write_random_dataset(str(tmp_path / "photos"), {"image": "still"}, examples={"train": 512}, rows_per_shard=512)
    roles: Any = {"image": "still", "depth": "still"}
    write_random_dataset(str(tmp_path / "pairs"), roles, examples={"train": 16}, rows_per_shard=16)
    (tmp_path / "manifest.toml").write_text(TEXT)
    return str(tmp_path / "manifest.toml")


@pytest.mark.parametrize(
    ("target", "photos"),
    [("equal", 1 / 2), ("proportional", 64 / 68), ("temperature=0.5", 8 / 10), ("temperature=0", 1 / 2),
     ("temperature=1", 64 / 68)],
)  # fmt: skip
def test_shares_follow_a_power_of_what_the_tasks_have(corpus: str, target: str, photos: float) -> None:
    _, after = rebalance(corpus, Request(target=target))
    shares = load(corpus).task_shares("s")
    assert shares == pytest.approx({"photos": photos, "depth": 1 - photos}, abs=1e-6)
    assert {row.task: row.wanted_share for row in after.rows} == pytest.approx(shares)
    assert f"# mine; balance: {target} of photos 8.19e+03, depth 512 tokens" in Path(corpus).read_text()


def test_tokens_give_shares_and_the_plan(corpus: str) -> None:
    _, after = rebalance(corpus, Request(target="tokens", tokens={"photos": 128e3, "depth": 384e3}))
    assert load(corpus).task_shares("s") == pytest.approx({"photos": 0.25, "depth": 0.75})
    assert {row.task: row.wanted_sentences for row in after.rows} == pytest.approx({"photos": 1000, "depth": 3000})


@pytest.mark.parametrize(
    ("close_with", "max_epochs", "views", "epochs"),
    [("repeat", 4.0, 1, 25.0), ("augment", 4.0, 25, 1.0), ("mixed", 4.0, 7, 25 / 7), ("mixed", 30.0, 1, 25.0)],
)
def test_a_deficit_is_closed_by_views_by_epochs_or_by_both(
    corpus: str, close_with: Any, max_epochs: float, views: int, epochs: float
) -> None:
    """100 sentences of depth are wanted, 400 pairs of 16 that there are."""
    request = Request(sentences={"s": 200.0}, close_with=close_with, max_epochs=max_epochs)
    _, after = rebalance(corpus, request)
    assert load(corpus).datasets["pairs"].views == views
    assert next(row for row in after.rows if row.task == "depth").epochs == pytest.approx(epochs)
    written = load(corpus).balance
    assert (written.close_deficit_with, written.max_epochs) == (close_with, max_epochs)


def test_views_are_limited_by_what_was_given_and_that_is_written(corpus: str) -> None:
    _, after = rebalance(corpus, Request(sentences={"s": 200.0}, close_with="augment", max_views=5))
    assert load(corpus).datasets["pairs"].views == load(corpus).balance.max_views == 5
    assert "limited by max_views = 5" in next(choice.reason for choice in after.choices if choice.views == 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "eqaul"), "did you mean 'equal'"),
        (("--target", "temperature=2"), "expected 0 (equal shares) to 1"),
        (("--target", "temperature=warm"), "expected 0 (equal shares) to 1"),
        (("--target", "tokens"), "no tokens are given for photos"),
        (("--target", "tokens", "--tokens", "phtos=1"), "did you mean 'photos'"),
        (("--target", "tokens", "--tokens", "photos=-1"), "expected a number above 0"),
        (("--tokens", "photos=1"), "belongs to --target tokens"),
        (("--target", "equal", "--stage", "t"), "unknown stage 't'"),
        (("--max-views", "0"), "max_views is 0"),
    ],
)
def test_a_request_that_cannot_be_met_changes_nothing(corpus: str, arguments: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(manifest, ["balance", corpus, *arguments])
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert Path(corpus).read_text() == TEXT


def test_a_number_that_is_none_is_refused(corpus: str) -> None:
    done = CliRunner().invoke(manifest, ["balance", corpus, "--target", "tokens", "--tokens", "photos=many"])
    assert done.exit_code == 2
    assert "expected TASK=N" in done.output
