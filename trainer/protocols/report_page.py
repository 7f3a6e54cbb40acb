"""Evaluations as one HTML page: the table, what its warnings mean, pictures, sweeps, and what the figures belong to."""

from collections.abc import Mapping, Sequence

from trainer.protocols import forgetting, sweeps, tables
from trainer.protocols.results import Evaluation, told_apart
from trainer.protocols.tables import Grid
from visent.page import Page

LEAD = (
    "The papers' rows as printed, then the run's own, then the ceiling: the truth through the tokenizer, judged as if "
    "a model had made it. Figures compare with real pixels. Numbers in brackets are explained below each table."
)


def page(evaluations: Sequence[Evaluation], pictures: Mapping[str, bytes] | None = None) -> str:
    """Returns the page of one or several evaluations by one protocol; it needs no other file.

    `pictures` are PNGs of samples: of a part by its name, and of a sweep by `sweeps.picture_name`.
    """
    pictures, evaluations = pictures or {}, told_apart(evaluations)
    first = evaluations[0]
    about, titles = first.about[:1].upper() + first.about[1:], ", ".join(each.title for each in evaluations)
    made = Page(f"visent: {first.protocol}", f"{about}. {titles}.")
    grids = tables.parts(evaluations)
    if grids:
        made.heading("Figures", LEAD)
    for grid in grids:
        _table(made, grid)
    for each in evaluations:
        _details(made, each)
    for each in evaluations:
        _forgetting(made, each)
        _tokens(made, each)
    _pictures(made, evaluations, pictures)
    for each in evaluations:
        _sweeps(made, each, pictures)
    for each in evaluations:
        _facts(made, each)
    return made.html()


def _table(page: Page, grid: Grid) -> None:
    page.text(grid.title)
    page.table(grid.head, grid.rows, numbers_from=grid.words)
    for note in grid.below:
        page.text(note)


def _details(page: Page, evaluation: Evaluation) -> None:
    """Adds what else the same counts say, folded away: overlaps of single classes, say."""
    for row in evaluation.rows:
        for figure in row.figures:
            names = dict.fromkeys(name for found in figure.details.values() for name in found)
            lines = [f"{name}: " + ", ".join(f"{who} {found[name]:.4g}" for who, found in figure.details.items()
                                             if name in found) for name in names]  # fmt: skip
            if lines:
                title = f"{row.part.name}, {tables.name_of(figure)} in detail: {evaluation.title}"
                page.details(title, "\n".join(lines))


def _tokens(page: Page, evaluation: Evaluation) -> None:
    grids = [*tables.paper_tokens(evaluation), *tables.tokens(evaluation)]
    if grids:
        page.heading(f"Tokens: {evaluation.title}", "Held-out sentences of the run's own tasks: loss in nats a token, "
                     "perplexity its exponential, accuracy how often the likeliest code was right.")  # fmt: skip
    for grid in grids:
        _table(page, grid)


def _forgetting(page: Page, evaluation: Evaluation) -> None:
    if not evaluation.forgetting:
        return
    found = forgetting.Forgetting.from_json(evaluation.forgetting)
    page.heading(f"Forgetting: {evaluation.title}", forgetting.ABOUT)
    for grid in forgetting.grids(found):
        _table(page, grid)
    page.plot(forgetting.plot(found), "Held-out loss of each task where each stage ended, nats a token")


def _pictures(page: Page, evaluations: Sequence[Evaluation], pictures: Mapping[str, bytes]) -> None:
    names = dict.fromkeys(row.part.name for each in evaluations for row in each.rows if row.part.name in pictures)
    if names:
        page.heading("Samples", "What was given, what the model made of it, and the truth.")
    for name in names:
        page.picture(pictures[name], name)


def _sweeps(page: Page, evaluation: Evaluation, pictures: Mapping[str, bytes]) -> None:
    for sweep in evaluation.sweeps:
        page.heading(f"Sweep: {evaluation.title}", sweeps.ABOUT)
        _table(page, sweeps.grid(sweep))
        for caption, svg in sweeps.plots(sweep):
            page.plot(svg, caption)
        name = sweeps.picture_name(sweep.part, sweep.axis)
        if name in pictures:
            page.picture(pictures[name], f"{sweep.part}: rows are samples, columns given, truth, and each {sweep.axis}")


def _facts(page: Page, evaluation: Evaluation) -> None:
    page.heading(f"What was judged: {evaluation.title}")
    page.table(("", ""), tables.facts(evaluation), numbers_from=2)
    for note in evaluation.notes:
        page.text(note)
    for grid in tables.seconds(evaluation):
        _table(page, grid)
