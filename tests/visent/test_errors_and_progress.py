"""Errors name the nearest valid name; progress says count, rate and time left."""

import pytest

from visent.errors import UserError, unknown
from visent.progress import track


def test_unknown_name_suggests_the_nearest_and_lists_all() -> None:
    error = unknown("task", "dept", ["edge", "depth"])
    assert isinstance(error, UserError)
    assert str(error) == "unknown task 'dept': did you mean 'depth'? known: depth, edge"


def test_unknown_name_suggests_nothing_far_away() -> None:
    assert str(unknown("task", "xyz", ["edge"])) == "unknown task 'xyz': known: edge"


def test_known_names_with_commas_are_quoted() -> None:
    assert str(unknown("part", "xyz", ["a, b", "c"])) == "unknown part 'xyz': known: 'a, b', 'c'"


def test_unknown_name_says_when_there_is_none() -> None:
    assert str(unknown("task", "xyz", [])) == "unknown task 'xyz': known: none"


def test_progress_ends_with_one_line_of_count_rate_and_note(capsys: pytest.CaptureFixture[str]) -> None:
    with track("tokenize", total=3, unit="images") as bar:
        for _ in range(3):
            bar.advance(note="1/1 shards")
    captured = capsys.readouterr()
    assert captured.out == "", "progress must not mix with what a command prints for scripts"
    last = captured.err.splitlines()[-1]
    assert last.startswith("tokenize: 3/3 images, ")
    assert "images/s" in last
    assert "ETA 0 s" in last
    assert last.endswith("1/1 shards")


def test_progress_without_total_gives_no_eta(capsys: pytest.CaptureFixture[str]) -> None:
    with track("read", unit="rows") as bar:
        bar.advance(2)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("read: 2 rows, ")
    assert "ETA" not in last
