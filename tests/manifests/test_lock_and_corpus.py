"""Laws 5 and 8: a batch is a function of lock, seed and numbers, and changed shards are refused."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests import files
from manifests.corpus import Corpus
from manifests.dataset import load_facts
from manifests.lock import Lock, default_path, load_lock, resolve, write_lock
from manifests.schema import Schema
from manifests.shards import read_codes, read_rows
from manifests.testing import TINY_CARD, random_row, write_random_dataset
from tokenizer.card import TokenizerCard
from visent.errors import UserError

LENGTHS = (16, 7, 20)
TEXT = """\
version = 1
[datasets]
photos = "photos"
pairs = { path = "pairs", views = 3 }
clips = "clips"
[tasks.photos]
dataset = "photos"
kind = "single"
sentence = ["image"]
[tasks.depth]
dataset = "pairs"
kind = "discriminative"
sentence = ["image", "depth"]
[tasks.depth_to_image]
dataset = "pairs"
kind = "generative"
sentence = ["depth", "image"]
[tasks.clips]
dataset = "clips"
kind = "natural"
sentence = ["mask", "frames"]
layout = "interleaved"
frames = { stride = [1, 2] }
[stages.images]
context = 16
share = { photos = 1.0 }
[stages.sequences]
context = 256
share = { natural = 0.4, discriminative = 0.3, generative = 0.2, single = 0.1 }
"""


def make(folder: Path, text: str = TEXT) -> Lock:
    """Writes three datasets in both formats, a manifest and its lock."""
    write_random_dataset(str(folder / "photos"), {"image": "still"}, examples={"train": 50, "val": 20})
    pairs = {"image": "still", "depth": "still"}
    write_random_dataset(str(folder / "pairs"), pairs, examples={"train": 21}, views=4, format="arrayrecord")
    clips = {"frames": "clip", "mask": "clip"}
    write_random_dataset(str(folder / "clips"), clips, examples={"train": 30, "val": 9}, frames=LENGTHS)
    (folder / "manifest.toml").write_text(text)
    lock = resolve(str(folder / "manifest.toml"))
    write_lock(str(folder / "manifest.lock.json"), lock)
    return lock


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus")
    make(path)
    return path


@pytest.fixture
def corpus(folder: Path) -> Corpus:
    return Corpus(load_lock(str(folder / "manifest.lock.json")))


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_slot_holds_the_codes_of_the_row_it_is_described_as(folder: Path, split: str) -> None:
    corpus = Corpus(load_lock(str(folder / "manifest.lock.json")), split=split)
    schemas = {name: load_facts(str(folder / name)).schema for name in ("photos", "pairs", "clips")}
    for task in set(corpus.task_names("sequences")) - set(corpus.missing_tasks("sequences")):
        dataset = corpus.lock.stage("sequences").task(task).task.dataset
        sentences = corpus.task_sentences("sequences", task, np.arange(30), seed=7).reshape(30, 16, 16)
        for number, sentence in enumerate(sentences):
            for codes, slot in zip(sentence, corpus.describe("sequences", task, number, 7), strict=True):
                frames = LENGTHS[int(slot["key"][-5:]) % 3]
                row = random_row(dataset, slot["key"], slot["view"], schemas[dataset], frames).codes[slot["role"]]
                assert slot["key"].startswith(split)
                assert np.array_equal(codes, row if slot["frame"] is None else row[slot["frame"]])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 64), max_size=5), seed=st.integers(0, 2**40), hosts=st.sampled_from([1, 2, 4]))
def test_a_batch_does_not_depend_on_what_was_read_before_nor_on_the_number_of_hosts(
    corpus: Corpus, folder: Path, cuts: list[int], seed: int, hosts: int
) -> None:
    numbers = np.arange(1000, 1064)
    codes, tasks = corpus.sentences("sequences", numbers, seed)
    parts = [corpus.sentences("sequences", part, seed) for part in np.split(numbers, sorted(cuts))]
    assert np.array_equal(np.concatenate([part[0] for part in parts]), codes)
    assert np.array_equal(np.concatenate([part[1] for part in parts]), tasks)
    fresh = Corpus(load_lock(str(folder / "manifest.lock.json")))
    for host in range(hosts):
        assert np.array_equal(fresh.sentences("sequences", numbers[host::hosts], seed)[0], codes[host::hosts])


def test_shares_are_exact_over_a_period(corpus: Corpus) -> None:
    _, tasks = corpus.sentences("sequences", np.arange(0, 252_000, 252), 0)
    assert set(tasks.tolist()) <= {0, 1, 2, 3}
    _, tasks = corpus.sentences("sequences", np.arange(2520), 0)
    assert np.abs(np.bincount(tasks) - 2520 * np.array([0.1, 0.3, 0.2, 0.4])).max() < 1
    assert corpus.task_names("sequences") == ["photos", "depth", "depth_to_image", "clips"]


def test_seeds_and_stages_read_in_different_orders(corpus: Corpus) -> None:
    numbers = np.arange(50)
    first, again, other = (corpus.sentences("images", numbers, seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(
        corpus.task_sentences("sequences", "photos", numbers[:3], 0).reshape(-1, 16)[:48], first[:48]
    )


def test_adding_a_task_reorders_no_other_task(folder: Path, tmp_path: Path, corpus: Corpus) -> None:
    more = TEXT.replace(
        "[tasks.photos]", '[tasks.again]\ndataset = "photos"\nkind = "single"\nsentence = ["image"]\n[tasks.photos]'
    )
    shutil.copytree(folder, tmp_path / "c")
    (tmp_path / "c" / "manifest.toml").write_text(more)
    wider = Corpus(resolve(str(tmp_path / "c" / "manifest.toml")))
    assert wider.lock.digest != corpus.lock.digest
    for task in corpus.task_names("sequences"):
        old, new = (c.task_sentences("sequences", task, np.arange(20), 3) for c in (corpus, wider))
        assert np.array_equal(old, new)


def test_views_are_read_for_training_and_lowering_them_reads_a_prefix(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "c")
    for views in (1, 2, 4):
        (tmp_path / "c" / "manifest.toml").write_text(TEXT.replace("views = 3", f"views = {views}"))
        lock = resolve(str(tmp_path / "c" / "manifest.toml"))
        corpus = Corpus(lock)
        rows = lock.stage("sequences").task("depth").splits["train"].rows
        slots = [s for n in range(-(-rows // 8)) for s in corpus.describe("sequences", "depth", n, 0)][: 2 * rows]
        seen = {(slot["key"], slot["view"]) for slot in slots}
        assert len(seen) == rows == 21 * views
        assert {view for _, view in seen} == set(range(views))
        assert any(shard.first_view for shard in lock.datasets["pairs"].shards) == (views > 1)


def test_more_views_than_exist_name_the_command_that_makes_them(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "c")
    (tmp_path / "c" / "manifest.toml").write_text(TEXT.replace("views = 3", "views = 9"))
    with pytest.raises(UserError, match=r"has 4 of the 9 views .*visent tokenize --views-from"):
        resolve(str(tmp_path / "c" / "manifest.toml"))


def test_clips_that_are_too_short_are_counted_and_never_read(corpus: Corpus) -> None:
    count = corpus.lock.stage("sequences").task("clips").splits["train"]
    assert (count.examples, count.eligible) == (30, 20)
    keys = {s["key"] for n in range(40) for s in corpus.describe("sequences", "clips", n, 0)}
    assert len(keys) == 20
    assert all(LENGTHS[int(key[-5:]) % 3] >= 8 for key in keys)


def test_tasks_without_val_rows_are_reported_and_refused(folder: Path) -> None:
    val = Corpus(load_lock(str(folder / "manifest.lock.json")), split="val")
    assert val.missing_tasks("sequences") == ["depth", "depth_to_image"]
    assert val.examples("sequences", "photos") == 20
    with pytest.raises(UserError, match=r"'depth' .* has no row in split 'val': tokenize"):
        val.task_sentences("sequences", "depth", np.arange(2), 0)
    with pytest.raises(UserError, match=r"no row in split 'val'"):
        val.sentences("sequences", np.arange(20), 0)
    with pytest.raises(UserError, match=r"split 'vall': did you mean 'val'"):
        Corpus(val.lock, split="vall")


def test_unknown_stages_and_tasks_are_named(corpus: Corpus) -> None:
    with pytest.raises(UserError, match=r"stage 'sequence': did you mean 'sequences'"):
        corpus.sentences("sequence", np.arange(2), 0)
    with pytest.raises(UserError, match=r"task of stage 'images' 'foto'"):
        corpus.task_sentences("images", "foto", np.arange(2), 0)


def test_a_lock_reads_back_and_its_digest_does_not_know_where_it_lies(folder: Path, tmp_path: Path) -> None:
    lock = load_lock(default_path(str(folder / "manifest.toml")))
    assert lock.to_json() == resolve(str(folder / "manifest.toml")).to_json()
    shutil.copytree(folder, tmp_path / "moved")
    moved = load_lock(str(tmp_path / "moved" / "manifest.lock.json"))
    assert moved.digest == lock.digest == resolve(str(tmp_path / "moved" / "manifest.toml")).digest
    assert str(folder) not in json.dumps(lock.to_json())
    shutil.rmtree(tmp_path / "moved" / "clips")
    numbers = np.arange(3)
    assert np.array_equal(Corpus(moved).task_sentences("images", "photos", numbers, 0),
                          Corpus(lock).task_sentences("images", "photos", numbers, 0))  # fmt: skip


def test_a_lock_written_elsewhere_still_finds_its_datasets(folder: Path, tmp_path: Path) -> None:
    lock = resolve(str(folder / "manifest.toml"))
    write_lock(str(tmp_path / "run.lock.json"), lock)
    found = load_lock(str(tmp_path / "run.lock.json"))
    assert found.digest == lock.digest
    assert len(Corpus(found).sentences("images", np.arange(4), 0)[0]) == 4


def test_a_lock_that_was_edited_is_refused(folder: Path, tmp_path: Path) -> None:
    value = json.loads((folder / "manifest.lock.json").read_text())
    value["stages"]["images"]["context"] = 32
    (tmp_path / "l.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"was changed after it was written"):
        load_lock(str(tmp_path / "l.json"))
    with pytest.raises(UserError, match=r"visent manifest lock"):
        load_lock(str(tmp_path / "absent.json"))


def damaged(tmp_path: Path, dataset: str) -> tuple[Lock, Path]:
    lock = make(tmp_path)
    shard = lock.datasets[dataset].shards[0]
    return lock, tmp_path / dataset / shard.file


@pytest.mark.parametrize(("dataset", "task"), [("photos", "photos"), ("pairs", "depth")])
@pytest.mark.parametrize("fault", ["truncated", "flipped", "missing"])
@pytest.mark.parametrize("cached", [False, True])
def test_a_shard_that_changed_after_the_lock_is_refused(
    tmp_path: Path, dataset: str, task: str, fault: str, cached: bool
) -> None:
    lock, path = damaged(tmp_path, dataset)
    if cached:
        Corpus(lock).task_sentences("sequences", task, np.arange(20), 0)
    data = path.read_bytes()
    middle = len(data) // 2
    changed = {"truncated": data[:middle], "flipped": data[:9] + bytes([data[9] ^ 1]) + data[10:], "missing": b""}[
        fault
    ]
    path.write_bytes(changed)
    if fault == "missing":
        path.unlink()
    message = "is missing" if fault == "missing" else "changed after it was locked: sha256 .*, expected"
    with pytest.raises(UserError, match=rf"{path.name} {message}"):
        Corpus(lock).task_sentences("sequences", task, np.arange(20), 0)


@pytest.mark.parametrize("dataset", ["photos", "pairs"])
def test_a_truncated_shard_is_no_shard_for_any_reader(tmp_path: Path, dataset: str) -> None:
    lock, path = damaged(tmp_path, dataset)
    schema = Schema(roles=lock.datasets[dataset].roles, card=lock.card)
    data = path.read_bytes()
    for end in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(UserError, match=r"tokenize it again"):
            list(read_rows(str(path), schema))
        with pytest.raises(UserError, match=r"tokenize it again"):
            read_codes(str(path), schema, "image")


def test_tokens_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    other = TokenizerCard(**{**TINY_CARD.to_json(), "name": "other", "weights_sha256": "1" * 64})
    make(tmp_path)
    write_random_dataset(str(tmp_path / "clips"), {"frames": "clip", "mask": "clip"}, examples={"train": 8}, card=other)
    with pytest.raises(UserError, match=f"'clips' holds tokens of tokenizer 'other' .{other.fingerprint}."):
        resolve(str(tmp_path / "manifest.toml"))
    shard = load_facts(str(tmp_path / "clips")).shards[0].file
    with pytest.raises(UserError, match=f"expected 'random' .{TINY_CARD.fingerprint}.: tokenize it again"):
        read_codes(str(tmp_path / "clips" / shard), Schema(roles={"frames": "clip"}, card=TINY_CARD), "frames")


def test_a_shard_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    lock, path = damaged(tmp_path, "photos")
    table = pq.read_table(path)
    text = table.schema.metadata[b"visent"].replace(b'"version":1', b'"version":9')
    pq.write_table(table.replace_schema_metadata({b"visent": text}), path)
    with pytest.raises(UserError, match=r"schema version 9, this visent reads version 1"):
        list(read_rows(str(path), Schema(roles={"image": "still"}, card=lock.card)))
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(UserError, match=r"not written by visent"):
        list(read_rows(str(path), Schema(roles={"image": "still"}, card=lock.card)))


def test_views_made_from_a_changed_source_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "pairs" / "dataset.json"
    value = json.loads(path.read_text())
    views = next(shard for shard in value["shards"] if shard["first_view"] == 1)
    views["keys_sha256"] = "0" * 64
    files.write_json(path, value)
    with pytest.raises(UserError, match=r"hold different keys"):
        resolve(str(tmp_path / "manifest.toml"))


def test_half_written_files_of_a_killed_process_are_never_read(tmp_path: Path) -> None:
    make(tmp_path)
    left = tmp_path / "photos" / ".tmp-0123-train-00000-of-00007.parquet"
    left.write_bytes(b"PAR1 half a shard")
    assert left.name not in files.list_names(tmp_path / "photos")
    assert resolve(str(tmp_path / "manifest.toml")).datasets["photos"].shards
    assert files.remove_temporaries(tmp_path / "photos") == 1
    assert not left.exists()


@pytest.mark.parametrize("format", ["parquet", "arrayrecord"])
def test_a_full_disk_leaves_no_shard_and_one_line(tmp_path: Path, format: str) -> None:
    """The limit on file size stands for the full disk: the kernel refuses the write half-way through the file."""
    code = (
        "from manifests.testing import write_random_dataset\n"
        "from visent.errors import UserError\n"
        "try:\n"
        f"    write_random_dataset({str(tmp_path / 'd')!r}, {{'image': 'still'}}, examples={{'train': 4000}},\n"
        f"                         rows_per_shard=4000, format={format!r})\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cannot write ")
    assert done.stdout.count("\n") == 1
    assert list((tmp_path / "d").iterdir()) == []


def test_a_folder_that_cannot_be_written_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make folder"):
        write_random_dataset(str(tmp_path / "file" / "d"), {"image": "still"}, examples={"train": 1})
    with pytest.raises(UserError, match=r"cannot write .*No such file"):
        files.write_json(tmp_path / "absent" / "x.json", {})


def test_the_cache_is_written_once_and_named_by_content(folder: Path, tmp_path: Path) -> None:
    lock = load_lock(str(folder / "manifest.lock.json"))
    Corpus(lock, cache_dir=tmp_path).task_sentences("images", "photos", np.arange(50), 0)
    names = sorted(path.name for path in tmp_path.iterdir())
    shards = [shard for shard in lock.datasets["photos"].shards if shard.split == "train"]
    expected = [f"{s.sha256}.{end}" for s in shards for end in ("checked.json", "image.images.npy")]
    assert names == sorted(expected)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    Corpus(lock, cache_dir=tmp_path).task_sentences("images", "photos", np.arange(50), 0)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
