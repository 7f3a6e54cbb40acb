"""Tables and bars of a balance for the terminal, and its plot as a picture."""

import math
from collections.abc import Iterable, Mapping

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from manifests import files
from manifests.balance import Report, TaskBalance, ViewChoice
from manifests.lock import Lock
from visent.errors import UserError

BAR_WIDTH = 40
_BLOCKS = " ▏▎▍▌▋▊▉█"


def console() -> Console:
    """Returns a console for results on standard output, wide enough for a table when it goes to a file."""
    found = Console()
    return found if found.is_terminal else Console(width=160)


def report_table(report: Report) -> RenderableType:
    """Returns the table of all tasks, stage by stage."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    left = ("stage", "task", "kind", "dataset")
    right = ("examples", "views", "sentences", "tokens", "natural", "wanted", "epochs", "val")
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    table.add_column("")
    stage = ""
    for row in report.rows:
        shown = "" if row.stage == stage else f"{row.stage} ({row.context:,})"
        stage = row.stage
        table.add_row(
            shown, row.task, row.kind, row.dataset, f"{row.examples:,}", _views(row), f"{row.sentences:,.1f}",
            si(row.tokens), percent(row.natural_share), percent(row.wanted_share), _epochs(row),
            f"{row.val_examples:,}", _remark(row),
        )  # fmt: skip
    lines: list[RenderableType] = [table, *(schedule_text(*one) for one in report.schedules.items())]
    if report.unread:
        lines.append(Text(f"No stage reads: {', '.join(report.unread)}", style="yellow"))
    return Group(*lines)


def schedule_text(stage: str, pieces: Iterable[tuple[int, Mapping[str, float]]]) -> Text:
    """Returns the lines that say where shares change."""
    lines = [f"from sentence {start:,}: " + ", ".join(f"{task} {percent(part)}" for task, part in share.items())
             for start, share in pieces]  # fmt: skip
    return Text(f"{stage} changes its shares; above is their average\n  " + "\n  ".join(lines))


def _views(row: TaskBalance) -> str:
    return f"{row.views}" if row.views <= row.views_made else f"{row.views} ({row.views_made} made)"


def _epochs(row: TaskBalance) -> str:
    return f"{row.epochs:.2f}" if math.isfinite(row.epochs) else "-"


def _remark(row: TaskBalance) -> Text:
    remarks = []
    if not row.examples:
        remarks.append("no examples")
    elif row.deficit:
        remarks.append(f"lacks {row.deficit:,.1f} sentences at {row.max_epochs:g} epochs")
    if row.ineligible:
        remarks.append(f"{row.ineligible:,} clips too short")
    if not row.val_examples:
        remarks.append("no val")
    return Text("; ".join(remarks), style="red" if row.deficit or not row.examples else "yellow")


def report_bars(report: Report) -> RenderableType:
    """Returns bars of the shares that the data has and those that the manifest wants."""
    table = Table.grid(padding=(0, 1))
    for row in report.rows:
        table.add_row(Text(row.stage, "dim"), row.task, Text("data", "dim"), _bar(report.available_share(row), "blue"))
        table.add_row("", "", Text("wanted", "dim"), _bar(row.wanted_share, "green"))
    return table


def _bar(share: float, style: str) -> Text:
    eighths = round(share * BAR_WIDTH * 8)
    bar = "█" * (eighths // 8) + _BLOCKS[eighths % 8].strip()
    return Text.assemble((bar, style), f" {percent(share)}")


def choices_table(choices: Iterable[ViewChoice]) -> RenderableType:
    """Returns what balance decided, and why."""
    table = Table("dataset", "views before", "needed", "views", "why", box=None, header_style="bold", pad_edge=False)
    for choice in choices:
        style = "bold" if choice.views != choice.before else ""
        numbers = [str(n) for n in (choice.before, choice.needed, choice.views)]
        table.add_row(choice.dataset, *numbers, choice.reason, style=style)
    return table


def lock_table(lock: Lock) -> RenderableType:
    """Returns what a lock reads."""
    changing = [stage for stage in lock.stages.values() if stage.schedule]
    return Group(_lock_rows(lock), *(schedule_text(stage.name, stage.pieces) for stage in changing))


def _lock_rows(lock: Lock) -> RenderableType:
    names = ("stage", "task", "sentence", "share", "rows", "sentences/epoch", "val examples")
    table = Table(*names, box=None, header_style="bold", pad_edge=False)
    for stage in lock.stages.values():
        for task in stage.tasks:
            train = task.splits["train"]
            each = f"{task.examples_per_sentence} examples, {task.images_per_sentence} images"
            numbers = (train.rows, task.sentences_per_epoch, task.splits["val"].eligible)
            table.add_row(
                f"{stage.name} ({stage.context:,})",
                task.task.name,
                f"{' '.join(task.task.sentence)} ({each})",
                percent(stage.share(task)),
                *(f"{number:,.{0 if isinstance(number, int) else 1}f}" for number in numbers),
            )
    return table


def percent(share: float) -> str:
    """Returns a share as per cent."""
    return f"{share * 100:.1f} %"


def si(count: float) -> str:
    """Returns a count with three digits and k, M, G or T."""
    for unit in ("", "k", "M", "G"):
        if abs(count) < 999.5:
            return f"{count:.3g}{unit}" if unit else f"{count:.0f}"
        count /= 1000
    return f"{count:.3g}T"


def plot(before: Report, after: Report | None, path: str) -> None:
    """Draws shares of the data, before and after views, beside the wanted ones, and epochs; one panel per stage.

    Raises:
        UserError: matplotlib is not installed, or the picture cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("--plot needs matplotlib: install visent[train] or visent[demo]") from error
    last = after or before
    stages = list(dict.fromkeys(row.stage for row in last.rows))
    heights = [max(len(last.stage(stage)), 1) for stage in stages]
    figure = Figure(figsize=(9, 1.4 + 0.62 * sum(heights) + 0.7 * len(stages)), layout="constrained")
    panels = figure.subplots(len(stages), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for panel, stage in zip(panels, stages, strict=True):
        rows, old = last.stage(stage), before.stage(stage)
        bars = [("data, before", "#b8c4d6", [before.available_share(row) for row in old])]
        if after:
            bars.append(("data, with views", "#4c78a8", [after.available_share(row) for row in rows]))
        bars.append(("wanted", "#54a24b", [row.wanted_share for row in rows]))
        thick = 0.8 / len(bars)
        for i, (label, colour, shares) in enumerate(bars):
            places = [y + (i - (len(bars) - 1) / 2) * thick for y in range(len(rows))]
            panel.barh(places, [share * 100 for share in shares], thick, label=label, color=colour)
        for y, (row, was) in enumerate(zip(rows, old, strict=True)):
            epochs = f"{_epochs(was)} → {_epochs(row)} epochs" if after else f"{_epochs(row)} epochs"
            late = "  (deficit)" if row.deficit else ""
            widest = max(shares[y] for _, _, shares in bars) * 100
            panel.text(widest + 0.8, y, epochs + late, va="center", fontsize=8, color="#c0392b" if late else "#333")
        panel.set_yticks(range(len(rows)), [f"{row.task}\n{row.kind}" for row in rows], fontsize=8)
        panel.set_xlim(0, 1.4 * 100 * max(share for _, _, shares in bars for share in shares))
        panel.invert_yaxis()
        panel.set_title(
            f"{stage}: context {rows[0].context:,}, {rows_total(rows):,.0f} sentences", fontsize=10, loc="left"
        )
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("share of sentences, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    try:
        with files.writing(path) as temporary:
            figure.savefig(temporary, dpi=120)
    except ValueError as error:
        raise UserError(f"cannot write the plot {path}: {error}; name a .png in a folder you may write to") from error


def rows_total(rows: Iterable[TaskBalance]) -> float:
    """Returns the sentences that a stage plans."""
    return sum(row.wanted_sentences for row in rows)
