"""Shares that change at given sentences: numbering without gaps, rows read evenly, and what commands say of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import order
from manifests.check import check
from manifests.cli import manifest as command
from manifests.corpus import Corpus
from manifests.lane_numbers import LaneNumbers
from manifests.lanes import FEWEST_BLOCKS, LanedOrder
from manifests.lineage import Reads, readings_of_key, seen_by
from manifests.lock import Lock, load_lock, resolve, write_lock
from manifests.manifest import load
from manifests.mixture import Mixture, Piece
from manifests.testing import write_random_dataset
from visent.errors import UserError

Pieces = list[tuple[int, tuple[int, ...]]]


@st.composite
def schedules(draw: st.DrawFn, longest: int = 400) -> Pieces:
    tasks = draw(st.integers(1, 4))
    starts = [0, *sorted(draw(st.sets(st.integers(1, longest), max_size=4)))]
    counts = st.lists(st.integers(0, 9), min_size=tasks, max_size=tasks).filter(any).map(tuple)
    return [(start, draw(counts)) for start in starts]


def made(pieces: Pieces) -> Mixture:
    return Mixture(pieces=tuple(Piece(start=start, counts=counts) for start, counts in pieces))


@given(pieces=schedules())
def test_sentences_of_a_task_are_numbered_without_gaps_and_found_again(pieces: Pieces) -> None:
    mixture = made(pieces)
    numbers = np.arange(900, dtype=np.int64)
    tasks, within = mixture.tasks_of(numbers)
    for task in range(len(mixture.pieces[0].counts)):
        own = tasks == task
        assert np.array_equal(within[own], np.arange(own.sum()))
        assert np.array_equal(mixture.numbers_of(within[own], task), numbers[own])
    for number in (0, 1, 399, 400, 401, 900):
        assert mixture.sentences_before(number).tolist() == [
            int((tasks[:number] == task).sum()) for task in range(len(mixture.pieces[0].counts))
        ]


@given(pieces=schedules())
def test_each_piece_has_its_shares_from_its_first_sentence_on(pieces: Pieces) -> None:
    mixture = made(pieces)
    tasks, _ = mixture.tasks_of(np.arange(900, dtype=np.int64))
    ends = [*(piece.start for piece in mixture.pieces[1:]), 900]
    for piece, end in zip(mixture.pieces, ends, strict=True):
        taken = np.cumsum(np.eye(len(piece.counts))[tasks[piece.start : end]], axis=0)
        due = np.arange(1, end - piece.start + 1)[:, None] * np.array(piece.counts) / sum(piece.counts)
        assert np.abs(taken - due).max() < 1


@given(pieces=schedules(), more=schedules(), start=st.integers(401, 800))
def test_what_comes_later_in_a_schedule_changes_nothing_before(pieces: Pieces, more: Pieces, start: int) -> None:
    mixture = made(pieces)
    tasks = len(mixture.pieces[0].counts)
    later = Piece(start=start, counts=(*(more[0][1] * tasks)[: tasks - 1], 1))
    numbers = np.arange(start, dtype=np.int64)
    for a, b in zip(mixture.tasks_of(numbers), Mixture(pieces=(*mixture.pieces, later)).tasks_of(numbers), strict=True):
        assert np.array_equal(a, b)


@given(pieces=schedules(), lanes=st.sampled_from([1, 2, 16, 64]))
def test_the_lane_of_a_sentence_is_that_of_its_number_in_the_stage(pieces: Pieces, lanes: int) -> None:
    mixture = made(pieces)
    numbers = np.arange(900, dtype=np.int64)
    tasks, within = mixture.tasks_of(numbers)
    for task in np.unique(tasks).tolist():
        found = LaneNumbers(mixture, task, lanes)
        lane, rank = found.of(within[tasks == task])
        assert np.array_equal(lane, numbers[tasks == task] % lanes)
        assert rank.tolist() == [int((lane[:i] == own).sum()) for i, own in enumerate(lane)]
        assert [found.member(*place) for place in zip(lane.tolist(), rank.tolist(), strict=True)] == within[
            tasks == task
        ].tolist()
        for count in (0, 1, len(lane) // 2, len(lane)):
            before, own = found.before(count, found.part(count))
            assert before.tolist() == np.bincount(lane[:count], minlength=lanes).tolist()
            assert count == len(lane) or own == lane[count]


@settings(max_examples=15)
@given(pieces=schedules(), per_sentence=st.sampled_from([1, 3, 8]), views=st.integers(1, 2), data=st.data())
def test_large_tasks_read_each_row_once_before_any_twice_through_all_changes(
    pieces: Pieces, per_sentence: int, views: int, data: st.DataObject
) -> None:
    mixture = made(pieces)
    tasks, _ = mixture.tasks_of(np.arange(1200, dtype=np.int64))
    task = int(tasks[data.draw(st.integers(0, 1199))])
    sizes = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 4, FEWEST_BLOCKS)
    reading = LanedOrder(
        sizes, mixture=mixture, task=task, views=views, per_sentence=per_sentence, key=5, window=64
    )  # fmt: skip
    examples, sentences = int(sizes.sum()), int((tasks == task).sum())
    example, view = reading.rows_of(np.arange(sentences, dtype=np.int64))
    assert all(len(set(row)) == per_sentence for row in example.tolist())
    flat = example.reshape(-1)
    for start in range(0, len(flat), examples):
        assert len(set(flat[start : start + examples].tolist())) == len(flat[start : start + examples])
    wanted = int(flat[0])
    number, place = np.nonzero(example == wanted)
    found = reading.sentences_of(wanted, sentences=sentences)
    assert [part.tolist() for part in found] == [number.tolist(), place.tolist(), view[number, place].tolist()]


@settings(max_examples=15)
@given(pieces=schedules(), counts=st.lists(st.integers(0, 9), min_size=4, max_size=4), start=st.integers(401, 800))
def test_what_large_tasks_read_before_a_change_does_not_depend_on_it(
    pieces: Pieces, counts: list[int], start: int
) -> None:
    mixture = made(pieces)
    later = Piece(start=start, counts=(*counts[: len(mixture.pieces[0].counts) - 1], 1))
    sizes = np.full(FEWEST_BLOCKS, 3)
    for task, sentences in enumerate(mixture.sentences_before(start).tolist()):
        if sentences:
            before, after = (
                LanedOrder(sizes, mixture=each, task=task, views=2, per_sentence=4, key=1, window=64)
                for each in (mixture, Mixture(pieces=(*mixture.pieces, later)))
            )
            for a, b in zip(*(order.rows_of(np.arange(sentences)) for order in (before, after)), strict=True):
                assert np.array_equal(a, b)


@pytest.mark.parametrize("hosts", [4, 16, 64])
def test_hosts_read_few_blocks_besides_their_own_after_a_change_too(hosts: int) -> None:
    """A change costs each lane the blocks that it has begun; half of this epoch is read after it."""
    mixture = Mixture(pieces=(Piece(start=0, counts=(1, 1)), Piece(start=50_000, counts=(1, 2))))
    reading = LanedOrder(np.full(1000, 50), mixture=mixture, task=0, views=1, per_sentence=1, key=7, window=64)
    sentences = np.arange(50_000 + 75_000)
    tasks, within = mixture.tasks_of(sentences)
    assert (tasks == 0).sum() == 50_000
    opened = 0
    for host in range(hosts):
        mine = within[(tasks == 0) & (sentences % hosts == host)]
        opened += len(np.unique(reading.rows_of(mine)[0] // 50))
    assert opened <= 1.1 * 1000 + 3 * 64


TEXT = """\
version = 1
[datasets]
photos = "photos"
many = "many"
pairs = "pairs"
[tasks.photos]
dataset = "photos"
kind = "single"
sentence = ["image"]
[tasks.many]
dataset = "many"
kind = "single"
sentence = ["image"]
[tasks.depth]
dataset = "pairs"
kind = "generative"
sentence = ["depth", "image"]
[stages.s]
context = 64
sentences = 1000
share = { single = 0.8, depth = 0.2 }
within = { single = { photos = 3, many = 1 } }
"""
SCHEDULE = """\
[[stages.s.schedule]]  # more pairs
from = 250
share = { single = 0.2, depth = 0.8 }
[[stages.s.schedule]]
from = 500
share = { depth = 1.0 }
"""


def write(folder: Path, text: str) -> Lock:
    (folder / "manifest.toml").write_text(text)
    return resolve(str(folder / "manifest.toml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus")
    write_random_dataset(str(path / "photos"), {"image": "still"}, examples={"train": 300, "val": 9})
    write_random_dataset(str(path / "many"), {"image": "still"}, examples={"train": 300}, rows_per_shard=1)
    pairs: Any = {"image": "still", "depth": "still"}
    write_random_dataset(str(path / "pairs"), pairs, examples={"train": 40})
    write(path, TEXT + SCHEDULE)
    return path


def test_a_lock_holds_the_schedule_and_a_plain_one_does_not(folder: Path) -> None:
    lock = write(folder, TEXT + SCHEDULE)
    write_lock(str(folder / "manifest.lock.json"), lock)
    again = load_lock(str(folder / "manifest.lock.json"))
    assert again.digest == lock.digest
    assert again.stage("s").schedule == lock.stage("s").schedule
    assert [piece.start for piece in lock.stage("s").schedule] == [0, 250, 500]
    shares = {task.task.name: again.stage("s").share(task) for task in again.stage("s").tasks}
    assert shares == pytest.approx({"photos": 0.1875, "many": 0.0625, "depth": 0.75}, abs=1e-4)
    assert "schedule" not in write(folder, TEXT).to_json()["stages"]["s"]


def test_a_change_later_on_keeps_what_was_read_before_and_counts_it_as_seen(folder: Path, tmp_path: Path) -> None:
    before = Corpus(write(folder, TEXT), cache_dir=tmp_path)
    after = Corpus(write(folder, TEXT + SCHEDULE), cache_dir=tmp_path)
    numbers = np.arange(250)
    for a, b in zip(before.sentences("s", numbers, 0), after.sentences("s", numbers, 0), strict=True):
        assert np.array_equal(a, b)
    _, tasks = after.sentences("s", np.arange(250, 600), 0)
    assert np.bincount(tasks[:250]).tolist() == [38, 12, 200]
    assert set(tasks[250:].tolist()) == {2}
    reads = Reads(corpus=after, stage="s", batch=10, seed=0)
    assert [seen.sentences for seen in seen_by(reads, 49)] == [150 + 38, 50 + 12, 50 + 200]
    for number, task in enumerate(("photos", "many")):
        count = seen_by(reads, 49)[number].sentences
        keys = [slot["key"] for n in range(count) for slot in after.describe("s", task, n, 0)]
        assert len(set(keys[:300])) == min(300, len(keys)), "the change begins no new round"
        readings = [reading.sentence for reading in readings_of_key(reads, keys[0], 99, task=task)]
        ids, within = after.lock.stage("s").mixture.tasks_of(np.arange(1000))
        places = [i // 4 for i, key in enumerate(keys) if key == keys[0]]
        assert readings == [int(np.flatnonzero((ids == number) & (within == place))[0]) for place in places]


def test_a_sequential_stage_reads_one_task_after_another(folder: Path) -> None:
    lock = write(folder, TEXT + 'order = "sequential"\n')
    assert [(piece.start, sum(c > 0 for c in piece.counts)) for piece in lock.stage("s").schedule] == [
        (0, 1), (600, 1), (800, 1)
    ]  # fmt: skip
    tasks, _ = lock.stage("s").mixture.tasks_of(np.arange(1200))
    assert np.array_equal(tasks, np.repeat([0, 1, 2], [600, 200, 400]))


def call(*arguments: object) -> Any:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_commands_show_the_average_and_the_schedule(folder: Path, tmp_path: Path) -> None:
    write(folder, TEXT + SCHEDULE)
    path = folder / "manifest.toml"
    shown = call("show", path)
    assert "from sentence 250: photos 15.0 %, many 5.0 %, depth 80.0 %" in shown.output
    assert "75.0 %" in shown.output
    found = json.loads(call("show", path, "--json").stdout)
    assert [piece["from"] for piece in found["schedules"]["s"]] == [0, 250, 500]
    assert {row["task"]: row["wanted_sentences"] for row in found["tasks"]}["depth"] == pytest.approx(750)
    assert "from sentence 500: depth 100.0 %" in call("lock", path, "--out", tmp_path / "a.lock.json").output
    (folder / "plain.toml").write_text(TEXT)
    assert "the schedule of stage s differs" in call("diff", folder / "plain.toml", path).output
    for command_line in (("set", path, "tasks.depth.share=0.5"), ("balance", path, "--target", "equal")):
        error = call(*command_line).exception
        assert isinstance(error, UserError)
        assert "change by its schedule" in str(error)
    one = "stages.s.schedule=[{ from = 10, share = { depth = 1 } }]"
    assert call("set", folder / "plain.toml", one).exit_code == 0
    assert load(str(folder / "plain.toml")).pieces("s")[1] == (10, {"depth": 1.0})


def test_check_speaks_of_each_piece(folder: Path) -> None:
    (folder / "odd.toml").write_text(TEXT + SCHEDULE.replace("depth = 1.0", "depth = 3"))
    found = [finding.message for finding in check(load(str(folder / "odd.toml")))]
    assert "shares from sentence 500 on add up to 3; they are read as parts of that" in found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("from = 500", "from = 200", r"toml:27: .*from is 200; expected a sentence after 250 and before .*1000"),
        ("from = 500", "from = 1000", r"toml:27: .*from is 1000"),
        ("from = 500", "form = 500", r"toml:27: .*'form': did you mean 'from'"),
        ("from = 250", "from = 2.5", r"toml:24: .*from is 2.5; expected a whole number"),
        ("depth = 1.0", "dept = 1.0", r"toml:28: .*'dept': did you mean 'depth'"),
        ("depth = 1.0", "depth = -1.0", r"toml:28: .*schedule.1.share.depth is -1.0; expected a number of 0 or more"),
        ("depth = 1.0", "depth = 0", r"toml:28: .*no share is above 0"),
        ("sentences = 1000\n", "", r"toml:18: .*a schedule needs the sentences that are planned"),
        ("context = 64", 'context = 64\norder = "sequential"', r"toml:20: .*is a schedule by itself"),
        ("context = 64", 'context = 64\norder = "serial"', r"toml:20: .*'serial': .*known: mixed, sequential"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(folder: Path, old: str, new: str, message: str) -> None:
    (folder / "wrong.toml").write_text((TEXT + SCHEDULE).replace(old, new))
    with pytest.raises(UserError, match=message):
        load(str(folder / "wrong.toml"))


def test_locks_of_another_order_of_reading_are_refused(folder: Path, tmp_path: Path) -> None:
    write_lock(str(tmp_path / "a.lock.json"), write(folder, TEXT))
    value = json.loads((tmp_path / "a.lock.json").read_text())
    assert value.pop("order") == order.ORDER_VERSION
    (tmp_path / "a.lock.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"made for order of reading 1, .* lock again with `visent manifest lock"):
        load_lock(str(tmp_path / "a.lock.json"))
