"""Recipes: the papers' datasets, tasks and stages, and the tasks that they give to the datasets a user has."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.dataset import DatasetFacts
from visent.errors import unknown

RECIPES = Path(__file__).parent / "recipes"
Entry = Mapping[str, Any]  # a task as its table in a manifest: dataset, kind, sentence, ...

# Roles whose pair with the image has a name of its own: role -> (task, roles of the sentence in order).
_NAMED = {
    "gray": ("colorization", ["gray", "image"]),
    "holes": ("inpainting", ["holes", "image"]),
    "bottom": ("completion", ["bottom", "image"]),
    "rainy": ("deraining", ["rainy", "image"]),
    "rain": ("deraining", ["rain", "image"]),
    "noisy": ("denoising", ["noisy", "image"]),
    "noise": ("denoising", ["noise", "image"]),
    "low_light": ("brightening", ["low_light", "image"]),
    "edited": ("editing", ["image", "edited"]),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe file. Its tasks name `rows` as their datasets; its stages count images in place of tokens."""

    name: str
    about: str
    rows: Mapping[str, str]  # name -> arguments of `visent tokenize` that make it, all but --out
    tasks: Mapping[str, Entry]
    # images_per_sentence, share by kind or task, perhaps planned and plan; `each_task` stands for one of each, unshared
    stages: Mapping[str, Mapping[str, Any]]
    balance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a recipe makes of some datasets: tasks that can be read, and tasks of the recipe that lack a dataset."""

    tasks: Mapping[str, Entry]
    missing: Mapping[str, Entry]


def recipe_names() -> list[str]:
    """Returns the recipes there are."""
    return sorted(file.stem for file in RECIPES.glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """Reads a recipe.

    Raises:
        UserError: there is none of this name.
    """
    if name not in recipe_names():
        raise unknown("recipe", name, recipe_names())
    value = tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))
    return Recipe(
        name=name, about=value["about"], rows=value["datasets"], tasks=value["tasks"], stages=value["stages"],
        balance=value["balance"],
    )  # fmt: skip


def choose_tasks(recipe: Recipe, datasets: Mapping[str, DatasetFacts]) -> Chosen:
    """Gives each task of a recipe a dataset that has its roles; datasets that no row names get their usual tasks.

    A dataset stands for a row that has its name, or else that is made from the same source; none without training
    examples is read.
    """
    datasets = {name: facts for name, facts in datasets.items() if facts.examples("train")}
    tasks: dict[str, Entry] = {}
    for task, entry in recipe.tasks.items():
        row = entry["dataset"]
        for name in sorted(datasets, key=lambda name: name != row):  # the namesake first, else in the order given
            same = name == row or datasets[name].config.get("source") == recipe.rows[row].split()[0]
            if same and set(entry["sentence"]) <= set(datasets[name].schema.roles):
                tasks[task] = {**entry, "dataset": name}
                break
    missing = {task: entry for task, entry in recipe.tasks.items() if task not in tasks}
    read = {entry["dataset"] for entry in tasks.values()}
    usual = [pair for name, facts in datasets.items() if name not in read for pair in usual_tasks(name, facts)]
    return Chosen(tasks={**tasks, **_named_apart(usual, list(recipe.tasks))}, missing=missing)


def usual_tasks(dataset: str, facts: DatasetFacts) -> list[tuple[str, Entry]]:
    """Returns the tasks that a dataset's roles suggest, each with a name that another dataset may have too."""
    roles = list(facts.schema.roles)
    if len(roles) == 1:
        return [(dataset, _task(dataset, "natural" if facts.schema.clips else "single", roles))]
    base = next((role for role in ("image", "frames") if role in roles), roles[0])
    tasks = [(dataset, _task(dataset, "natural", [base]))] if base in facts.schema.clips else []
    for role in roles:
        if role == base:
            continue
        if role in _NAMED and base == "image":
            tasks.append((_NAMED[role][0], _task(dataset, "generative", _NAMED[role][1])))
        else:
            tasks.append((role, _task(dataset, "discriminative", [base, role])))
            tasks.append((f"{role}_to_{base}", _task(dataset, "generative", [role, base])))
    return tasks


def _task(dataset: str, kind: str, sentence: Sequence[str]) -> Entry:
    return {"dataset": dataset, "kind": kind, "sentence": list(sentence)}


def _named_apart(tasks: Sequence[tuple[str, Entry]], taken: Sequence[str]) -> dict[str, Entry]:
    """Names each task; a name that two datasets have, that is taken or a kind is preceded by the dataset's."""
    from manifests.manifest import KINDS

    names = [*(name for name, _ in tasks), *taken, *KINDS]
    return {f"{entry['dataset']}_{name}" if names.count(name) > 1 else name: entry for name, entry in tasks}
