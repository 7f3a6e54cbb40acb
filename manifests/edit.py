"""Edits of a manifest's text that keep its comments, order and spacing; and the text of a new manifest."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Item, Table

from manifests.dataset import DatasetFacts
from visent.errors import UserError, unknown

RECIPES = Path(__file__).parent / "recipes"
REASON = "balance:"  # begins the comments that balance writes, and may write over

# Roles whose pair with the image has a name of its own: role -> (task, kind, roles of the sentence in order).
_NAMED = {
    "gray": ("colorization", "generative", ("gray", "image")),
    "holes": ("inpainting", "generative", ("holes", "image")),
}


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


def recipe_names() -> list[str]:
    """Returns the recipes that `new_manifest` knows."""
    return sorted(file.stem for file in RECIPES.glob("*.toml"))


def new_manifest(datasets: Mapping[str, tuple[str, DatasetFacts]], recipe: str) -> str:
    """Returns the commented text of a manifest for datasets (name -> path as written, facts) by a recipe.

    Raises:
        UserError: unknown recipe, or one whose kinds the datasets do not have.
    """
    if recipe not in recipe_names():
        raise unknown("recipe", recipe, recipe_names())
    plan = tomllib.loads((RECIPES / f"{recipe}.toml").read_text(encoding="utf-8"))
    tasks = [task for name, (_, facts) in datasets.items() for task in _tasks_of(name, facts)]
    names = _task_names(tasks)
    tokens = next(iter(datasets.values()))[1].schema.tokens_per_image
    lines = [f"# {plan['about']}.", "# Edit freely, then: visent manifest show", "version = 1", ""]
    for name, (path, facts) in datasets.items():
        splits = ", ".join(f"{facts.examples(split):,} {split}" for split in facts.splits)
        lines += [
            f"[datasets.{_key(name)}]  # {splits}; roles {', '.join(facts.schema.roles)}",
            f"path = {_text(path)}",
        ]
        lines += [f"views = {facts.views()}  # of each example, the original included"] if facts.views() > 1 else []
        lines.append("")
    for task, (dataset, _, kind, sentence) in zip(names, tasks, strict=True):
        roles = ", ".join(_text(role) for role in sentence)
        lines += [f"[tasks.{_key(task)}]", f"dataset = {_text(dataset)}", f'kind = "{kind}"', f"sentence = [{roles}]"]
        if any(datasets[dataset][1].schema.roles[role] == "clip" for role in sentence):
            lines.append('frames = { order = "sorted-random" }  # or stride = 4, or stride = [1, 8]')
        lines.append("")
    lines += _stage_lines(plan["stages"], {kind for _, _, kind, _ in tasks}, tokens, recipe)
    lines.append("[balance]")
    lines += [f"{key} = {_text(value) if isinstance(value, str) else value}" for key, value in plan["balance"].items()]
    return "\n".join(lines) + "\n"


def _tasks_of(dataset: str, facts: DatasetFacts) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Returns the usual tasks of a dataset: (dataset, task, kind, sentence)."""
    roles = list(facts.schema.roles)
    if len(roles) == 1:
        kind = "natural" if facts.schema.clips else "single"
        return [(dataset, dataset, kind, (roles[0],))]
    base = next((role for role in ("image", "frames") if role in roles), roles[0])
    tasks: list[tuple[str, str, str, tuple[str, ...]]] = []
    if base in facts.schema.clips:
        tasks.append((dataset, dataset, "natural", (base,)))
    for role in roles:
        if role == base:
            continue
        if role in _NAMED and base == "image":
            tasks.append((dataset, *_NAMED[role]))
        else:
            tasks.append((dataset, role, "discriminative", (base, role)))
            tasks.append((dataset, f"{role}_to_{base}", "generative", (role, base)))
    return tasks


def _task_names(tasks: Sequence[tuple[str, str, str, tuple[str, ...]]]) -> list[str]:
    """Returns a name for each task; one that two datasets have, or that is a kind, is preceded by the dataset's."""
    plain = [task for _, task, _, _ in tasks]
    kinds = ("single", "discriminative", "generative", "natural")
    return [f"{dataset}_{task}" if plain.count(task) > 1 or task in kinds else task for dataset, task, _, _ in tasks]


def _stage_lines(stages: Mapping[str, Any], kinds: set[str], tokens: int, recipe: str) -> list[str]:
    lines: list[str] = []
    for name, stage in stages.items():
        share = {kind: value for kind, value in stage["share"].items() if kind in kinds}
        left_out = [kind for kind in stage["share"] if kind not in share]
        if not share:
            lines += [f"# The recipe's stage {name!r} needs tasks of kind {' or '.join(left_out)}; there are none.", ""]
            continue
        images = stage["images_per_sentence"]
        lines += [f"[stages.{name}]", f"context = {images * tokens}  # {images} x {tokens} tokens"]
        note = f"  # the recipe also has {', '.join(left_out)}: no such task here" if left_out else ""
        shares = ", ".join(f"{kind} = {value}" for kind, value in share.items())
        lines += [f"share = {{ {shares} }}{note or '  # by kind or by task'}", ""]
    if not any(line.startswith("[stages.") for line in lines):
        needed = sorted({kind for stage in stages.values() for kind in stage["share"]})
        raise UserError(f"recipe {recipe!r} reads tasks of kind {', '.join(needed)}, the datasets give only "
                        f"{', '.join(sorted(kinds))}: add a dataset or use another --recipe")  # fmt: skip
    return lines


def _key(name: str) -> str:
    return tomlkit.key(name).as_string()


def _text(value: str) -> str:
    return tomlkit.string(value).as_string()
