"""Evaluations as tables in words: the papers' rows, then the user's runs, then the ceiling."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.protocols import papers
from trainer.protocols.part import FigureName
from trainer.protocols.results import Evaluation, Figure, Row, Value
from visent.errors import UserError

CEILING = "ceiling: truth through tokenizer"
REAL = "the real pixels themselves"


class Shown(NamedTuple):
    """How a figure is printed."""

    title: str
    digits: int
    times: float = 1.0  # 100 for percent
    direction: str = "↑"  # where better is


FIGURES: Mapping[FigureName, Shown] = {
    "fid": Shown("FID", 2, direction="↓"),
    "is": Shown("IS", 2),
    "fvd": Shown("FVD", 1, direction="↓"),
    "clip-is": Shown("clip IS", 2),
    "miou": Shown("mIoU %", 2, times=100),
    "foreground-miou": Shown("foreground mIoU %", 2, times=100),
    "psnr": Shown("PSNR dB", 2),
    "ssim": Shown("SSIM", 4),
}


@dataclass(kw_only=True)
class Grid:
    """A table in words; `below` are its footnotes."""

    title: str
    head: list[str]
    rows: list[list[str]] = field(default_factory=list)
    words: int = 1  # columns of text, before those of numbers
    below: list[str] = field(default_factory=list)


class Column(NamedTuple):
    """A figure made with the papers' network or without one, or one of another network by its label."""

    figure: FigureName
    other: str = ""


class Notes:
    """Footnotes in the order of their first mark; equal ones have one number, or one letter."""

    def __init__(self, first: str = "1") -> None:
        self._names: dict[str, str] = {}
        self._next = map(str, count(1)) if first == "1" else map(chr, count(ord(first)))

    def mark(self, *texts: str) -> str:
        """Returns the marks of some texts."""
        for text in texts:
            if text and text not in self._names:
                self._names[text] = next(self._next)
        return "".join(f" [{self._names[text]}]" for text in texts if text)

    def lines(self) -> list[str]:
        """Returns the footnotes."""
        return [f"[{name}] {text}" for text, name in self._names.items()]


def check_same_protocol(evaluations: Sequence[Evaluation]) -> None:
    """Raises a `UserError` where evaluations do not belong into one table."""
    names = {each.protocol for each in evaluations}
    if len(names) > 1:
        raise UserError(f"evaluations by protocols {', '.join(sorted(names))} make no table: compare those of one")


def in_words(name: FigureName, found: Value | None) -> str:
    """Returns a figure as it is printed, "-" where there is none."""
    if found is None:
        return "-"
    shown, value = FIGURES[name], found.value
    text = f"{shown.times * value:.{shown.digits}f}" if math.isfinite(value) else str(value)
    return text if found.spread is None else f"{text} ± {shown.times * found.spread:.{shown.digits}f}"


def parts(evaluations: Sequence[Evaluation]) -> list[Grid]:
    """Returns the protocol's tables, one for parts of the same figures: papers, runs, ceiling and real pixels."""
    check_same_protocol(evaluations)
    by_name: dict[str, list[tuple[Evaluation, Row]]] = {}
    for each in evaluations:
        for row in each.rows:
            by_name.setdefault(row.part.name, []).append((each, row))
    groups: dict[tuple[FigureName, ...], list[list[tuple[Evaluation, Row]]]] = {}
    for found in by_name.values():
        groups.setdefault(found[0][1].part.figures, []).append(found)
    return [_grid(group) for group in groups.values()]


def _grid(group: list[list[tuple[Evaluation, Row]]]) -> Grid:
    columns = _columns([row for found in group for _, row in found])
    networks = [f.network for found in group for _, row in found for f in row.figures if f.network]
    labels = {network.slot: network.label for network in networks if network.same_as_papers != "no"}
    notes, judges, words = Notes(), Notes("a"), ["part", "", "samples"]
    rows = []
    for found in group:
        lines = [*_papers(found[0][1], columns, notes), *_runs(found, columns, notes), *_others(found, columns)]
        rows += [["" if number else found[0][1].part.name, *line] for number, line in enumerate(lines)]
    filled = [at for at in range(len(columns)) if any(row[len(words) + at] for row in rows)]
    shown = [*range(len(words)), *(len(words) + at for at in filled)]
    heads = [_head(columns[at], labels, judges) for at in filled]
    return Grid(title=", ".join(FIGURES[name].title for name in group[0][0][1].part.figures), head=[*words, *heads],
                rows=[[row[at] for at in shown] for row in rows], words=2,
                below=[*judges.lines(), *notes.lines()])  # fmt: skip


def _columns(rows: Sequence[Row]) -> list[Column]:
    others: dict[FigureName, dict[str, None]] = {}
    for row in rows:
        for figure in row.figures:
            if figure.network is not None and figure.network.same_as_papers == "no":
                others.setdefault(figure.name, {})[figure.network.label] = None
    return [column for name in rows[0].part.figures
            for column in (Column(name), *(Column(name, other) for other in others.get(name, ())))]  # fmt: skip


def _head(column: Column, labels: Mapping[str, str], judges: Notes) -> str:
    """Returns a figure's name, where better is, and the mark of its network."""
    shown = FIGURES[column.figure]
    if column.other:
        return f"{shown.title}-like {shown.direction}{judges.mark(column.other)}"
    slot = {"fid": "images", "is": "images", "fvd": "clips", "clip-is": "actions"}.get(column.figure, "")
    return f"{shown.title} {shown.direction}{judges.mark(labels.get(slot, ''))}"


def name_of(figure: Figure) -> str:
    """Returns what a figure is called: "FID", or "FID-like" with a network that is not the papers'."""
    return FIGURES[figure.name].title + ("-like" if _other(figure) else "")


def head_of(figure: Figure, judges: Notes) -> str:
    """Returns a figure's name, where better is, and the mark of its network."""
    network = "" if figure.network is None else figure.network.label
    return f"{name_of(figure)} {FIGURES[figure.name].direction}{judges.mark(network)}"


def _papers(row: Row, columns: Sequence[Column], notes: Notes) -> list[list[str]]:
    """Returns a line for each model of each paper; where a figure was read stands below."""
    lines = []
    for paper, model in dict.fromkeys((found.paper, found.model) for found in row.papers):
        cells = []
        for column in columns:
            found = [p for p in row.papers if (p.paper, p.model, p.figure) == (paper, model, column.figure)]
            if column.other or not found:
                cells.append("")
                continue
            last = found[-1]
            text = "-" if last.value is None else f"{last.value:g}"
            read = f"{paper}: {last.source}" if last.source else ""
            cells.append(text + notes.mark(papers.MISSING if last.value is None else read))
        lines.append([f"{paper} {f'({model})' if model else ''}".rstrip(), "", *cells])
    return lines


def _runs(found: list[tuple[Evaluation, Row]], columns: Sequence[Column], notes: Notes) -> list[list[str]]:
    lines = []
    digests = {row.cases_digest for _, row in found if row.cases_digest}
    for each, row in found:
        cells = [_own(row, column, notes) for column in columns]
        other = "runs were judged on other samples of this part, so their figures do not compare"
        marks = notes.mark(row.not_run, *row.warnings, *row.notes, other if len(digests) > 1 else "")
        samples = "not run" if row.not_run else f"{row.samples:,}"
        lines.append([each.title + marks, samples, *cells])
    return lines


def _own(row: Row, column: Column, notes: Notes) -> str:
    for figure in row.figures:
        if figure.name == column.figure and _other(figure) == column.other:
            return in_words(figure.name, figure.model) + notes.mark(figure.missing, *figure.warnings)
    return ""


def _other(figure: Figure) -> str:
    return figure.network.label if figure.network is not None and figure.network.same_as_papers == "no" else ""


def _others(found: list[tuple[Evaluation, Row]], columns: Sequence[Column]) -> list[list[str]]:
    """Returns the ceiling and the real pixels' figures; runs that do not differ in them share a line."""
    lines: list[list[str]] = []
    for title, name in ((CEILING, "ceiling"), (REAL, "real")):
        for _, row in found:
            cells = []
            for column in columns:
                values = [getattr(f, name) for f in row.figures if (f.name, _other(f)) == tuple(column)]
                cells.append(in_words(column.figure, values[0]) if values and values[0] is not None else "")
            if any(cells):
                _add(lines, [title, "", *cells])
    return lines


def _add(lines: list[list[str]], line: list[str]) -> None:
    """Adds a line, or fills an earlier one that says nothing else."""
    for earlier in lines:
        if all(a == b or "" in (a, b) for a, b in zip(earlier, line, strict=True)):
            earlier[:] = [a or b for a, b in zip(earlier, line, strict=True)]
            return
    lines.append(line)


def paper_tokens(evaluation: Evaluation) -> list[Grid]:
    """Returns the paper's losses, accuracies and perplexities of its own tasks, where it has any."""
    if not evaluation.paper_tokens:
        return []
    head = ["task", "model", "loss", "perplexity", "accuracy %"]
    grid, notes = Grid(title="Tokens, as published", head=head, words=2), Notes()
    for row in evaluation.paper_tokens:
        marks = notes.mark(row.source)
        figures = (f"{row.loss:.2f}", f"{row.perplexity:,.2f}", f"{row.accuracy:.2f}")
        grid.rows.append([row.task, f"{row.paper} {row.model}{marks}", *figures])
    other = "they compare with a run's own only on the same tokenizer, tasks and held-out rows"
    grid.below = [*notes.lines(), other]
    return [grid]


def tokens(evaluation: Evaluation) -> list[Grid]:
    """Returns loss, accuracy and perplexity of the tasks of each stage."""
    grids = []
    for stage, found in evaluation.tokens.get("stages", {}).items():
        grid = Grid(title=f"Tokens, stage {stage}", head=["task", "sentences", "loss", "perplexity", "accuracy %"])
        for task, score in found["per_task"].items():
            loss, perplexity, accuracy = (float(score[name]) for name in ("loss", "perplexity", "accuracy"))
            figures = (f"{loss:.4f}", f"{perplexity:,.2f}", f"{100 * accuracy:.2f}")
            grid.rows.append([task, f"{score['sentences']:,}", *figures])
        grid.rows += [[task, "no held-out rows", "-", "-", "-"] for task in found["without_rows"]]
        grids.append(grid)
    return grids


def seconds(evaluation: Evaluation) -> list[Grid]:
    """Returns where the time went, part by part."""
    stages = list(dict.fromkeys(stage for row in evaluation.rows for stage in row.seconds))
    if not stages:
        return []
    grid = Grid(title="Seconds", head=["part", *stages])
    for row in evaluation.rows:
        if row.seconds:
            grid.rows.append([row.part.name, *(f"{row.seconds.get(stage, 0.0):.1f}" for stage in stages)])
    return [grid]


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Returns what figures are functions of, as (name, value)."""
    samplings = {row.part.sampling for row in evaluation.rows}
    sampling = "; ".join(f"top-k {s.top_k}, temperature {s.temperature:g}, seed {s.seed}" for s in samplings)
    networks = [(f"network for {n.slot}", f"{n.label}, sha256 {n.sha256}, {n.where}") for n in evaluation.networks]
    return [
        ("run", f"{evaluation.run}, step {evaluation.step}"),
        ("model", f"{evaluation.model}, {evaluation.parameters:,} parameters, recipe {evaluation.recipe}"),
        ("fine-tuned on Pascal-5i", "yes" if evaluation.fine_tuned else "no"),
        ("weights", evaluation.weights_digest),
        ("lock", evaluation.lock_digest),
        ("tokenizer", f"{evaluation.tokenizer} ({evaluation.fingerprint})"),
        ("sampling", sampling or "nothing was generated"),
        *networks,
        ("versions", ", ".join(f"{name} {value}" for name, value in evaluation.versions.items())),
    ]


def _narrow(grid: Grid) -> Grid:
    """Returns a table of parts with their names on lines of their own, which leaves the figures more of a terminal."""
    if grid.words < 2 or grid.head[1]:
        return grid
    rows = []
    for name, who, *cells in grid.rows:
        rows += [[name, *("" for _ in cells)]] if name else []
        rows.append([f"  {who}", *cells])
    return replace(grid, head=[grid.head[0], *grid.head[2:]], rows=rows, words=1)


def show(console: Console, grids: Iterable[Grid]) -> None:
    """Prints tables to a terminal."""
    plain: Mapping[str, Any] = {"box": None, "pad_edge": False, "header_style": "bold"}
    for grid in map(_narrow, grids):
        table = Table(**plain)
        for number, name in enumerate(grid.head):
            table.add_column(Text(name), justify="left" if number < grid.words else "right", overflow="fold")
        for row in grid.rows:
            table.add_row(*map(Text, row))
        console.print(Text(grid.title, style="bold"))
        console.print(table)
        for note in grid.below:
            console.print(Text(note))
        console.print()
