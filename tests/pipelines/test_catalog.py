"""Every dataset of the catalog: explained, with options that a command can take and a job can record."""

import dataclasses
import inspect
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.cli import sources, tokenize
from pipelines.commands.dataset import dataset_command
from pipelines.sources.base import SPLITS
from pipelines.sources.catalog import DATASETS, dataset_class, rebuild
from pipelines.sources.dataset import Dataset, DatasetSource
from visent.errors import UserError


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_says_what_it_is_and_shows_its_layout(name: str) -> None:
    cls = dataset_class(name)
    assert issubclass(cls, Dataset)
    about, *layout = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
    assert about.endswith(".")
    assert "<root>" in "".join(layout)
    assert set(cls.splits) <= set(SPLITS)


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_has_a_command_whose_help_explains_every_option(name: str) -> None:
    shown = CliRunner().invoke(dataset_command(name), ["--help"])
    assert shown.exit_code == 0, shown.output
    for field in dataclasses.fields(dataset_class(name)):  # type: ignore[arg-type]
        assert "--" + field.name.replace("_", "-") in shown.output
        assert field.name == "root" or field.metadata.get("help"), field.name


@pytest.mark.parametrize("name", DATASETS)
def test_the_recorded_options_build_the_same_dataset_again(tmp_path: Path, name: str) -> None:
    try:
        dataset = dataset_class(name)(root=str(tmp_path))  # type: ignore[call-arg]
    except TypeError:
        pytest.skip("an option has no default")
    source = DatasetSource(name=name, dataset=dataset, items_per_unit=5, splits=dataset.splits[:1])
    config = {"source": name, "roots": dict(source.roots), "options": dict(source.options), "items_per_shard": 5}
    assert rebuild(json.loads(json.dumps(config))) == source
    assert source.roles
    assert set(source.roles.values()) <= {"still", "clip"}


@pytest.mark.parametrize("name", DATASETS)
def test_an_empty_folder_is_refused_with_what_was_expected(tmp_path: Path, name: str) -> None:
    try:
        dataset = dataset_class(name)(root=str(tmp_path))  # type: ignore[call-arg]
    except TypeError:
        pytest.skip("an option has no default")
    with pytest.raises(UserError, match=r"expected|no .* in|cannot read|known endings|holds no|doesn't contain"):
        DatasetSource(name=name, dataset=dataset, items_per_unit=5).listing()


def test_the_readme_says_what_each_source_was_checked_on() -> None:
    table = (Path(__file__).resolve().parents[2] / "pipelines" / "sources" / "README.md").read_text()
    for name in DATASETS:
        assert f"`{name}`" in table.split("## Shared parts")[0], name


def test_sources_lists_every_name() -> None:
    shown = CliRunner().invoke(sources, [])
    assert shown.exit_code == 0
    assert all(name in shown.output for name in ("folder", "pairs", *DATASETS))


def test_an_unknown_source_names_the_nearest_one() -> None:
    assert "did you mean 'videos'" in CliRunner().invoke(tokenize, ["video"]).output
    assert "did you mean 'videos'" in str(CliRunner().invoke(sources, ["video"]).exception)


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown split of lol 'test': known: train, val"):
        DatasetSource(
            name="lol", dataset=dataset_class("lol")(root=str(tmp_path)), items_per_unit=1, splits=("test",)  # type: ignore[call-arg]
        )  # fmt: skip
