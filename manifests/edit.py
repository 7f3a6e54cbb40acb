"""Edits of a manifest's text that keep its comments, order and spacing."""

from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.items import Item, Table

from visent.errors import unknown

REASON = "balance:"  # begins the comments that balance writes, and may write over


def set_views(text: str, dataset: str, views: int, reason: str) -> str:
    """Returns a manifest's text with `views` of a dataset set, and the reason as the comment of that line.

    A dataset written as a plain path becomes `{ path = ..., views = ... }`; other comments stay.

    Raises:
        UserError: the manifest has no such dataset.
    """
    document = tomlkit.parse(text)
    datasets: Any = document.get("datasets", {})
    if dataset not in datasets:
        raise unknown("dataset", dataset, datasets)
    entry: Any = datasets[dataset]
    if isinstance(entry, Table):
        old = entry.get("views")
        if old is None:  # directly under the path; added at the end it would land below the comments of the next table
            entry.value._insert_after("path", "views", views)
        else:
            entry["views"] = views
        comment(entry.item("views"), old, reason)
        return tomlkit.dumps(document)
    inline = tomlkit.inline_table()
    inline.update({"path": entry["path"] if isinstance(entry, Mapping) else str(entry), "views": views})
    datasets[dataset] = inline
    comment(inline, entry, reason)
    return tomlkit.dumps(document)


def comment(item: Any, old: Any, reason: str) -> None:
    """Sets the comment at the end of an item's line: what a person wrote there, then the reason."""
    written = old.trivia.comment.lstrip("# ") if isinstance(old, Item) else ""
    own = written.split(REASON)[0].rstrip("; ")
    if text := "; ".join(part for part in (own, reason) if part):
        item.comment(text)
        item.trivia.comment_ws = "  "
