"""Sweeps: a part's figures as one of its settings changes, with a grid of pictures (LVM-Lite's figure 6)."""

import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from trainer import pictures
from trainer.protocols.make_cases import check_room
from trainer.protocols.part import FigureName, Part, pairs_in_words
from trainer.protocols.plots import Line, lines
from trainer.protocols.results import Row, Sweep, SweepPoint, Value
from trainer.protocols.tables import FIGURES, Grid, Notes, head_of, in_words, name_of
from visent.errors import UserError, unknown

ABOUT = "One setting changes at a time, the others are the part's own, and so are the samples and their seeds."
PAIRS = (1, 2, 3, 4, 5, 6)
TOP_K = (10, 100, 1000, 8192)
TEMPERATURES = (0.1, 0.3, 0.5, 0.7, 0.9)
AXES = ("pairs", "top-k", "temperature")


class Setting(NamedTuple):
    """One value of an axis and the part with it; a part that does not fit the model is None, and `note` says why."""

    value: float
    part: Part | None
    note: str = ""


def settings(part: Part, axis: str, *, codebook_size: int, tokens_per_image: int, context_tokens: int) -> list[Setting]:
    """Returns the values of an axis in order, the part's own among them.

    `pairs` are 1 to 6 examples of the prompt, `top-k` 10 to the codebook, `temperature` 0.1 to 0.9.

    Raises:
        UserError: there is no such axis, or the part has no pairs.
    """
    if axis not in AXES:
        raise unknown("axis of a sweep", axis, AXES)
    if axis == "pairs":
        if not part.given:
            raise UserError(f"part {part.name!r} has no pairs to sweep over: expected top-k or temperature")
        tried = [(float(n), dataclasses.replace(part, pairs=n)) for n in sorted({*PAIRS, part.pairs})]
    elif axis == "top-k":
        own = min(part.sampling.top_k, codebook_size)
        counts = sorted({*(k for k in TOP_K if k <= codebook_size / 2), codebook_size, own})  # 1000 of 1024 is all
        tried = [(float(k), _sampled(part, top_k=k)) for k in counts]
    else:
        tried = [(t, _sampled(part, temperature=t)) for t in sorted({*TEMPERATURES, part.sampling.temperature})]
    return [_fitting(value, each, tokens_per_image, context_tokens) for value, each in tried]


def _sampled(part: Part, **changes: Any) -> Part:
    return dataclasses.replace(part, sampling=dataclasses.replace(part.sampling, **changes))


def _fitting(value: float, part: Part, tokens_per_image: int, context_tokens: int) -> Setting:
    try:
        check_room(part, tokens_per_image, context_tokens)
    except UserError:  # one note for all counts of pairs
        most = context_tokens // tokens_per_image
        hold = f", which hold {pairs_in_words(most // 2 - 1)}, a query and its answer" if most >= 2 else ""
        note = f"left out: the model was trained on {context_tokens:,} tokens, {most} images{hold}"
        return Setting(value, None, note)
    return Setting(value, part)


def sweep(part: Part, axis: str, tried: Sequence[Setting], judge: Callable[[Part], Row]) -> Sweep:
    """Judges a part at each setting of an axis; `judge` generates and measures."""
    points = []
    for setting in tried:
        if setting.part is None:
            points.append(SweepPoint(setting=setting.value, notes=(setting.note,)))
            continue
        row = judge(setting.part)
        points.append(SweepPoint(setting=setting.value, figures=row.figures, samples=row.samples, notes=row.warnings))
    return Sweep(part=part.name, axis=axis, points=tuple(points))


def grid(sweep: Sweep) -> Grid:
    """Returns a line for each setting, and the ceiling last."""
    names = list(dict.fromkeys(figure.name for point in sweep.points for figure in point.figures))
    judges = Notes("a")
    heads = {figure.name: head_of(figure, judges) for point in sweep.points for figure in point.figures}
    made, notes = Grid(title=f"{sweep.part}, by {sweep.axis}", head=[sweep.axis, "samples", *heads.values()]), Notes()
    ceilings: dict[FigureName, Value] = {}
    for point in sweep.points:
        found = {figure.name: figure for figure in point.figures}
        ceilings |= {name: figure.ceiling for name, figure in found.items() if figure.ceiling is not None}
        cells = [in_words(name, found[name].model) + notes.mark(found[name].missing, *found[name].warnings)
                 if name in found else "-" for name in names]  # fmt: skip
        made.rows.append([f"{point.setting:g}{notes.mark(*point.notes)}", f"{point.samples:,}", *cells])
    if ceilings:
        made.rows.append(["ceiling", "", *(in_words(name, ceilings.get(name)) for name in names)])
    made.below = [*judges.lines(), *sweep.notes, *notes.lines()]
    return made


def plots(sweep: Sweep) -> list[tuple[str, str]]:
    """Returns (caption, SVG) for each figure that two settings or more have."""
    found: dict[str, list[tuple[float, float, float | None]]] = {}
    for point in sweep.points:
        for figure in point.figures:
            if figure.model is not None:
                times = FIGURES[figure.name].times
                ceiling = None if figure.ceiling is None else times * figure.ceiling.value
                found.setdefault(name_of(figure), []).append((point.setting, times * figure.model.value, ceiling))
    return [(f"{sweep.part}: {name} by {sweep.axis}", _plot(sweep.axis, name, values))
            for name, values in found.items() if len(values) > 1]  # fmt: skip


def _plot(axis: str, title: str, values: Sequence[tuple[float, float, float | None]]) -> str:
    x = [setting for setting, _, _ in values]
    curves = [Line(label="model", x=x, y=[model for _, model, _ in values])]
    ceilings = [(setting, ceiling) for setting, _, ceiling in values if ceiling is not None]
    if ceilings:
        curves.append(Line(label="ceiling", x=[s for s, _ in ceilings], y=[c for _, c in ceilings], dashed=True))
    return lines(curves, x=axis, y=title, logarithmic=axis == "top-k", ticks=[(value, f"{value:g}") for value in x])


def picture_name(part: str, axis: str) -> str:
    """Returns the name under which a page looks for the pictures of a sweep."""
    return f"{part}, {axis}"


def picture(
    title: str,
    given: UInt8[np.ndarray, "n s s 3"],
    truth: UInt8[np.ndarray, "n s s 3"],
    made: Sequence[tuple[str, UInt8[np.ndarray, "n s s 3"]]],
) -> bytes:
    """Draws a PNG: a row for each sample; what was given, the truth, and what each setting (by its name) made.

    Of clips these are the last frame that was given, and the last one of all.
    """
    data = io.BytesIO()
    pictures.grid([("given", given), ("truth", truth), *made], title).save(data, "PNG")
    return data.getvalue()
