"""Sweeps over pairs, top-k and temperature."""

import dataclasses
import io

import numpy as np
import pytest
from an_evaluation import LITE, evaluation, sweep
from PIL import Image

from trainer.protocols import catalog, sweeps
from trainer.protocols.part import Part
from trainer.protocols.results import Figure, Row, Value
from visent.errors import UserError

ROOM = {"codebook_size": 8192, "tokens_per_image": 256, "context_tokens": 4096}


def part(name):
    return next(part for part in catalog.make("lvm-lite").parts if part.name == name)


PAIRED = part("seg to image, ADE20K")


def values(axis, **changes):
    return [setting.value for setting in sweeps.settings(PAIRED, axis, **{**ROOM, **changes})]


def test_the_axes_are_those_of_the_paper():
    assert values("pairs") == [1, 2, 3, 4, 5, 6]
    assert values("top-k") == [10, 100, 1000, 8192]
    assert values("temperature") == [0.1, 0.3, 0.5, 0.7, 0.9, 1.0], "the part's own is among them"


def test_top_k_ends_at_the_codebook():
    assert values("top-k", codebook_size=64) == [10, 64]
    assert values("top-k", codebook_size=16384) == [10, 100, 1000, 8192, 16384]


@pytest.mark.parametrize("axis", sweeps.AXES)
def test_one_setting_changes_and_the_others_are_the_parts_own(axis):
    for setting in sweeps.settings(PAIRED, axis, **ROOM):
        sampling = setting.part.sampling
        found = {"pairs": setting.part.pairs, "top-k": sampling.top_k, "temperature": sampling.temperature}
        own = {"pairs": 1, "top-k": 100, "temperature": 1.0}
        assert found == {**own, axis: setting.value}
        back = dataclasses.replace(setting.part, pairs=1, sampling=PAIRED.sampling)
        assert back == PAIRED


def test_settings_that_do_not_fit_the_context_are_left_out_with_a_note():
    found = sweeps.settings(PAIRED, "pairs", **{**ROOM, "context_tokens": 2048})
    assert [setting.value for setting in found if setting.part is not None] == [1, 2, 3]
    judged = sweeps.sweep(PAIRED, "pairs", found, lambda part: Row(part=part, samples=8))
    left_out = judged.points[3]
    assert (left_out.setting, left_out.samples) == (4, 0)
    note = "left out: the model was trained on 2,048 tokens, 8 images, which hold 3 pairs, a query and its answer"
    assert left_out.notes == (note,)
    assert sweeps.grid(judged).below == [f"[1] {note}"]  # one for 4, 5 and 6 pairs


@pytest.mark.parametrize(("name", "axis", "message"), [
    ("frame prediction, UCF101", "pairs", "has no pairs to sweep over"),
    ("seg to image, ADE20K", "topk", "did you mean 'top-k'"),
])  # fmt: skip
def test_axes_that_a_part_does_not_have_are_refused(name, axis, message):
    with pytest.raises(UserError, match=message):
        sweeps.settings(part(name), axis, **ROOM)


def test_a_sweep_holds_what_each_setting_was_judged():
    def judge(part: Part) -> Row:
        return Row(part=part, samples=8, figures=(Figure(name="fid", model=Value(value=100.0 / part.pairs)),))

    judged = sweeps.sweep(PAIRED, "pairs", sweeps.settings(PAIRED, "pairs", **ROOM), judge)
    assert [point.figures[0].model.value for point in judged.points] == [100.0 / n for n in range(1, 7)]
    assert [row[2] for row in sweeps.grid(judged).rows] == ["100.00", "50.00", "33.33", "25.00", "20.00", "16.67"]


def test_the_table_ends_with_the_ceiling_and_the_plot_has_both_lines():
    found = sweep("pairs", (1.0, 2.0))
    assert sweeps.grid(found).rows[-1] == ["ceiling", "", "9.50"]
    ((caption, drawn),) = sweeps.plots(found)
    assert caption == "seg to image, ADE20K: FID by pairs"
    assert drawn.startswith("<svg")
    assert "ceiling" in drawn
    assert sweeps.plots(sweep("pairs", (1.0,))) == []  # a point is no curve


def test_a_network_that_is_not_the_papers_is_named_so_in_table_and_plot():
    found = sweep("pairs", (1.0, 2.0))
    figure = dataclasses.replace(found.points[0].figures[0], network=LITE)
    points = tuple(dataclasses.replace(one, figures=(figure,)) for one in found.points)
    found = dataclasses.replace(found, points=points)
    grid = sweeps.grid(found)
    assert grid.head[2] == "FID-like ↓ [a]"
    assert grid.below[0] == f"[a] {LITE.label}"
    assert sweeps.plots(found)[0][0] == "seg to image, ADE20K: FID-like by pairs"


def test_the_grid_has_a_row_for_each_sample_and_a_column_for_each_setting():
    values = [60, 90, 120, 150, 180]
    given, truth, *made = (np.full((3, 16, 16, 3), value, np.uint8) for value in values)
    png = sweeps.picture("title", given, truth, [(f"{n} pairs", pictures) for n, pictures in enumerate(made)])
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    assert all((pixels == value).all(axis=-1).sum() >= 3 * 16 * 16 for value in values)
    columns = [np.flatnonzero((pixels == value).all(axis=-1).sum(axis=0) >= 3 * 16).min() for value in values]
    assert columns == sorted(columns), "given, truth, then the settings in their order"


def test_evaluations_carry_their_sweeps():
    assert [found.axis for found in evaluation().sweeps] == ["pairs", "temperature"]
