"""Sentences of groups of one class: whole rounds, one class in a group, different ones in a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from manifests.corpus import Corpus
from manifests.groups import GroupedOrder
from manifests.lineage import Reads, readings_of_key
from manifests.lock import Lock, load_lock, resolve, write_lock
from manifests.testing import write_random_dataset
from visent.errors import UserError


@st.composite
def orders(draw: st.DrawFn) -> tuple[GroupedOrder, np.ndarray, dict[str, int]]:
    sizes = draw(st.lists(st.integers(1, 30), min_size=1, max_size=20))
    classes = np.random.default_rng(draw(st.integers(0, 99))).permutation(np.repeat(np.arange(len(sizes)), sizes))
    images = draw(st.integers(1, 5))
    setting = {"images": images, "views": draw(st.integers(1, 3)), "per_sentence": images * draw(st.integers(1, 5))}
    return GroupedOrder(classes, key=draw(st.integers(0, 2**63)), **setting), classes, setting


@given(given_order=orders())
def test_each_row_is_read_once_before_any_twice_and_no_sentence_holds_an_example_twice(given_order: Any) -> None:
    reading, classes, setting = given_order
    examples, views = len(classes), setting["views"]
    sentences = -(-3 * examples * views // setting["per_sentence"])
    example, view = reading.rows_of(np.arange(sentences))
    flat = example.reshape(-1)[: 3 * examples * views]
    assert (np.sort(flat.reshape(-1, examples), axis=1) == np.arange(examples)).all()
    rows = (flat * views + view.reshape(-1)[: len(flat)]).reshape(3, -1)
    assert (np.sort(rows, axis=1) == np.arange(examples * views)).all()
    if examples >= setting["per_sentence"]:
        assert {len(set(row)) for row in example.tolist()} == {setting["per_sentence"]}


@given(given_order=orders())
def test_all_groups_but_those_of_leftovers_are_of_one_class(given_order: Any) -> None:
    reading, classes, setting = given_order
    examples, images = len(classes), setting["images"]
    assume(examples >= 3 * setting["per_sentence"])
    sentences = examples // setting["per_sentence"]
    groups = classes[reading.rows_of(np.arange(sentences))[0]].reshape(-1, images)
    pure = sum(len(set(group)) == 1 for group in groups.tolist())
    whole = int((np.bincount(classes) // images).sum())
    begun_group = 1  # one may be taken apart where the round ends within a group
    last_sentence = setting["per_sentence"] // images
    assert pure >= whole - begun_group - last_sentence


@given(seed=st.integers(0, 999), images=st.integers(1, 4), groups=st.integers(1, 4), odd=st.integers(0, 3))
def test_classes_of_a_sentence_differ_where_there_are_enough(seed: int, images: int, groups: int, odd: int) -> None:
    classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(30), 8 + odd))
    reading = GroupedOrder(classes, images=images, views=1, per_sentence=images * groups, key=seed)
    sentences = classes[reading.rows_of(np.arange(4 * len(classes) // (images * groups)))[0]].reshape(
        -1, groups, images
    )
    for sentence in sentences.tolist():
        own = [group[0] for group in sentence if len(set(group)) == 1]
        assert len(set(own)) == len(own)


@given(seed=st.integers(0, 99), most=st.integers(10, 24))
def test_one_class_in_every_sentence_is_the_most_that_is_spread(seed: int, most: int) -> None:
    """24 sentences of 4 groups: a class of up to 24 groups, here after shuffling, comes at most once in each."""
    sizes = [most * 4, *[4] * (96 - most)]
    classes = np.repeat(np.arange(len(sizes)), sizes)
    reading = GroupedOrder(classes, images=4, views=1, per_sentence=16, key=seed)
    sentences = classes[reading.rows_of(np.arange(24))[0]].reshape(24, 4, 4)
    assert (sentences == sentences[:, :, :1]).all()
    assert ((sentences[:, :, 0] == 0).sum(axis=1) <= 1).all()


@given(given_order=orders(), data=st.data())
def test_where_an_example_is_read_is_what_the_reader_reads(given_order: Any, data: st.DataObject) -> None:
    reading, classes, setting = given_order
    sentences = data.draw(st.integers(1, 4 * len(classes) // setting["per_sentence"] + 1))
    wanted = data.draw(st.integers(0, len(classes) - 1))
    example, view = reading.rows_of(np.arange(sentences))
    number, place = np.nonzero(example == wanted)
    found = reading.sentences_of(wanted, sentences=sentences)
    assert [part.tolist() for part in found] == [number.tolist(), place.tolist(), view[number, place].tolist()]


@given(given_order=orders(), seed=st.integers(0, 99))
def test_any_selection_of_sentences_reads_the_same_rows(given_order: Any, seed: int) -> None:
    reading, classes, setting = given_order
    whole = reading.rows_of(np.arange(60))
    chosen = np.random.default_rng(seed).integers(0, 60, 20)
    again = GroupedOrder(classes, key=reading._key, **setting).rows_of(chosen)
    assert all(np.array_equal(part, all_of_it[chosen]) for part, all_of_it in zip(again, whole, strict=True))


def test_rounds_and_companions_differ() -> None:
    classes = np.repeat(np.arange(40), 40)
    reading = GroupedOrder(classes, images=4, views=1, per_sentence=16, key=1)
    example = reading.rows_of(np.arange(200))[0]
    assert not np.array_equal(example[:100], example[100:])
    together = {tuple(sorted(set(row))) for row in classes[example[:100]].tolist()}
    assert len(together) > 80, "the same classes are seldom together"


TEXT = """\
version = 1
[datasets]
birds = "birds"
[tasks.kinds]
dataset = "birds"
kind = "single"
sentence = ["image"]
group = { images = 2 }
[stages.s]
context = 96
share = { kinds = 1 }
"""


def write(folder: Path, text: str = TEXT) -> Lock:
    (folder / "manifest.toml").write_text(text)
    lock = resolve(str(folder / "manifest.toml"))
    write_lock(str(folder / "manifest.lock.json"), lock)
    return lock


def class_of(key: str) -> int:
    return int(key[-5:]) % 7


@pytest.mark.parametrize("format", ["parquet", "arrayrecord"])
@pytest.mark.parametrize("name", ["class", "class_index", "kind"])
def test_sentences_are_read_in_groups_of_what_the_rows_say(tmp_path: Path, format: Any, name: str) -> None:
    def meta(i: int) -> dict[str, Any]:
        return {name: i % 7 if name == "class_index" else f"bird {i % 7}"}

    write_random_dataset(str(tmp_path / "birds"), {"image": "still"}, examples={"train": 61, "val": 5}, views=2,
                         format=format, meta=meta)  # fmt: skip
    text = TEXT.replace("images = 2", f'by = "{name}", images = 2') if name == "kind" else TEXT
    corpus = Corpus(write(tmp_path, text))
    assert load_lock(str(tmp_path / "manifest.lock.json")).digest == corpus.lock.digest
    pure = 0
    for number in range(10):
        classes = [class_of(slot["key"]) for slot in corpus.describe("s", "kinds", number, 0)]
        pure += sum(classes[i] == classes[i + 1] for i in (0, 2, 4))
    assert pure >= 26
    reads = Reads(corpus=corpus, stage="s", batch=4, seed=0)
    key = corpus.describe("s", "kinds", 3, 0)[0]["key"]
    found = [reading.sentence for reading in readings_of_key(reads, key, 9)]
    assert found == [n for n in range(40) for slot in corpus.describe("s", "kinds", n, 0) if slot["key"] == key]
    held_out = Corpus(corpus.lock, split="val").describe("s", "kinds", 0, 0)
    assert all(slot["key"].startswith("val") for slot in held_out)
    assert len(list(Path(corpus._cache.folder).glob("*meta-*.npy"))) == 9, "shards of originals, read once"


def test_rows_without_a_class_are_named(tmp_path: Path) -> None:
    write_random_dataset(str(tmp_path / "birds"), {"image": "still"}, examples={"train": 30})
    with pytest.raises(UserError, match=r"row 'train/00000' has no class nor class_index in its meta \(it has source"):
        Corpus(write(tmp_path)).sentences("s", np.arange(2), 0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("images = 2", "images = 0", r"toml:8: .*group: images is 0"),
        ("images = 2", "image = 2", r"toml:8: .*'image': did you mean 'images'"),
        ('["image"]', '["image", "image"]', r"toml:8: .*group is for sentences of one role, this one has image image"),
        ("images = 2", "images = 4", r"holds 6 images, no whole groups of 4: use a context of 64 or 128"),
        ('["image"]', '["frames"]', r"group is for stills, 'frames' is a clip"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    roles: Any = {"image": "still", "frames": "clip"}
    write_random_dataset(str(tmp_path / "birds"), roles, examples={"train": 30})
    with pytest.raises(UserError, match=message):
        write(tmp_path, TEXT.replace(old, new))
