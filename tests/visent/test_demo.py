"""The demo: its media are real and laid out for the sources, its commands parse, and its report stands alone."""

import re
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

from manifests import manifest as manifest_file
from visent.cli import visent
from visent.demo import media, plots, steps
from visent.demo.page import Page


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media.gather(tmp_path_factory.mktemp("media"))


def test_media_hold_photos_clips_and_the_depth_pair(gathered: Path) -> None:
    assert len(list((gathered / "photos").iterdir())) == len(media.SKIMAGE_PHOTOS) + len(media.SKLEARN_PHOTOS) + 3
    assert {p.name for p in (gathered / "movies").iterdir()} == set(media.CLIPS)
    assert (gathered / "depth" / "image" / "motorcycle.png").stat().st_size > 100_000
    assert (gathered / "depth" / "depth" / "motorcycle.npz").stat().st_size > 100_000


def test_media_hold_no_picture_twice_across_the_splits(gathered: Path) -> None:
    """The right eye of the stereo pair would show held-out readers what training on the left one has seen."""
    names = {p.stem for p in (gathered / "photos").iterdir()}
    assert not any(name.startswith("motorcycle") for name in names)


def _check(command: click.Command, arguments: list[str], context: click.Context | None) -> None:
    """Parses the arguments with the commands' own parsers, down to the command that would run."""
    with command.make_context(command.name, arguments, parent=context) as made:
        if isinstance(command, click.Group) and made._protected_args:
            name, *rest = [*made._protected_args, *made.args]
            found = command.get_command(made, name)
            assert found is not None, name
            _check(found, rest, made)


def test_every_command_of_the_plan_parses(gathered: Path, tmp_path: Path) -> None:
    (tmp_path / "media").symlink_to(gathered)
    planned = steps.plan(tmp_path, ["--set", "stages.images.steps=1"])
    assert [step.arguments[0] for step in planned][:4] == ["tokenize", "tokenize", "tokenize", "verify"]
    for step in planned:
        (tmp_path / "run").mkdir(exist_ok=True)
        for name in steps.DATASETS:
            (tmp_path / "corpus" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "manifest.toml").touch()
        _check(visent, list(step.arguments), None)


def test_demo_manifest_is_valid_and_has_every_task_that_the_report_shows() -> None:
    path = Path(steps.__file__).with_name("manifest.toml")
    manifest = manifest_file.load(str(path))
    assert list(manifest.stages) == ["images", "sequences"]
    assert set(manifest.task_shares("sequences")) == set(steps.SENTENCE_TASKS)
    assert set(manifest.datasets) == set(steps.DATASETS)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_escapes_text_and_points_only_beside_itself(tmp_path: Path) -> None:
    page = Page("a <b> & c")
    page.heading("x < y", "lead & more")
    page.picture('pic"ture.png', 'says "hi"')
    page.table([{"name": "<script>", "count": 12345, "rate": 1.5}])
    page.output("a  <  b")
    reader = _Reader()
    text = page.write(tmp_path / "page.html").read_text()
    reader.feed(text)
    assert reader.sources == ['pic"ture.png']
    assert "<script>" not in text
    for shown in ("a <b> & c", "x < y", "lead & more", 'says "hi"', "<script>", "12,345", "1.50", "a  <  b"):
        assert shown in reader.text
    assert not re.search(r"https?://", text)


def test_loss_curves_have_a_panel_for_each_stage(tmp_path: Path) -> None:
    from PIL import Image

    lines = [
        {"stage": stage, "step": step, "per_task": {"edge": {"loss": 5.0 - step, "accuracy": 0.1}}}
        for stage in ("images", "sequences")
        for step in range(3)
    ]
    two = Image.open(plots.loss_curves(lines, tmp_path / "two.png"))
    one = Image.open(plots.loss_curves(lines[:3], tmp_path / "one.png"))
    assert two.width == 2 * one.width
    assert len(set(one.convert("L").get_flattened_data())) > 10, "nothing was drawn"
