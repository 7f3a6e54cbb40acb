"""The manifest: shares, recipes, edits that keep comments, and one clear line for every mistake."""

from pathlib import Path
from typing import Any

import pytest

from manifests import edit, files
from manifests.balance import Report, analyse, load_all
from manifests.dataset import load_facts
from manifests.lock import resolve
from manifests.manifest import load, parse_text
from manifests.rebalance import Request, rebalance
from manifests.recipe import recipe_names
from manifests.testing import write_random_dataset
from manifests.write import new_manifest
from visent.errors import UserError

TEXT = """\
# my mixture
version = 1

[datasets]
photos = "photos"      # from the web
pairs = "pairs"

[datasets.clips]       # short ones
path = "clips"

[tasks.photos]
dataset = "photos"
kind = "single"
sentence = ["image"]

[tasks.edge]           # drawn by Canny
dataset = "pairs"
kind = "discriminative"
sentence = ["image", "edge"]

[tasks.edge_to_image]
dataset = "pairs"
kind = "generative"
sentence = ["edge", "image"]

[tasks.colorization]
dataset = "pairs"
kind = "generative"
sentence = ["gray", "image"]

[tasks.clips]
dataset = "clips"
kind = "natural"
sentence = ["frames"]
frames = { stride = [1, 2], count = 4 }

[stages.images]
context = 16
share = { single = 1 }

[stages.sequences]     # 16 images
context = 256
share = { natural = 4, discriminative = 3, generative = 3 }
within = { generative = { edge_to_image = 1, colorization = 2 } }

[balance]
max_epochs = 4
max_views = 50
"""


def balanced(path: Path, **request: Any) -> tuple[Report, Report]:
    return rebalance(str(path), Request(**request))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_random_dataset(str(tmp_path / "photos"), {"image": "still"}, examples={"train": 60, "val": 6})
    roles = {"image": "still", "edge": "still", "gray": "still"}
    write_random_dataset(str(tmp_path / "pairs"), roles, examples={"train": 3})
    write_random_dataset(str(tmp_path / "clips"), {"frames": "clip"}, examples={"train": 9}, frames=(8, 3, 4))
    (tmp_path / "manifest.toml").write_text(TEXT)
    return tmp_path / "manifest.toml"


def test_shares_by_kind_are_split_by_within_and_add_up_to_one() -> None:
    shares = parse_text(TEXT, "manifest.toml").task_shares("sequences")
    assert shares == pytest.approx({"clips": 0.4, "edge": 0.3, "edge_to_image": 0.1, "colorization": 0.2})
    assert list(shares) == ["edge", "edge_to_image", "colorization", "clips"]


def test_a_task_named_in_share_is_taken_out_of_its_kind() -> None:
    text = TEXT.replace(
        "share = { natural = 4, discriminative = 3, generative = 3 }", "share = { generative = 1, edge_to_image = 1 }"
    )
    shares = parse_text(text.replace("edge_to_image = 1, colorization = 2 }", "colorization = 2 }"), "m").task_shares(
        "sequences"
    )
    assert shares == {"edge_to_image": 0.5, "colorization": 0.5}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('dataset = "photos"', 'dataset = "photo"', "dataset of task 'photos' 'photo': did you mean 'photos'"),
        ('kind = "natural"', 'kind = "naturel"', "kind of task 'clips' 'naturel': did you mean 'natural'"),
        ("share = { single = 1 }", "share = { singel = 1 }", "images. share 'singel': did you mean 'single'"),
        ("edge_to_image = 1,", "edge_to_imag = 1,", "within.generative. 'edge_to_imag': did you mean 'edge_to_image'"),
        ("share = { single = 1 }", "share = { single = -1 }", "share.single is -1.0; expected a number of 0 or more"),
        ("share = { single = 1 }", "share = { single = 0 }", "no share is above 0"),
        ("share = { single = 1 }", 'share = { single = "all" }', "single is 'all'; expected a number"),
        ("[balance]", "[ballance]", "unknown table 'ballance': did you mean 'balance'"),
        ("max_epochs = 4", "max_epoch = 4", "key in .balance. 'max_epoch': did you mean 'max_epochs'"),
        ("max_epochs = 4", "max_epochs = 0", "max_epochs is 0.0; expected a number above 0"),
        ("max_views = 50", "max_views = 0", "max_views is 0; expected 1 or more"),
        ("max_views = 50", 'close_deficit_with = "augmant"', "'augmant': did you mean 'augment'"),
        ('sentence = ["frames"]', "sentence = []", "sentence is empty"),
        ('sentence = ["frames"]', 'sentence = "frames"', "sentence is 'frames'; expected a list"),
        ('sentence = ["frames"]', "", "lacks sentence; expected dataset, kind, sentence"),
        ("stride = [1, 2]", "stride = [2, 1]", "stride .2, 1. is no range"),
        ("stride = [1, 2]", "stride = [1]", "expected a number or a range"),
        ("stride = [1, 2]", 'stride = 1, order = "sorted-random"', "order or stride, not both"),
        ("stride = [1, 2]", 'order = "sorted"', "order of frames 'sorted': did you mean 'sorted-random'"),
        ("context = 16", "context = 0", "context is 0; expected 1 or more"),
        ("context = 16", 'context = "16"', "context is '16'; expected a whole number"),
        ('path = "clips"', 'paths = "clips"', "'paths': did you mean 'path'"),
        ('path = "clips"', 'path = "clips"\nviews = 0', "datasets.clips.: views is 0; expected 1 or more"),
        ("[tasks.clips]", "[tasks.natural]", "task 'natural' is named like a kind"),
        ("natural = 4, ", "single = 4, photos = 1, ", "gives 'single' a share of 4.0, but no task of this kind"),
        ("version = 1", "version = 2", "reads manifests with version = 1"),
        ("version = 1", "version = ", "not valid TOML.*line 2"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_the_file_what_was_got_and_what_was_expected(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(UserError, match=message) as caught:
        parse_text(TEXT.replace(old, new), "mine.toml")
    assert str(caught.value).startswith("mine.toml")
    assert "\n" not in str(caught.value)


def test_mistakes_that_only_the_data_shows_are_named_too(corpus: Path) -> None:
    corpus.write_text(TEXT.replace('["gray", "image"]', '["grey", "image"]'))
    with pytest.raises(UserError, match=r"task 'colorization' .*'grey': did you mean 'gray'"):
        resolve(str(corpus))
    corpus.write_text(TEXT.replace('pairs = "pairs"', 'pairs = "elsewhere"'))
    with pytest.raises(UserError, match=r"no dataset at .*elsewhere"):
        resolve(str(corpus))
    corpus.write_text(TEXT.replace("count = 4", "count = 9"))
    with pytest.raises(UserError, match=r"9 training examples, none with the 9 frames needed"):
        resolve(str(corpus))
    with pytest.raises(UserError, match=r"no manifest at .*visent manifest init"):
        load(str(corpus.parent / "absent.toml"))


def test_a_path_that_is_a_folder_or_leads_through_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory; expected a file"):
        load(str(tmp_path))
    with pytest.raises(UserError, match=r"no manifest at .*file"):
        load(str(tmp_path / "file" / "manifest.toml"))


def test_analysis_counts_what_a_task_has_and_what_its_stage_wants(corpus: Path) -> None:
    manifest = load(str(corpus))
    report = analyse(manifest, load_all(manifest), {"sequences": 100.0})
    rows = {row.task: row for row in report.stage("sequences")}
    assert (rows["clips"].examples, rows["clips"].ineligible) == (6, 3)
    assert rows["edge"].sentences == pytest.approx(3 / 8)
    assert rows["edge"].tokens == pytest.approx(3 / 8 * 256)
    assert rows["edge"].wanted_sentences == pytest.approx(30)
    assert rows["edge"].epochs == pytest.approx(80)
    assert rows["edge"].deficit == pytest.approx(30 - 4 * 3 / 8)
    assert sum(row.natural_share for row in rows.values()) == pytest.approx(1)
    assert report.stage("images")[0].wanted_sentences == pytest.approx(60)
    assert report.stage("images")[0].deficit == 0


def test_balance_writes_views_with_the_reason_and_keeps_every_other_line(corpus: Path) -> None:
    before, after = balanced(corpus, sentences={"sequences": 30.0})
    new = corpus.read_text().splitlines()
    old = TEXT.splitlines()
    assert [line for line in old if line not in new] == ['pairs = "pairs"']
    assert [line for line in new if line not in old] == [
        'pairs = {path = "pairs", views = 6}  # balance: edge reads 72 examples and has 3, '
        "each row at most 4 times: 6 views",
        "views = 2  # balance: clips reads 48 examples and has 6, each row at most 4 times: 2 views",
    ]
    assert new[new.index('path = "clips"') + 1].startswith("views = 2")
    assert any(row.deficit for row in before.rows)
    assert not any(row.deficit for row in after.rows)
    assert load(str(corpus)).datasets["pairs"].views == 6


def test_balancing_twice_changes_nothing_and_a_smaller_plan_lowers_the_views(corpus: Path) -> None:
    balanced(corpus, sentences={"sequences": 30.0})
    once = corpus.read_text()
    balanced(corpus, sentences={"sequences": 30.0})
    assert corpus.read_text() == once
    balanced(corpus, sentences={"sequences": 15.0})
    assert load(str(corpus)).datasets["pairs"].views == 3


def test_views_are_limited_and_the_rest_stays_a_deficit(corpus: Path) -> None:
    _, after = balanced(corpus, sentences={"sequences": 3000.0})
    choice = next(choice for choice in after.choices if choice.dataset == "pairs")
    assert (choice.needed, choice.views) == (600, 50)
    assert "limited by max_views = 50" in corpus.read_text()
    assert any(row.deficit for row in after.rows if row.dataset == "pairs")


def test_repeat_writes_no_views(corpus: Path) -> None:
    _, after = balanced(corpus, sentences={"sequences": 30.0}, close_with="repeat")
    assert corpus.read_text() == TEXT + 'close_deficit_with = "repeat"\n'
    assert any(row.deficit for row in after.rows)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('clips = "c"  # mine', 'clips = {path = "c", views = 7}  # mine; balance: why'),
        ('clips = { path = "c" }', 'clips = {path = "c", views = 7}  # balance: why'),
        ('[datasets.clips]\npath = "c"', '[datasets.clips]\npath = "c"\nviews = 7  # balance: why'),
        ('[datasets.clips]\npath = "c"\nviews = 2 # mine; balance: old',
         '[datasets.clips]\npath = "c"\nviews = 7  # mine; balance: why'),
    ],
)  # fmt: skip
def test_views_are_set_in_every_way_a_dataset_may_be_written(line: str, expected: str) -> None:
    head = "" if line.startswith("[") else "[datasets]\n"
    text = f"# top\nversion = 1\n{head}{line}\n# end\n"
    assert edit.set_views(text, "clips", 7, "balance: why") == text.replace(line, expected)
    with pytest.raises(UserError, match=r"dataset 'clip': did you mean 'clips'"):
        edit.set_views(text, "clip", 7, "why")


def folders(corpus: Path) -> dict[str, tuple[str, object]]:
    return {name: (name, load_facts(str(corpus.parent / name))) for name in ("photos", "pairs", "clips")}


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_writes_a_manifest_that_resolves(corpus: Path, recipe: str) -> None:
    text = new_manifest(folders(corpus), recipe)  # type: ignore[arg-type]
    text = text.replace('order = "sorted-random" }', 'order = "sorted-random", count = 4 }')
    files.write_bytes(corpus, text.encode())
    lock = resolve(str(corpus))
    assert all(sum(task.count for task in stage.tasks) == stage.period for stage in lock.stages.values())


def test_init_names_tasks_by_their_roles(corpus: Path) -> None:
    text = new_manifest(folders(corpus), "lvm-lite")  # type: ignore[arg-type]
    manifest = parse_text(text, str(corpus))
    found = {task.name: (task.kind, task.sentence) for task in manifest.tasks.values()}
    assert found == {
        "photos": ("single", ("image",)),
        "edge": ("discriminative", ("image", "edge")),
        "edge_to_image": ("generative", ("edge", "image")),
        "colorization": ("generative", ("gray", "image")),
        "clips": ("natural", ("frames",)),
    }
    assert (manifest.stages["images"].context, manifest.stages["sequences"].context) == (16, 256)


def test_tasks_of_two_datasets_with_the_same_roles_keep_apart(corpus: Path) -> None:
    write_random_dataset(str(corpus.parent / "more"), {"image": "still", "edge": "still"}, examples={"train": 2})
    both = {name: (name, load_facts(str(corpus.parent / name))) for name in ("pairs", "more")}
    manifest = parse_text(new_manifest(both, "lvm-lite"), str(corpus))
    assert {"pairs_edge", "more_edge", "colorization"} <= set(manifest.tasks)


def test_an_unknown_recipe_or_one_without_tasks_is_refused(corpus: Path) -> None:
    with pytest.raises(UserError, match=r"recipe 'lvm-light': did you mean 'lvm-lite'"):
        new_manifest(folders(corpus), "lvm-light")  # type: ignore[arg-type]
    clips = {"clips": folders(corpus)["clips"]}
    with pytest.raises(UserError, match=r"reads tasks of kind single, the datasets give only natural"):
        new_manifest(clips, "lvm")  # type: ignore[arg-type]
