"""All tables of an evaluation, or of several side by side, in the order in which they are read."""

from collections.abc import Sequence

from trainer.protocols import forgetting, sweeps, tables
from trainer.protocols.results import Evaluation, told_apart
from trainer.protocols.tables import Grid


def grids(evaluations: Sequence[Evaluation]) -> list[Grid]:
    """Returns the parts of all runs, then tokens, forgetting and sweeps of each."""
    evaluations = told_apart(evaluations)
    found = [*tables.parts(evaluations), *tables.paper_tokens(evaluations[0])]
    for each in evaluations:
        own = tables.tokens(each)
        if each.forgetting:
            own += forgetting.grids(forgetting.Forgetting.from_json(each.forgetting))
        own += map(sweeps.grid, each.sweeps)
        for grid in own if len(evaluations) > 1 else ():
            grid.title = f"{grid.title}: {each.title}"
        found += own
    return found


def markdown(evaluations: Sequence[Evaluation]) -> str:
    """Returns the tables as Markdown, and what was judged."""
    evaluations = told_apart(evaluations)
    first = evaluations[0]
    lines = [f"# {first.protocol}", "", first.about, ""]
    for grid in grids(evaluations):
        lines += _table(grid)
    for each in evaluations:
        lines += [f"## {each.title}", "", *(f"- {name}: {value}" for name, value in tables.facts(each)), ""]
        lines += [*(f"- {note}" for note in each.notes), *([""] if each.notes else [])]
        for grid in tables.seconds(each):
            lines += _table(grid)
    return "\n".join(lines)


def _table(grid: Grid) -> list[str]:
    rule = ["---"] * grid.words + ["---:"] * (len(grid.head) - grid.words)
    lines = [_line(grid.head), _line(rule), *map(_line, grid.rows)]
    return [f"## {grid.title}", "", *lines, "", *(f"- {note}" for note in grid.below), *([""] if grid.below else [])]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
