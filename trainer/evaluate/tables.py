"""Held-out scores as tables for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from trainer.evaluate.scores import TaskScore

_PLAIN: Mapping[str, Any] = {"box": None, "pad_edge": False, "header_style": "bold"}


def by_task(scores: Mapping[str, TaskScore], title: str, without: list[str] | None = None) -> Group:
    """Returns a row for each task; the first and last image show what a sentence's context is worth.

    `without` are tasks of which the split has no rows.
    """
    names = ("task", "sentences", "loss", "perplexity", "accuracy", "first image", "last image")
    table = Table(*names, **_PLAIN)
    for task, score in scores.items():
        images = [f"{loss:.3f}" for loss in score.by_image.loss]
        table.add_row(task, f"{score.sentences}", f"{score.loss:.3f}", f"{score.perplexity:,.1f}",
                      f"{score.accuracy:.1%}", images[0], images[-1])  # fmt: skip
    for task in without or []:
        table.add_row(task, "none", *"-----")
    return Group(Text(title, style="bold"), table)


def by_image(scores: Mapping[str, TaskScore], title: str) -> Group:
    """Returns a row for each image of each task's sentences."""
    table = Table("task", "image", "role", "loss", "perplexity", "accuracy", **_PLAIN)
    for task, score in scores.items():
        found = score.by_image
        for place, role in enumerate(score.roles):
            figures = (f"{found.loss[place]:.3f}", f"{found.perplexity[place]:,.1f}", f"{found.accuracy[place]:.1%}")
            table.add_row("" if place else task, str(place + 1), role, *figures)
    return Group(Text(title, style="bold"), table)
