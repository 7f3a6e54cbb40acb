"""The commands that recipes name: each is one that `visent tokenize` takes, and makes the roles that its tasks read."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest

from manifests.recipe import load_recipe, recipe_names
from pipelines.annotate.annotators import checked_annotators, role
from pipelines.augment import parse
from pipelines.commands.dataset import dataset_command
from pipelines.sources.catalog import dataset_class

ROWS = [(recipe, row) for recipe in recipe_names() for row in load_recipe(recipe).rows]


@pytest.mark.parametrize(("recipe", "row"), ROWS)
def test_a_row_is_made_by_its_command(recipe: str, row: str, tmp_path: Path) -> None:
    plan = load_recipe(recipe)
    name, *arguments = shlex.split(plan.rows[row])
    options = dataset_command(name).make_context(name, [*arguments, "--out", str(tmp_path)]).params
    cls = dataset_class(name)
    fields = [field for field in dataclasses.fields(cls) if field.name in options]  # type: ignore[arg-type]
    dataset: Any = cls(**{field.name: _value(field.default, options[field.name]) for field in fields})
    names = tuple(part for part in options["annotate"].split(",") if part)
    assert checked_annotators(names, tuple(dataset.roles)) is not None
    assert parse(options["augment"]) is not None
    roles = {*dataset.roles, *map(role, names)}
    for task in plan.tasks.values():
        assert task["dataset"] != row or set(task["sentence"]) <= roles


def _value(default: Any, given: Any) -> Any:
    return tuple(part for part in given.split(",") if part) if isinstance(default, tuple) else given
