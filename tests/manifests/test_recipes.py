"""Recipes: what each paper's table becomes with the datasets a user has, and what is still missing."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from manifests.cli import manifest
from manifests.dataset import DatasetFacts, load_facts, write_facts
from manifests.lock import resolve
from manifests.manifest import load, parse_text
from manifests.recipe import load_recipe, recipe_names
from manifests.testing import write_random_dataset
from manifests.write import new_manifest
from visent.errors import UserError


def write(folder: Path, roles: dict[str, Any], source: str, **options: Any) -> tuple[str, DatasetFacts]:
    """Writes a dataset of random codes whose record says that it came from a source."""
    write_random_dataset(str(folder), roles, **{"examples": {"train": 20, "val": 2}, "frames": (64,)} | options)
    facts = load_facts(str(folder))
    made = DatasetFacts(name=facts.name, schema=facts.schema, shards=facts.shards, config={"source": source})
    write_facts(str(folder), made)
    return f"corpus/{folder.name}", made


def roles_of(recipe: str, row: str) -> dict[str, Any]:
    """The roles that a recipe's tasks ask of a row, those of videos as clips."""
    tasks = [task for task in load_recipe(recipe).tasks.values() if task["dataset"] == row]
    roles = dict.fromkeys(role for task in tasks for role in task["sentence"])
    return dict.fromkeys(roles, "clip" if "frames" in roles else "still")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(manifest, list(arguments), catch_exceptions=False)


@pytest.mark.parametrize("name", recipe_names())
def test_with_all_its_datasets_a_recipe_is_shown_balanced_and_locked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(name)
    for row, arguments in recipe.rows.items():
        write(tmp_path / "corpus" / row, roles_of(name, row), arguments.split()[0])
    written = call("init", *(f"corpus/{row}" for row in recipe.rows), "--recipe", name)
    assert written.exit_code == 0, written.output
    assert "lack a dataset" not in written.output
    made = load("manifest.toml")
    assert list(made.tasks) == list(recipe.tasks)
    assert {task.dataset for task in made.tasks.values()} == set(recipe.rows)
    lock = resolve("manifest.toml")
    assert {task.task.name for stage in lock.stages.values() for task in stage.tasks} == set(recipe.tasks)
    plan = ("--sentences", f"{next(iter(made.stages))}=300")
    for command in ("show", "balance"):
        assert call(command, *plan).exit_code == 0
    assert [task.dataset for task in load("manifest.toml").tasks.values()] == [t.dataset for t in made.tasks.values()]


def test_datasets_are_known_by_their_source_and_their_roles(tmp_path: Path) -> None:
    still = dict.fromkeys
    given = {
        "web": write(tmp_path / "web", {"image": "still"}, "datacomp"),
        "people": write(tmp_path / "people", still(["image", "pose"], "still"), "coco"),
        "things": write(tmp_path / "things", still(["image", "instances"], "still"), "coco"),
        "in1k": write(tmp_path / "in1k", still(["image", "edge", "gray"], "still"), "imagenet"),
        "mine": write(tmp_path / "mine", still(["image", "depth"], "still"), "pairs"),
        "nyu_depth": write(tmp_path / "nyu_depth", still(["image", "depth"], "still"), "pairs"),
    }
    made = parse_text(new_manifest(given, "lvm-lite"), str(tmp_path / "manifest.toml"))
    datasets = {name: task.dataset for name, task in made.tasks.items()}
    assert datasets == {
        "datacomp": "web", "coco_pose": "people", "coco_pose_to_image": "people", "coco_instances": "things",
        "coco_instances_to_image": "things", "imagenet_edge": "in1k", "imagenet_edge_to_image": "in1k",
        "imagenet_colorization": "in1k", "nyu_depth": "nyu_depth", "depth": "mine", "depth_to_image": "mine",
    }  # fmt: skip


def test_a_namesake_comes_before_another_dataset_of_the_source(tmp_path: Path) -> None:
    roles = {"image": "still", "pose": "still"}
    given = {name: write(tmp_path / name, roles, "coco") for name in ("first", "coco_pose")}
    made = parse_text(new_manifest(given, "delvm-tasks"), str(tmp_path / "manifest.toml"))
    assert made.tasks["coco_pose"].dataset == "coco_pose"
    assert {name for name, task in made.tasks.items() if task.dataset == "first"} == {"pose", "pose_to_image"}


def test_what_is_missing_stands_as_comments_that_become_a_manifest(tmp_path: Path) -> None:
    given = {"rain": write(tmp_path / "corpus" / "rain", {"rainy": "still", "image": "still"}, "rain13k")}
    text = new_manifest(given, "delvm-tasks")
    assert "# [datasets.sa1b]  # visent tokenize sa1b --root sa1b --augment six-crops --out corpus/sa1b" in text
    assert "share = { rain13k_deraining = 1 }  # the recipe also has sa1b_segmentation = 1, coco_pose = 1" in text
    head, _, tail = text.partition("# Tasks of the recipe that lack a dataset: make it, then take the # away.")
    assert list(tomllib.loads(head)["tasks"]) == ["rain13k_deraining"]
    uncommented = head + "\n".join(line.removeprefix("# ") for line in tail.splitlines())
    assert {name: task.dataset for name, task in parse_text(uncommented, "manifest.toml").tasks.items()} == {
        "rain13k_deraining": "rain", "sa1b_segmentation": "sa1b", "coco_pose": "coco_pose",
    }  # fmt: skip


def test_a_dataset_without_training_examples_is_listed_and_not_read(tmp_path: Path) -> None:
    held = write(tmp_path / "held", {"image": "still", "pose": "still"}, "coco", examples={"val": 3})
    mine = write(tmp_path / "mine", {"image": "still", "depth": "still"}, "pairs")
    text = new_manifest({"held": held, "mine": mine}, "lvm-lite")
    assert "[datasets.held]  # 3 val; roles image, pose; nothing to train on, so no task reads it" in text
    assert list(parse_text(text, "manifest.toml").tasks) == ["depth", "depth_to_image"]
    with pytest.raises(UserError, match=r"of kind single, the datasets give none, as they have no training examples"):
        new_manifest({"held": held}, "lvm")


def test_init_says_how_many_tasks_lack_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "corpus" / "rain", {"rainy": "still", "image": "still"}, "rain13k")
    assert "2 tasks of the recipe lack a dataset" in call("init", "corpus/rain", "--recipe", "delvm-tasks").output


def test_a_dataset_without_the_roles_of_a_task_leaves_that_task_missing(tmp_path: Path) -> None:
    given = {"imagenet": write(tmp_path / "imagenet", {"image": "still", "edge": "still"}, "imagenet")}
    text = new_manifest(given, "lvm-lite")
    assert list(parse_text(text, "manifest.toml").tasks) == ["imagenet_edge", "imagenet_edge_to_image"]
    assert "# [datasets.imagenet_depth]  # visent tokenize imagenet --root imagenet --annotate " in text


def test_where_shares_are_by_task_a_dataset_of_ones_own_gets_the_mean_of_its_kind(tmp_path: Path) -> None:
    given = {
        "people": write(tmp_path / "people", {"image": "still", "pose": "still"}, "coco"),
        "mine": write(tmp_path / "mine", {"image": "still", "depth": "still"}, "pairs"),
    }
    made = parse_text(new_manifest(given, "delvm"), str(tmp_path / "manifest.toml"))
    share = made.stages["mixture"].share
    assert share == {"coco_pose": 28.97, "depth": pytest.approx((10.68 + 28.97) / 2), "depth_to_image": 14.02}


def test_continual_has_a_stage_for_each_task_in_the_order_of_the_recipe_then_of_the_datasets(tmp_path: Path) -> None:
    given = {
        "mine": write(tmp_path / "mine", {"image": "still", "depth": "still"}, "pairs"),
        "rain": write(tmp_path / "rain", {"rainy": "still", "image": "still"}, "rain13k"),
        "people": write(tmp_path / "people", {"image": "still", "pose": "still"}, "coco"),
    }
    made = parse_text(new_manifest(given, "continual"), str(tmp_path / "manifest.toml"))
    assert {name: dict(stage.share) for name, stage in made.stages.items()} == {
        name: {name: 1.0} for name in ("coco_pose", "rain13k_deraining", "depth", "depth_to_image")
    }
    assert list(made.stages) == ["coco_pose", "rain13k_deraining", "depth", "depth_to_image"]


def test_the_figures_of_the_papers() -> None:
    images = {name: [stage["images_per_sentence"] for stage in load_recipe(name).stages.values()]
              for name in recipe_names()}  # fmt: skip
    assert {name: [256 * count for count in counts] for name, counts in images.items()} == {
        "continual": [2048], "delvm": [2048], "delvm-tasks": [2048], "lvm": [4096], "lvm-lite": [256, 4096],
        "pascal-5i": [4096], "video-64": [16384],
    }  # fmt: skip
    delvm = load_recipe("delvm").stages["mixture"]["share"]
    assert sum(delvm.values()) == pytest.approx(82.66)
    stages = load_recipe("lvm-lite").stages
    assert stages["images"]["planned"] == 125_112 * 8192
    assert stages["sequences"]["planned"] == 15_639 * 512
    assert load_recipe("lvm").stages["sequences"]["planned"] * 16 == stages["images"]["planned"]


def test_help_names_every_recipe() -> None:
    text = " ".join(call("init", "--help").output.split())
    *others, last = recipe_names()
    assert f"{', '.join(others)} or {last}." in text
