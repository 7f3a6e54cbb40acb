"""Lineage: what a step read and when a key was read, as the reader itself gives it."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from manifests.commands.lineage import lineage
from manifests.corpus import Corpus
from manifests.dataset import load_facts
from manifests.lineage import Reads, examples_of_step, readings_of_key, seen_by
from manifests.lock import Lock, resolve, write_lock
from manifests.schema import RoleKind
from manifests.shards import read_rows
from manifests.testing import random_row, write_random_dataset
from visent.errors import UserError

TEXT = """\
version = 1
[datasets]
pairs = { path = "pairs", views = 3 }
clips = "clips"
even = "even"
[tasks.depth]
dataset = "pairs"
kind = "discriminative"
sentence = ["image", "depth"]
[tasks.three]
dataset = "pairs"
kind = "generative"
sentence = ["depth", "image", "depth"]
[tasks.clips]
dataset = "clips"
kind = "natural"
sentence = ["mask", "frames"]
layout = "interleaved"
frames = { stride = [1, 2] }
[tasks.even]
dataset = "even"
kind = "natural"
sentence = ["frames"]
[stages.sequences]
context = 160
share = { depth = 0.4, three = 0.25, clips = 0.2, even = 0.15 }
"""
FRAMES = {"clips": (16, 3, 7), "even": (12,)}
BATCH = 12


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> Lock:
    """Stills in views and in ArrayRecord, clips of which a third is too short, clips of one length."""
    folder = tmp_path_factory.mktemp("corpus")
    pairs: dict[str, RoleKind] = {"image": "still", "depth": "still"}
    write_random_dataset(str(folder / "pairs"), pairs, examples={"train": 21}, views=4, format="arrayrecord")
    clips: dict[str, RoleKind] = {"frames": "clip", "mask": "clip"}
    write_random_dataset(str(folder / "clips"), clips, examples={"train": 20}, frames=FRAMES["clips"])
    write_random_dataset(str(folder / "even"), {"frames": "clip"}, examples={"train": 10}, frames=FRAMES["even"])
    (folder / "manifest.toml").write_text(TEXT)
    made = resolve(str(folder / "manifest.toml"))
    write_lock(str(folder / "manifest.lock.json"), made)
    return made


@pytest.fixture
def reads(lock: Lock) -> Reads:
    return Reads(corpus=Corpus(lock), stage="sequences", batch=BATCH, seed=3)


def codes_of(lock: Lock, dataset: str, key: str, view: int) -> dict[str, np.ndarray]:
    """The codes that `write_random_dataset` gave a row, made again from its name alone."""
    facts = load_facts(lock.folder(dataset))
    lengths = FRAMES.get(dataset, (0,))
    frames = lengths[int(key.split("/")[1]) % len(lengths)]
    return dict(random_row(dataset, key, view, facts.schema, frames).codes)


@pytest.mark.parametrize("step", [0, 7, 40])
def test_the_rows_of_a_step_hold_the_codes_that_the_trainer_reads(lock: Lock, reads: Reads, step: int) -> None:
    from trainer.batches import batch, numbers

    codes, ids, _ = batch(reads.corpus, "sequences", step, BATCH, 3)
    order = numbers(step, BATCH) - step * BATCH
    sentences: dict[int, list[np.ndarray]] = {}
    tasks: dict[int, str] = {}
    for example in examples_of_step(reads, step):
        assert example.key is not None
        stored = codes_of(lock, example.dataset, example.key, example.view)
        for role, frame in example.images:
            sentences.setdefault(example.sentence, []).append(stored[role] if frame is None else stored[role][frame])
        tasks[example.sentence] = example.task
    assert list(sentences) == list(range(step * BATCH, (step + 1) * BATCH))
    assert np.array_equal(np.stack([np.concatenate(images) for images in sentences.values()])[order], codes)
    assert [tasks[step * BATCH + at] for at in order] == [reads.corpus.task_names("sequences")[i] for i in ids]


def test_rows_are_those_that_stand_at_their_number_in_their_shard(lock: Lock, reads: Reads) -> None:
    for example in examples_of_step(reads, 5):
        folder = lock.folder(example.dataset)
        row = list(read_rows(f"{folder}/{example.shard}", load_facts(folder).schema))[example.row]
        assert (row.key, row.view) == (example.key, example.view)


def test_the_steps_of_a_key_are_those_of_a_scan(lock: Lock, reads: Reads) -> None:
    last = 30
    scanned: dict[tuple[str, str], list[tuple[int, int, str, int]]] = {}
    for step in range(last + 1):
        for example in examples_of_step(reads, step):
            assert example.key is not None
            entry = (step, example.sentence, example.task, example.view)
            scanned.setdefault((example.dataset, example.key), []).append(entry)
    keys = sorted({key for _, key in scanned} | {"train/00001"})  # the clip train/00001 is too short
    for key in keys:
        found = [(r.step, r.sentence, r.task, r.view) for r in readings_of_key(reads, key, last)]
        expected = [entry for dataset in lock.datasets for entry in scanned.get((dataset, key), [])]
        assert sorted(found) == sorted(expected)
        only = readings_of_key(reads, key, last, task="depth")
        assert [(r.step, r.sentence) for r in only] == [e[:2] for e in sorted(expected) if e[2] == "depth"]


def test_how_often_rows_were_seen_is_what_a_count_gives(reads: Reads) -> None:
    times: dict[str, dict[tuple[str, int], int]] = {}
    sentences: dict[str, set[int]] = {}
    for step in range(21):
        for example in examples_of_step(reads, step, keys=False):
            counted = times.setdefault(example.task, {})
            row = (example.shard, example.row)
            counted[row] = counted.get(row, 0) + 1
            sentences.setdefault(example.task, set()).add(example.sentence)
    for seen in seen_by(reads, 20):
        rows_read = [*times[seen.task].values()] + [0] * (seen.rows - len(times[seen.task]))
        assert seen.sentences == len(sentences[seen.task])
        assert seen.read == sum(rows_read)
        assert (seen.times, seen.once_more) == (min(rows_read), sum(count > min(rows_read) for count in rows_read))
        assert seen.epochs == pytest.approx(sum(rows_read) / len(rows_read))


def test_without_keys_no_shard_of_stills_or_of_equal_clips_is_opened(tmp_path: Path) -> None:
    write_random_dataset(str(tmp_path / "pairs"), {"image": "still", "depth": "still"}, examples={"train": 21}, views=3)
    write_random_dataset(str(tmp_path / "even"), {"frames": "clip"}, examples={"train": 10}, frames=(12,))
    text = TEXT.replace('clips = "clips"\n', "").replace("clips = 0.2, ", "")
    head, rest = text.split("[tasks.clips]")
    (tmp_path / "manifest.toml").write_text(head + rest[rest.index("[tasks.even]") :])
    lock = resolve(str(tmp_path / "manifest.toml"))
    for shard in tmp_path.rglob("*.parquet"):
        shard.unlink()
    reads = Reads(corpus=Corpus(lock), stage="sequences", batch=8, seed=0)
    assert len({example.sentence for example in examples_of_step(reads, 3, keys=False)}) == 8
    with pytest.raises(UserError, match="is missing"):
        list(examples_of_step(reads, 3))


def test_keys_of_a_changed_shard_are_refused(tmp_path: Path) -> None:
    write_random_dataset(str(tmp_path / "photos"), {"image": "still"}, examples={"train": 8})
    (tmp_path / "manifest.toml").write_text(
        'version = 1\n[datasets]\nphotos = "photos"\n[tasks.p]\ndataset = "photos"\nkind = "single"\n'
        'sentence = ["image"]\n[stages.s]\ncontext = 16\nshare = { p = 1 }\n'
    )
    lock = resolve(str(tmp_path / "manifest.toml"))
    shard = next((tmp_path / "photos").glob("*.parquet"))
    write_random_dataset(str(tmp_path / "other" / "photos"), {"image": "still"}, examples={"train": 7})
    shard.write_bytes(next((tmp_path / "other" / "photos").glob("*.parquet")).read_bytes())
    reads = Reads(corpus=Corpus(lock), stage="s", batch=8, seed=0)
    with pytest.raises(UserError, match="changed after it was locked"):
        list(examples_of_step(reads, 0))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(lineage, [str(argument) for argument in arguments])


def test_the_command_prints_a_batch_a_key_and_json(lock: Lock) -> None:
    path = f"{lock.base}/manifest.lock.json"
    shown = call(path, "--step", 4, "--batch", 6, "--seed", 3)
    assert shown.exit_code == 0, shown.output
    assert "sentences 24 to 29" in shown.output
    assert "train/000" in shown.output
    rows = call(path, "--step", 4, "--batch", 6, "--no-keys", "--task", "depth")
    assert "pairs/train-" in rows.output
    given = json.loads(call(path, "--step", 4, "--batch", 6, "--seed", 3, "--json").stdout)
    key = given["examples"][0]["key"]
    found = json.loads(call(path, "--step", 4, "--batch", 6, "--seed", 3, "--json", "--key", key).stdout)
    assert any(read["step"] == 4 for read in found["read"])
    assert {each["task"] for each in found["seen"]} == {"depth", "three", "clips", "even"}
    assert key in call(path, "--step", 4, "--batch", 6, "--seed", 3, "--key", key).output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--step", "1"], "--batch"),
        (["--step", "-1", "--batch", "4"], "steps count from 0"),
        (["--step", "1", "--batch", "0"], "--batch is 0"),
        (["--step", "1", "--batch", "4", "--key", "nothing"], "has the key 'nothing'"),
        (["--step", "1", "--batch", "4", "--stage", "sequence"], "did you mean 'sequences'"),
        (["--step", "1", "--batch", "4", "--task", "dept"], "did you mean 'depth'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(lock: Lock, options: list[str], message: str) -> None:
    result = call(f"{lock.base}/manifest.lock.json", *options)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
