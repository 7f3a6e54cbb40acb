"""Evaluations as JSON, Markdown and tables for a terminal."""

import dataclasses
import io
import json

import pytest
from an_evaluation import FEW, INCEPTION, LITE, NO_I3D, evaluation
from rich.console import Console

from trainer.protocols import catalog, papers, sections, tables
from trainer.protocols.results import Evaluation, Figure, Row, Value, read, told_apart
from visent.errors import UserError


def lines_of(grid, part):
    """The lines of a part, by who they are of, without the marks of footnotes."""
    found, current = {}, ""
    for name, who, *cells in grid.rows:
        current = name or current
        if current == part:
            found[who.split(" [")[0]] = cells
    return found


def test_json_gives_the_same_evaluation_back():
    made = evaluation()
    assert Evaluation.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False))) == made


def test_infinite_figures_survive_json():
    """PSNR of equal pictures is infinite, and JSON has no number for it."""
    made = evaluation()
    row = dataclasses.replace(made.rows[0], figures=(Figure(name="psnr", model=Value(value=float("inf"))),))
    text = json.dumps(dataclasses.replace(made, rows=(row,)).to_json(), allow_nan=False)
    assert Evaluation.from_json(json.loads(text)).rows[0].figures[0].model == Value(value=float("inf"))


def test_json_says_what_figures_are_functions_of():
    found = evaluation().to_json()
    for name in ("format", "run", "step", "weights_digest", "lock_digest", "fingerprint", "versions"):
        assert found[name], name
    assert found["networks"][0]["sha256"] == INCEPTION.sha256
    assert found["rows"][3]["part"]["sampling"] == {"top_k": 100, "temperature": 1.0, "seed": 0}


@pytest.mark.parametrize(("change", "message"), [
    ({"format": 99}, "no evaluation in format 1 but 99"), ({"rows": 3}, "is damaged"), ({"unheard": 1}, "is damaged"),
])  # fmt: skip
def test_a_file_that_is_no_evaluation_is_one_line(tmp_path, change, message):
    path = tmp_path / "first.json"
    path.write_text(json.dumps({**evaluation().to_json(), **change}))
    with pytest.raises(UserError, match=f"first.json.*{message}"):
        read(path)


def test_a_file_that_is_not_there_or_holds_a_list_is_one_line(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        read(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UserError, match="no evaluation in format 1 but None"):
        read(tmp_path / "list.json")


def test_the_page_named_in_place_of_the_json_is_not_to_be_removed(tmp_path):
    (tmp_path / "evaluation.html").write_text("<!doctype html>")
    with pytest.raises(UserError, match=r"evaluation.html is not valid JSON .*: name an evaluation.json"):
        read(tmp_path / "evaluation.html")


def test_a_loss_that_is_no_number_is_printed_as_it_is():
    made = evaluation()
    scores = {
        **made.tokens["stages"]["sequences"]["per_task"]["edge"],
        "loss": float("nan"),
        "perplexity": float("inf"),
    }
    tokens = {"stages": {"sequences": {"per_task": {"edge": scores}, "without_rows": []}}}
    back = Evaluation.from_json(json.loads(json.dumps(dataclasses.replace(made, tokens=tokens).to_json())))
    assert tables.tokens(back)[0].rows == [["edge", "64", "nan", "inf", "6.25"]]


def test_a_part_has_the_papers_rows_then_the_runs_then_the_ceiling():
    grids = tables.parts([evaluation()])
    assert [grid.title for grid in grids] == ["FVD, clip IS", "FID, IS", "mIoU %, FID"]
    found = lines_of(grids[2], "image to seg, ADE20K")
    assert list(found) == ["LVM-Lite", "first (300m, step 15639)", tables.CEILING]
    assert [cell.split(" ")[0] for cell in found["first (300m, step 15639)"]] == ["2,000", "31.25", "41.26"]
    assert found[tables.CEILING] == ["", "87.50", "9.50"]


def test_what_is_not_there_is_explained_below():
    clips = tables.parts([evaluation()])[0]
    below = "\n".join(clips.below)
    for text in (papers.MISSING, NO_I3D, "not run: give Kinetics-600"):
        assert text in below
    row = lines_of(clips, "frame prediction, UCF101")["first (300m, step 15639)"]
    number = next(line for line in clips.below if NO_I3D in line).split(" ")[0]
    assert row[1] == f"- {number}"
    assert lines_of(clips, "frame prediction, Kinetics-600")["first (300m, step 15639)"][0] == "not run"


def test_a_warning_stands_beside_its_figure():
    images = tables.parts([evaluation()])[1]
    number = next(line for line in images.below if FEW in line).split(" ")[0]
    assert lines_of(images, "seg to image, ADE20K")["first (300m, step 15639)"][1] == f"41.26 {number}"


def test_another_network_has_columns_of_its_own_and_the_papers_stay():
    images = tables.parts([evaluation(network=LITE)])[1]
    heads = images.head[3:]
    assert heads == ["FID ↓", "FID-like ↓ [a]", "IS ↑", "IS-like ↑ [a]"]
    assert images.below[0] == f"[a] {LITE.label}"
    found = lines_of(images, "seg to image, ADE20K")
    assert found["LVM-Lite"][1].startswith("-")
    assert found["LVM-Lite"][2] == ""
    assert found["first (300m, step 15639)"][1] == ""
    assert found["first (300m, step 15639)"][2].startswith("41.26")


def test_the_papers_network_is_named_with_its_hash_below_its_figures():
    images = tables.parts([evaluation()])[1]
    assert images.head[3] == "FID ↓ [a]"
    assert images.below[0] == f"[a] {INCEPTION.label}"


def test_a_column_that_no_row_fills_is_left_out():
    whole = evaluation(network=LITE)
    alone = dataclasses.replace(whole, rows=tuple(dataclasses.replace(row, papers=()) for row in whole.rows))
    assert tables.parts([alone])[1].head[3:] == ["FID-like ↓ [a]", "IS-like ↑ [a]"]


def test_runs_stand_side_by_side_and_share_a_ceiling_that_is_equal():
    runs = [evaluation(), evaluation("runs/second", fid=33.0)]
    found = lines_of(tables.parts(runs)[1], "seg to image, ADE20K")
    assert list(found) == ["LVM-Lite", "first (300m, step 15639)", "second (300m, step 15639)", tables.CEILING]
    assert found["second (300m, step 15639)"][1].startswith("33.00")


@pytest.mark.parametrize(("runs", "names"), [
    (("runs/a", "runs/b"), ("a", "b")), (("a/run", "b/run/"), ("a/run", "b/run")),
    (("gs://bucket/x/run", "y/run"), ("x/run", "y/run")), (("run", "run"), ("run", "run")),
])  # fmt: skip
def test_runs_are_called_by_as_much_of_their_paths_as_tells_them_apart(runs, names):
    found = told_apart([evaluation(run) for run in runs])
    assert [each.title.split(" (")[0] for each in found] == list(names)


def test_checkpoints_of_one_run_are_told_apart_by_their_steps():
    found = told_apart([evaluation(), dataclasses.replace(evaluation(), step=1)])
    assert [each.title for each in found] == ["first (300m, step 15639)", "first (300m, step 1)"]


def test_runs_judged_on_other_samples_are_marked():
    runs = [evaluation(), evaluation("runs/second")]
    other = tuple(dataclasses.replace(row, cases_digest="others") for row in runs[1].rows)
    grid = tables.parts([runs[0], dataclasses.replace(runs[1], rows=other)])[1]
    assert any("judged on other samples" in line for line in grid.below)
    assert not any("judged on other samples" in line for line in tables.parts(runs)[1].below)


def test_runs_by_different_protocols_make_no_table():
    with pytest.raises(UserError, match="make no table"):
        tables.parts([evaluation(), dataclasses.replace(evaluation(), protocol="delvm")])


def test_real_pixels_have_a_line_where_a_figure_judges_them():
    row = evaluation().rows[3]
    figure = dataclasses.replace(row.figures[1], real=Value(value=30.0))
    made = dataclasses.replace(evaluation(), rows=(Row(part=row.part, figures=(row.figures[0], figure), samples=8),))
    assert lines_of(tables.parts([made])[0], row.part.name)[tables.REAL] == ["", "", "30.00"]


def test_few_shot_segmentation_says_how_the_run_came_by_it():
    part = catalog.make("delvm").parts[0]
    made = dataclasses.replace(evaluation(), rows=(Row(part=part, not_run="no data"),))
    assert made.title == "first (300m, step 15639, zero-shot)"
    assert dataclasses.replace(made, fine_tuned=True).title == "first (300m, step 15639, fine-tuned)"
    assert dataclasses.replace(evaluation(), fine_tuned=True).title == "first (300m, step 15639)"


def test_markdown_has_every_part_and_what_was_judged():
    made = evaluation()
    text = sections.markdown([made])
    for row in made.rows:
        assert f"| {row.part.name} |" in text
    for value in (
        made.weights_digest,
        made.lock_digest,
        INCEPTION.sha256,
        "top-k 100, temperature 1",
        "edge",
        "ADE20K, by pairs",
    ):
        assert value in text
    found = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(found) > 3
    assert all(len({line.count(" | ") for line in lines}) == 1 for lines in found)


def test_a_pipe_in_a_name_does_not_break_markdown():
    first = evaluation()
    row = dataclasses.replace(first.rows[0], part=dataclasses.replace(first.rows[0].part, name="x|y"))
    assert "| x\\|y |" in sections.markdown([dataclasses.replace(first, rows=(row,))])


def test_a_terminal_shows_all_of_it():
    said = io.StringIO()
    made = evaluation()
    console = Console(file=said, width=200)
    tables.show(console, [*tables.parts([made]), *tables.tokens(made), *tables.seconds(made)])
    for text in ("seg to image, ADE20K", "41.26", "[1]", "no held-out rows", "generation"):
        assert text in said.getvalue()
