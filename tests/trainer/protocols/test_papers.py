"""Published figures: each with its source, none from memory, users' own beside them."""

import math

import pytest

from trainer.protocols import catalog, papers
from visent.errors import UserError

ROW = {"paper": "LVM-Lite", "protocol": "lvm-lite", "part": "frame prediction, UCF101", "figure": "fvd"}


def write(path, **changes):
    fields = {**ROW, **changes}
    text = "".join(f"{name} = {value!r}\n" for name, value in fields.items() if value is not None)
    path.write_text("[[rows]]\n" + text)
    return path


def test_every_value_has_a_source_and_every_part_of_the_papers_has_a_row():
    rows = papers.load()
    assert all(row.source for row in rows if row.value is not None)
    for name, known in catalog.PROTOCOLS.items():
        for part in known.make().parts if known.make else ():
            named = {row.figure for row in papers.rows_of(rows, name, part)}
            assert named >= set(part.figures), f"{part.name} needs a row even where its value is not at hand"


def test_a_users_figure_takes_the_place_of_one_that_is_not_at_hand(tmp_path):
    part = catalog.make("lvm-lite").parts[0]
    before = papers.rows_of(papers.load(), "lvm-lite", part)
    assert [row.value for row in before if row.figure == "fvd"] == [None]
    mine = write(tmp_path / "mine.toml", model="1B", value=123.4, source="page 7, table 2")
    after = papers.rows_of(papers.load([mine]), "lvm-lite", part)
    assert [(row.model, row.value, row.source) for row in after if row.figure == "fvd"] == [
        ("1B", 123.4, "page 7, table 2")
    ]
    assert [row.value for row in after if row.figure == "clip-is"] == [None], "the others stay"


def test_figures_that_are_at_hand_stay_beside_a_users_own(tmp_path):
    part = catalog.make("lvm").parts[0]
    fields = {"paper": "LVM", "protocol": "lvm", "part": part.name, "figure": "foreground-miou"}
    mine = write(tmp_path / "mine.toml", **fields, model="3B", value=40, source="table 9")
    assert len(papers.rows_of(papers.load([mine]), "lvm", part)) == 2


@pytest.mark.parametrize(("changes", "message"), [
    ({"value": 3.5}, "has a value and no source"),
    ({"value": "3.5"}, "expected a number as printed, or 'not at hand'"),
    ({"value": float("inf"), "source": "x"}, "value is inf, expected a number"),
    ({"value": True, "source": "x"}, "expected a number as printed"),
    ({"figure": "fdv", "value": 1}, "did you mean 'fvd'"),
    ({"protocol": "lvmlite", "value": 1}, "did you mean 'lvm-lite'"),
    ({"part": "frame prediction, UCF-101", "value": 1}, "did you mean 'frame prediction, UCF101'"),
    ({"sauce": "x", "value": 1}, "did you mean 'source'"),
    ({"part": None, "value": 1}, "lacks part"),
    ({"paper": 7, "value": 1}, "paper is 7, expected text"),
])  # fmt: skip
def test_a_wrong_row_is_one_line_that_says_where(tmp_path, changes, message):
    path = write(tmp_path / "mine.toml", **changes)
    if changes.get("value") is True:
        path.write_text(path.read_text().replace("True", "true"))
    with pytest.raises(UserError, match=message) as raised:
        papers.read(path)
    assert "mine.toml, row 1" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("text", "message"), [
    ("rows = [", "is not TOML"), ("[table]\nx = 1", "expected"), ("rows = 3", "expected"), ("rows = [3]", "row 1 is 3"),
])  # fmt: skip
def test_a_file_of_another_form_is_refused(tmp_path, text, message):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        papers.load([tmp_path / "mine.toml"])


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        papers.load([tmp_path / "none.toml"])


def test_published_perplexities_are_those_of_their_losses():
    """To 3 percent, that is: the poster prints two digits of a loss, and seems to average over batches."""
    rows = papers.tokens("delvm")
    assert len({(row.task, row.model) for row in rows}) == len(rows) == 15
    for row in rows:
        assert row.perplexity == pytest.approx(math.exp(row.loss), rel=0.03), row
        assert 0 < row.accuracy < 100
        assert row.source
    assert papers.tokens("tasks") == ()
