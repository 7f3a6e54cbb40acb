"""The papers' protocols, those made from a run, and what their parts want."""

import dataclasses
import shlex

import pytest
from click.testing import CliRunner

from manifests.dataset import write_facts
from manifests.lock import resolve
from manifests.testing import write_random_dataset
from pipelines.sources.catalog import dataset_class
from trainer.protocols import catalog, delvm
from trainer.protocols.by_tasks import by_tasks
from trainer.protocols.make_cases import images_in_all
from visent.cli import visent
from visent.errors import UserError


def test_lvm_lite_judges_what_its_tables_have():
    parts = catalog.make("lvm-lite").parts
    by_kind = {kind: [part for part in parts if part.kind == kind] for kind in ("clips", "images", "labels", "halves")}
    assert [part.data for part in by_kind["clips"]] == ["ucf101", "ssv2", "kinetics600"]
    assert all((part.frames_given, part.frames_made) == (5, 11) for part in by_kind["clips"])
    assert all(part.figures == ("fvd", "clip-is") for part in by_kind["clips"])
    assert [(part.data, part.given) for part in by_kind["images"]] == [
        ("imagenet", "semantic"), ("imagenet", "depth"), ("imagenet", "edge"),
        ("ade20k", "semantic"), ("cityscapes", "semantic"),
    ]  # fmt: skip
    assert [(part.data, part.figures) for part in by_kind["labels"]] == [
        ("ade20k", ("miou", "fid")), ("cityscapes", ("miou", "fid")),
    ]  # fmt: skip
    assert [part.made for part in by_kind["halves"]] == ["image"]
    assert all((part.pairs, part.sampling.top_k, part.sampling.temperature) == (1, 100, 1.0) for part in parts)
    assert max(map(images_in_all, parts)) == 16, "its sentences have 16 images"


def test_delvm_judges_four_splits_with_three_pairs():
    parts = catalog.make("delvm").parts
    assert [part.data for part in parts] == [f"pascal5i-{fold}" for fold in range(4)]
    assert all((part.kind, part.pairs, part.figures) == ("foreground", 3, ("foreground-miou",)) for part in parts)
    assert max(map(images_in_all, parts)) == 8, "its sentences have 8 images"
    assert all(part.sampling.temperature == 0 for part in parts), "its demo decodes greedily"


@pytest.mark.parametrize("name", [name for name, known in catalog.PROTOCOLS.items() if known.make])
def test_every_part_says_which_data_it_wants_and_what_makes_it(name):
    for part in catalog.make(name).parts:
        said = catalog.not_run(part)
        assert f"--data {part.data}=corpus/{part.data}" in said
        assert f"visent pixels corpus/{part.data} --split {catalog.split_of(part.data)}" in said


@pytest.mark.parametrize("data", catalog.DATA)
def test_the_commands_that_make_data_are_ones_that_tokenize_takes(data):
    """Options are parsed by the command itself: what fails is that there is no such folder, and nothing before."""
    command, pixels = catalog.DATA[data].commands(data)
    _, tokenize, source, *options = shlex.split(command)
    assert tokenize == "tokenize"
    assert dataset_class(source)
    assert pixels == f"visent pixels corpus/{data} --split {catalog.DATA[data].split}"
    options[options.index("--root") + 1] = "/no/such/folder"
    found = CliRunner().invoke(visent, ["tokenize", source, *options, "--dry-run"])
    assert found.exit_code != 0
    said = str(found.exception) + found.output
    assert "/no/such/folder does not exist" in said, said
    found = CliRunner().invoke(visent, ["pixels", "/no/such/folder", *shlex.split(pixels)[3:]])
    assert "no dataset at /no/such/folder" in str(found.exception)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: catalog.find("lvm-light"), "did you mean 'lvm-lite'"),
    (lambda: catalog.make("tasks"), "made from a run"),
    (lambda: catalog.select(catalog.make("lvm-lite"), ["seg to image, ADE"]), "did you mean 'seg to image, ADE20K'"),
    (lambda: catalog.check_data(catalog.make("lvm-lite"), ["ade20"]), "did you mean 'ade20k'"),
])  # fmt: skip
def test_unknown_names_say_what_was_meant(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_parts_are_chosen_by_name_in_the_order_asked_for():
    protocol = catalog.make("delvm")
    names = [protocol.parts[2].name, protocol.parts[0].name]
    assert [part.name for part in catalog.select(protocol, names)] == names
    assert catalog.select(protocol, []) == list(protocol.parts)


def test_help_names_every_protocol_and_every_dataset():
    said = catalog.help_text()
    for name in (*catalog.PROTOCOLS, *catalog.DATA):
        assert f"  {name}: " in said


MANIFEST = """\
version = 1
[datasets]
clips = "clips"
scenes = "scenes"
alone = "alone"
panoptic = "panoptic"
rare = "rare"
[tasks]
clips = { dataset = "clips", kind = "natural", sentence = ["frames"] }
seg = { dataset = "scenes", kind = "discriminative", sentence = ["image", "semantic"] }
depth = { dataset = "scenes", kind = "discriminative", sentence = ["image", "depth"] }
seg_to_image = { dataset = "scenes", kind = "generative", sentence = ["semantic", "image"] }
alone = { dataset = "alone", kind = "single", sentence = ["image"] }
panoptic = { dataset = "panoptic", kind = "discriminative", sentence = ["frames", "panoptic"] }
rare = { dataset = "rare", kind = "single", sentence = ["image"] }
[stages.first]
context = 16
share = { alone = 1.0 }
[stages.last]
context = 128
share = { clips = 1, seg = 1, depth = 1, seg_to_image = 1, alone = 1, panoptic = 1, rare = 1 }
"""


@pytest.fixture(scope="module")
def many_tasks(tmp_path_factory):
    """A lock whose last stage has tasks of every kind, sentences of 8 images, and one task without held-out rows."""
    folder = tmp_path_factory.mktemp("tasks")
    counts = {"train": 12, "val": 3}
    scenes = {"image": "still", "semantic": "still", "depth": "still"}
    write_random_dataset(str(folder / "clips"), {"frames": "clip"}, examples=counts)
    write_random_dataset(str(folder / "scenes"), scenes, examples=counts)
    write_random_dataset(str(folder / "alone"), {"image": "still"}, examples=counts)
    write_random_dataset(str(folder / "panoptic"), {"frames": "clip", "panoptic": "clip"}, examples=counts)
    write_random_dataset(str(folder / "rare"), {"image": "still"}, examples={"train": 12})
    (folder / "manifest.toml").write_text(MANIFEST)
    return resolve(str(folder / "manifest.toml"))


def test_the_tasks_of_a_run_become_parts_by_what_their_sentences_are(many_tasks):
    found = by_tasks(many_tasks, ["first", "last"], lambda dataset, role: role == "semantic")
    parts = {part.name: part for part in found.protocol.parts}
    assert set(parts) == {"clips", "seg", "depth", "seg_to_image", "alone"}
    assert (parts["clips"].kind, parts["clips"].frames_given, parts["clips"].frames_made) == ("clips", 2, 6)
    assert (parts["seg"].kind, parts["seg"].figures) == ("labels", ("miou", "fid"))
    assert (parts["depth"].kind, parts["depth"].made, parts["depth"].figures[:2]) == (
        "images",
        "depth",
        ("psnr", "ssim"),
    )
    assert (parts["seg_to_image"].kind, parts["seg_to_image"].given) == ("images", "semantic")
    assert (parts["alone"].kind, parts["alone"].made) == ("halves", "image")
    assert all(images_in_all(part) <= 8 for part in parts.values())
    assert found.folders == {part.data: many_tasks.folder(part.data) for part in parts.values()}
    assert len(found.notes) == 2
    assert "'panoptic' has no part: only clips, single images" in found.notes[0]
    assert "'rare' has no part: dataset 'rare' has no held-out rows" in found.notes[1]


def test_a_sentence_of_one_pair_has_no_prompt(many_tasks):
    last = many_tasks.stages["last"]
    short = [dataclasses.replace(task, images_per_sentence=2) for task in last.tasks if task.task.name == "seg"]
    lock = dataclasses.replace(many_tasks, stages={"last": dataclasses.replace(last, tasks=tuple(short))})
    (part,) = by_tasks(lock, ["last"], lambda dataset, role: False).protocol.parts
    assert (part.kind, part.pairs) == ("images", 0)


def test_a_run_without_held_out_rows_has_nothing_to_judge(many_tasks):
    last = many_tasks.stages["last"]
    rare = tuple(task for task in last.tasks if task.task.name == "rare")
    lock = dataclasses.replace(many_tasks, stages={"last": dataclasses.replace(last, tasks=rare)})
    with pytest.raises(UserError, match=r"no task to judge.*tokenize it with --holdout"):
        by_tasks(lock, ["last"], lambda dataset, role: False)


def pascal_lock(folder, task, fold):
    """A lock of one task on a dataset of Pascal-5i that holds out a fold."""
    pair: dict = {"image": "still", "mask": "still"}
    facts = write_random_dataset(str(folder / "shots"), pair, examples={"train": 12, "val": 3})
    config = {"source": "pascal5i", "options": {"fold": fold}}
    write_facts(str(folder / "shots"), dataclasses.replace(facts, config=config))
    (folder / "manifest.toml").write_text(
        f'version = 1\n[datasets]\nshots = "shots"\n[tasks]\n{task} = {{ dataset = "shots", kind = "discriminative", '
        f'sentence = ["image", "mask"] }}\n[stages.finetune]\ncontext = 128\nshare = {{ {task} = 1.0 }}\n'
    )
    return resolve(str(folder / "manifest.toml"))


@pytest.mark.parametrize("task", ["pascal5i", "masks"])
def test_a_run_on_pascal_5i_is_fine_tuned_whatever_its_task_is_called(tmp_path, task, lock):
    assert delvm.fine_tuned(pascal_lock(tmp_path, task, 0))
    assert not delvm.fine_tuned(lock)


def test_a_split_whose_classes_were_seen_in_fine_tuning_is_warned_of(tmp_path, lock):
    found = pascal_lock(tmp_path, "masks", 2)
    parts = catalog.make("delvm").parts
    said = [delvm.seen(found, part) for part in parts]
    assert [bool(text) for text in said] == [True, True, False, True]
    assert "fine-tuned with split 2 held out" in said[0]
    assert not any(delvm.seen(lock, part) for part in parts)
