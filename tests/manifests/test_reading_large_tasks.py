"""Tasks of many shards: the laws of reading hold through the reader, and a host decodes only what it reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests.corpus import Corpus
from manifests.lineage import Reads, readings_of_key
from manifests.lock import Lock, resolve
from manifests.testing import write_random_dataset

TEXT = """\
version = 1
[datasets]
photos = { path = "photos", views = 2 }
clips = "clips"
[tasks.photos]
dataset = "photos"
kind = "single"
sentence = ["image"]
[tasks.clips]
dataset = "clips"
kind = "natural"
sentence = ["frames"]
frames = { stride = 1, count = 2 }
[stages.s]
context = 32
share = { photos = 3, clips = 1 }
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Lock:
    folder = tmp_path_factory.mktemp("large")
    roles: Any = {"image": "still"}
    write_random_dataset(str(folder / "photos"), roles, examples={"train": 300}, views=2, rows_per_shard=1)
    roles = {"frames": "clip"}
    write_random_dataset(
        str(folder / "clips"), roles, examples={"train": 520}, rows_per_shard=2, frames=(1, 2, 3, 2, 1)
    )
    (folder / "manifest.toml").write_text(TEXT)
    return resolve(str(folder / "manifest.toml"))


def slots(corpus: Corpus, task: str, sentences: int) -> list[list[dict[str, Any]]]:
    return [corpus.describe("s", task, number, 0) for number in range(sentences)]


def test_every_row_in_every_view_is_read_once_in_an_epoch(corpus: Lock, tmp_path: Path) -> None:
    reader = Corpus(corpus, cache_dir=tmp_path)
    read = [(slot["key"], slot["view"]) for sentence in slots(reader, "photos", 300) for slot in sentence]
    assert len(read) == len(set(read)) == 600
    assert len({key for key, _ in read[:300]}) == 300, "all originals or views once before any twice"


def test_clips_that_are_too_short_are_left_out_without_opening_others(corpus: Lock, tmp_path: Path) -> None:
    eligible = corpus.stage("s").task("clips").splits["train"].eligible
    reader = Corpus(corpus, cache_dir=tmp_path)
    read = [sentence[0]["key"] for sentence in slots(reader, "clips", eligible)]
    assert len(set(read)) == eligible < 520


@pytest.mark.parametrize("hosts", [2, 16])
def test_hosts_read_the_same_global_batches_and_decode_their_part(corpus: Lock, tmp_path: Path, hosts: int) -> None:
    numbers = np.arange(400, dtype=np.int64)
    whole, tasks = Corpus(corpus, cache_dir=tmp_path / "one").sentences("s", numbers, 0)
    decoded = []
    for host in range(hosts):
        cache = tmp_path / f"{host}"
        codes, ids = Corpus(corpus, cache_dir=cache).sentences("s", numbers[host::hosts], 0)
        assert np.array_equal(codes, whole[host::hosts])
        assert np.array_equal(ids, tasks[host::hosts])
        decoded.append(len(list(cache.glob("*.images.npy"))))
    alone = len(list((tmp_path / "one").glob("*.images.npy")))
    assert sum(decoded) <= 1.1 * alone + hosts


def test_lineage_finds_each_reading_of_a_key_of_a_large_task(corpus: Lock, tmp_path: Path) -> None:
    reader = Corpus(corpus, cache_dir=tmp_path)
    reads = Reads(corpus=reader, stage="s", batch=8, seed=0)
    ids = reader.sentences("s", np.arange(121 * 8), 0)[1]
    for number, task in enumerate(("photos", "clips")):
        wanted = reader.describe("s", task, 5, 0)[0]["key"]
        found = {(reading.sentence, reading.view) for reading in readings_of_key(reads, wanted, 120, task=task)}
        scanned = {
            (n, slot["view"])
            for place, n in enumerate(np.flatnonzero(ids == number).tolist())
            for slot in reader.describe("s", task, place, 0)
            if slot["key"] == wanted
        }
        assert found == scanned
        assert found
