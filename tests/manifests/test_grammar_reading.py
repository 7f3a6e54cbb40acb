"""Kinds of sentences through the reader: what stands in the codes, in `describe` and in lineage is the same."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from manifests.check import check
from manifests.corpus import Corpus
from manifests.dataset import load_facts
from manifests.lineage import Reads, examples_of, readings_of_key
from manifests.lock import Lock, load_lock, resolve, write_lock
from manifests.manifest import load
from manifests.testing import random_row, write_random_dataset
from visent.errors import UserError

TEXT = """\
version = 1
[datasets]
scenes = { path = "scenes", views = 2 }
clips = "clips"
[tasks.annotated]
dataset = "scenes"
kind = "discriminative"
sentence = ["image", "depth", "edge"]
role_order = "permuted"
[tasks.watched]
dataset = "clips"
kind = "natural"
sentence = ["frames", "mask"]
role_order = "permuted"
layout = "interleaved"
frames = { fps = 2, count = 3 }
[stages.s]
context = 128
share = { annotated = 2, watched = 1 }
"""
FRAMES = (16, 3, 9)


def write(folder: Path, text: str = TEXT) -> Lock:
    (folder / "manifest.toml").write_text(text)
    lock = resolve(str(folder / "manifest.toml"))
    write_lock(str(folder / "manifest.lock.json"), lock)
    return lock


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus")
    write_random_dataset(
        str(path / "scenes"), dict.fromkeys(("image", "depth", "edge"), "still"), examples={"train": 20}, views=2
    )
    write_random_dataset(
        str(path / "clips"), dict.fromkeys(("frames", "mask"), "clip"), examples={"train": 12}, frames=FRAMES,
        options={"fps": 5.0, "frames": None},
    )  # fmt: skip
    write(path)
    return path


def spelled(corpus: Corpus, task: str, number: int, seed: int = 0) -> list[str]:
    return [slot["role"] for slot in corpus.describe("s", task, number, seed)]


def test_roles_stand_in_one_order_in_all_repetitions_of_a_sentence_and_in_every_order_over_many(folder: Path) -> None:
    corpus = Corpus(load_lock(str(folder / "manifest.lock.json")))
    seen = Counter()
    for number in range(120):
        roles = spelled(corpus, "annotated", number)
        assert roles == [roles[slot % 3] for slot in range(8)]
        seen[tuple(roles[:3])] += 1
    assert len(seen) == 6
    assert any(spelled(corpus, "annotated", n) != spelled(corpus, "annotated", n, seed=1) for n in range(10))


def test_codes_descriptions_and_lineage_agree(folder: Path) -> None:
    corpus = Corpus(load_lock(str(folder / "manifest.lock.json")))
    schemas = {name: load_facts(str(folder / name)).schema for name in ("scenes", "clips")}
    reads = Reads(corpus=corpus, stage="s", batch=6, seed=3)
    numbers = np.arange(60)
    codes, tasks = corpus.sentences("s", numbers, 3)
    within = dict.fromkeys(range(2), 0)
    by_lineage: dict[int, list[tuple[str | None, str, int | None]]] = {number: [] for number in range(60)}
    for example in examples_of(reads, numbers):
        by_lineage[example.sentence] += [(example.key, role, frame) for role, frame in example.images]
    for number, (sentence, task) in enumerate(zip(codes, tasks.tolist(), strict=True)):
        name = corpus.task_names("s")[task]
        described = corpus.describe("s", name, within[task], 3)
        within[task] += 1
        assert by_lineage[number] == [(slot["key"], slot["role"], slot["frame"]) for slot in described]
        for image, slot in zip(sentence.reshape(8, 16), described, strict=True):
            dataset = ("scenes", "clips")[task]
            frames = FRAMES[int(slot["key"][-5:]) % 3]
            row = random_row(dataset, slot["key"], slot["view"], schemas[dataset], frames).codes[slot["role"]]
            assert np.array_equal(image, row if slot["frame"] is None else row[slot["frame"]])
    key = by_lineage[7][0][0]
    assert key is not None
    found = {reading.sentence for reading in readings_of_key(reads, key, 9)}
    assert found == {number for number, slots in by_lineage.items() if key in {slot[0] for slot in slots}}


def test_clips_at_a_rate_are_read_in_exact_steps_and_short_ones_left_out(folder: Path) -> None:
    lock = load_lock(str(folder / "manifest.lock.json"))
    assert lock.stage("s").task("watched").splits["train"].eligible == 8, "a third has 3 of the 6 frames needed"
    corpus = Corpus(lock)
    for number in range(20):
        slots = corpus.describe("s", "watched", number, 0)
        first = [slot["frame"] for slot in slots if slot["example"] == 0 and slot["role"] == "mask"]
        assert [frame - first[0] for frame in first] == [0, 2, 5], "floor of 0, 2.5 and 5"


def test_a_lock_of_usual_tasks_has_no_word_of_unusual_ones(folder: Path, tmp_path: Path) -> None:
    assert load_lock(str(folder / "manifest.lock.json")).to_json() == resolve(str(folder / "manifest.toml")).to_json()
    plain = (
        TEXT.replace('role_order = "permuted"\n', "")
        .replace("fps = 2, ", "")
        .replace('"scenes"', f'"{folder}/scenes"', 1)
    )
    text = str(write(tmp_path, plain.replace('"clips"', f'"{folder}/clips"', 1)).to_json()["stages"])
    assert not any(word in text for word in ("role_order", "fps", "step"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps = 2": "fps = 8"}, r"frames.fps is 8, but dataset 'clips' has 5 frames a second"),
        ({"fps = 2": "fps = 0"}, r"manifest.toml:16: .*fps is 0; expected frames per second above 0"),
        ({"fps = 2": "fps = 2, stride = 2"}, r"manifest.toml:16: .*give stride or fps, not both"),
        (
            {'role_order = "permuted"\nlayout': 'role_order = "random"\nlayout'},
            r"manifest.toml:14: unknown role_order .*'random'",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    folder: Path, tmp_path: Path, change: Mapping[str, str], message: str
) -> None:
    text = TEXT.replace('"scenes"', f'"{folder}/scenes"', 1).replace('"clips"', f'"{folder}/clips"', 1)
    for old, new in change.items():
        text = text.replace(old, new)
    with pytest.raises(UserError, match=message):
        write(tmp_path, text)


def test_check_says_what_the_lock_would_refuse(folder: Path, tmp_path: Path) -> None:
    text = TEXT.replace('"scenes"', f'"{folder}/scenes"', 1).replace('"clips"', f'"{folder}/clips"', 1)
    (tmp_path / "manifest.toml").write_text(text.replace("fps = 2", "fps = 8"))
    findings = check(load(str(tmp_path / "manifest.toml")))
    assert any("has 5 frames a second" in finding.message for finding in findings if finding.level == "error")
