"""The commented text of a new manifest: what a recipe makes of some datasets, and what it still lacks."""

from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit

from manifests import files
from manifests.dataset import DatasetFacts
from manifests.recipe import Chosen, Entry, Recipe, choose_tasks, load_recipe
from visent.errors import UserError

EACH = "each_task"  # the name of a recipe's stage that stands for one of each task


def new_manifest(datasets: Mapping[str, tuple[str, DatasetFacts]], recipe: str) -> str:
    """Returns the text of a manifest for datasets (name -> path as written, facts) by a recipe.

    Tasks of the recipe that none of the datasets serves stand at its end as comments, with the command that makes one.

    Raises:
        UserError: unknown recipe, or one whose stages the datasets have no task for.
    """
    plan = load_recipe(recipe)
    facts = {name: facts for name, (_, facts) in datasets.items()}
    chosen = choose_tasks(plan, facts)
    lines = [f"# {plan.about}.", "# Edit freely, then: visent manifest show", "version = 1", ""]
    for name, (path, fact) in datasets.items():
        splits = ", ".join(f"{fact.examples(split):,} {split}" for split in fact.splits)
        unread = "" if fact.examples("train") else "; nothing to train on, so no task reads it"
        lines.append(f"[datasets.{_key(name)}]  # {splits}; roles {', '.join(fact.schema.roles)}{unread}")
        lines.append(f"path = {_value(path)}")
        lines += [f"views = {fact.views()}  # of each example, the original included"] if fact.views() > 1 else []
        lines.append("")
    for task, entry in chosen.tasks.items():
        clips = any(facts[entry["dataset"]].schema.roles[role] == "clip" for role in entry["sentence"])
        lines += [*_task_lines(task, entry, clips), ""]
    tokens = next(iter(facts.values())).schema.tokens_per_image
    lines += _stages_lines(plan, chosen, tokens)
    lines += ["[balance]", *(f"{key} = {_value(value)}" for key, value in plan.balance.items())]
    lines += _missing_lines(plan, chosen, datasets, files.parent(next(iter(datasets.values()))[0]))
    return "\n".join(lines) + "\n"


def _task_lines(task: str, entry: Entry, clips: bool) -> list[str]:
    lines = [f"[tasks.{_key(task)}]", *(f"{key} = {_value(value)}" for key, value in entry.items())]
    if clips and "frames" not in entry:
        lines.append('frames = { order = "sorted-random" }  # or stride = 4, or stride = [1, 8]')
    return lines


def _missing_lines(recipe: Recipe, chosen: Chosen, datasets: Mapping[str, Any], folder: str) -> list[str]:
    """Returns the recipe's tasks that lack a dataset, as comments under the command that makes it."""
    lines = ["", "# Tasks of the recipe that lack a dataset: make it, then take the # away."] if chosen.missing else []
    for row, arguments in recipe.rows.items():
        tasks = {task: entry for task, entry in chosen.missing.items() if entry["dataset"] == row}
        if not tasks:
            continue
        name = row if row not in datasets else next(iter(tasks))
        path = files.join(folder, name)
        block = [f"[datasets.{_key(name)}]  # visent tokenize {arguments} --out {path}", f"path = {_value(path)}"]
        for task, entry in tasks.items():
            block += _task_lines(task, {**entry, "dataset": name}, clips=False)
        lines += ["", *(f"# {line}" for line in block)]
    return lines


def _stages_lines(recipe: Recipe, chosen: Chosen, tokens: int) -> list[str]:
    """Returns the stages with the shares of what is there, and what is not as comments.

    Raises:
        UserError: no stage has a task.
    """
    lines: list[str] = []
    for name, stage in _stages(recipe, chosen):
        share, absent = _shares(stage["share"], recipe, chosen) if "share" in stage else ({name: 1.0}, {})
        if not share:
            wanted = " or ".join(stage["share"])
            lines += [f"# The recipe's stage {name!r} reads {wanted}; there is none.", ""]
            continue
        images = stage["images_per_sentence"]
        lines += [f"[stages.{name}]", f"context = {images * tokens}  # {images} x {tokens} tokens"]
        if "planned" in stage:
            lines.append(f"# sentences = {stage['planned']:_}  # {stage['plan']}")
        shares = ", ".join(f"{_key(key)} = {value:g}" for key, value in share.items())
        left = ", ".join(f"{key} = {value:g}" for key, value in absent.items())
        note = f"the recipe also has {left}: no such task here" if left else "by kind or by task"
        lines += [f"share = {{ {shares} }}  # {note}", ""]
    if not any(line.startswith("[stages.") for line in lines):
        needed, there = _kinds_read(recipe), sorted({entry["kind"] for entry in chosen.tasks.values()})
        given = f"only {', '.join(there)}" if there else "none, as they have no training examples"
        raise UserError(f"recipe {recipe.name!r} reads tasks of kind {', '.join(needed)}, the datasets give {given}: "
                        "add a dataset or use another --recipe")  # fmt: skip
    return lines


def _stages(recipe: Recipe, chosen: Chosen) -> Sequence[tuple[str, Entry]]:
    """Returns a recipe's stages, in place of `each_task` one of every task that there is."""
    return [
        (found, stage) for name, stage in recipe.stages.items() for found in (chosen.tasks if name == EACH else [name])
    ]


def _shares(wanted: Mapping[str, float], recipe: Recipe, chosen: Chosen) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the shares of tasks and kinds that are there, and of those that are not.

    Where a recipe shares by task, a task of a dataset that it does not name gets the mean share of its kind.
    """
    kinds = {entry["kind"] for entry in chosen.tasks.values()}
    share = {key: value for key, value in wanted.items() if key in chosen.tasks or key in kinds}
    absent = {key: value for key, value in wanted.items() if key not in share}
    for task, entry in chosen.tasks.items():
        alike = [
            wanted[other] for other, its in recipe.tasks.items() if other in wanted and its["kind"] == entry["kind"]
        ]
        if task not in recipe.tasks and entry["kind"] not in wanted and alike:
            share[task] = sum(alike) / len(alike)
    return share, absent


def _kinds_read(recipe: Recipe) -> Sequence[str]:
    keys = {key for stage in recipe.stages.values() for key in stage.get("share", recipe.tasks)}
    return sorted({recipe.tasks[key]["kind"] if key in recipe.tasks else key for key in keys})


def _key(name: str) -> str:
    return tomlkit.key(name).as_string()


def _value(value: Any) -> str:
    """Writes a value in one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(part)}" for key, part in value.items()) + " }"
    return str(tomlkit.item(value).as_string())
