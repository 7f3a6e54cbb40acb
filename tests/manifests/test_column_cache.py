"""The cache of decoded columns: limited, shared by threads, filled from a bucket that fails now and then."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest

from manifests import files
from manifests.cache_limit import CacheLimit, bytes_allowed
from manifests.columns import ColumnCache
from manifests.corpus import Corpus
from manifests.dataset import DatasetFacts
from manifests.lock import resolve
from manifests.testing import write_random_dataset
from visent import storage
from visent.errors import UserError

TEXT = """\
version = 1
[datasets]
d = "d"
[tasks.t]
dataset = "d"
kind = "single"
sentence = ["image"]
[stages.s]
context = 16
share = { t = 1 }
"""


def dataset(folder: str, shards: int = 6) -> DatasetFacts:
    roles: Any = {"image": "still"}
    return write_random_dataset(files.join(folder, "d"), roles, examples={"train": 8 * shards}, rows_per_shard=8)


def codes_in(cache: ColumnCache, folder: str, facts: DatasetFacts) -> list[np.ndarray]:
    return [
        cache.column(files.join(folder, "d", info.file), info, facts.schema, "image").images for info in facts.shards
    ]


def test_a_limited_cache_keeps_what_was_used_last_and_reads_the_rest_again(tmp_path: Path) -> None:
    facts = dataset(str(tmp_path))
    one = ColumnCache(tmp_path / "all")
    whole = [np.array(codes) for codes in codes_in(one, str(tmp_path), facts)]
    size = (tmp_path / "all" / f"{facts.shards[0].sha256}.image.images.npy").stat().st_size
    small = ColumnCache(tmp_path / "small", limit_bytes=3.5 * size)
    for _ in range(2):
        for read, expected in zip(codes_in(small, str(tmp_path), facts), whole, strict=True):
            assert np.array_equal(read, expected)
            assert sum(file.stat().st_size for file in (tmp_path / "small").glob("*.npy")) <= 3.5 * size
    last = facts.shards[-1].sha256
    assert (tmp_path / "small" / f"{last}.image.images.npy").exists()


def test_room_is_made_by_removing_what_was_used_longest_ago(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.npy").write_bytes(bytes(100))
        os.utime(tmp_path / f"{number}.npy", (1000 - 100 * number, 0))
    CacheLimit(tmp_path, 400.0).make_room(100)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.npy", "1.npy"]


@pytest.mark.parametrize("text", ["much", "0", "-3", "nan"])
def test_a_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("VISENT_CACHE_GB", text)
    with pytest.raises(UserError, match=r"VISENT_CACHE_GB is .* expected gigabytes above 0"):
        bytes_allowed()


def test_threads_that_want_one_shard_decode_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = dataset(str(tmp_path), shards=1)
    cache = ColumnCache(tmp_path / "cache")
    written: list[Path] = []
    write = ColumnCache._write
    monkeypatch.setattr(
        ColumnCache, "_write", lambda self, path, content: (written.append(path), write(self, path, content))
    )
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: codes_in(cache, str(tmp_path), facts), range(16)))
    assert sum(str(path).endswith(".npy") for path in written) == 1


class Unsteady(type(fsspec.filesystem("memory"))):  # type: ignore[misc]
    """The memory filesystem, whose reads fail so many times before they work."""

    protocol = "unsteady"
    failures = 0
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def _fail(self) -> None:
        if Unsteady.failures > 0:
            Unsteady.failures -= 1
            raise TimeoutError("the bucket did not answer")

    def get_file(self, *arguments: Any, **options: Any) -> Any:
        self._fail()
        return super().get_file(*arguments, **options)

    def cat_file(self, *arguments: Any, **options: Any) -> Any:
        self._fail()
        return super().cat_file(*arguments, **options)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> str:
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    monkeypatch.setattr(storage, "PAUSES", (0.01, 0.01, 0.01))
    Unsteady.failures = 0
    dataset("unsteady://bucket")
    files.write_bytes("unsteady://bucket/manifest.toml", TEXT.encode())
    return "unsteady://bucket"


def test_a_bucket_that_fails_twice_and_then_works_is_read(bucket: str, tmp_path: Path) -> None:
    Unsteady.failures = 2
    corpus = Corpus(resolve(f"{bucket}/manifest.toml"), cache_dir=tmp_path)
    Unsteady.failures = 2
    codes, _ = corpus.sentences("s", np.arange(48), 0)
    again, _ = Corpus(corpus.lock, cache_dir=tmp_path).sentences("s", np.arange(48), 0)
    assert np.array_equal(codes, again)
    assert len(np.unique(codes, axis=0)) == 48


def test_a_bucket_that_never_answers_is_one_clear_line(bucket: str, tmp_path: Path) -> None:
    corpus = Corpus(resolve(f"{bucket}/manifest.toml"), cache_dir=tmp_path)
    Unsteady.failures = 99
    with pytest.raises(UserError, match=r"cannot read unsteady://bucket/d/train.*times in a row; check the URL"):
        corpus.sentences("s", np.arange(4), 0)


def test_prefetching_decodes_what_a_later_batch_needs(tmp_path: Path) -> None:
    dataset(str(tmp_path), shards=300)
    (tmp_path / "manifest.toml").write_text(TEXT)
    corpus = Corpus(resolve(str(tmp_path / "manifest.toml")), cache_dir=tmp_path / "cache")
    needed = len(np.unique(corpus.slots("s", "t", np.arange(16), 0).shard))
    corpus.prefetch("s", np.arange(16), 0)
    deadline = time.monotonic() + 30
    while len(there := list((tmp_path / "cache").glob("[!.]*.images.npy"))) < needed and time.monotonic() < deadline:
        time.sleep(0.01)
    before = {file: file.stat().st_mtime_ns for file in there}
    assert len(before) == needed > 4
    corpus.sentences("s", np.arange(16), 0)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").glob("[!.]*.images.npy")} == before


def test_many_datasets_are_read_where_few_files_may_be_open(tmp_path: Path) -> None:
    names = [f"d{i}" for i in range(3)]
    for name in names:
        roles: Any = {"image": "still"}
        write_random_dataset(str(tmp_path / name), roles, examples={"train": 40}, rows_per_shard=1)
    datasets = "".join(f'{name} = "{name}"\n' for name in names)
    tasks = "".join(f'[tasks.{n}]\ndataset = "{n}"\nkind = "single"\nsentence = ["image"]\n' for n in names)
    stage = "[stages.s]\ncontext = 16\nshare = { single = 1 }\n"
    (tmp_path / "manifest.toml").write_text(f"version = 1\n[datasets]\n{datasets}{tasks}{stage}")
    script = (
        "import resource, sys; import numpy as np\n"
        "from manifests.corpus import Corpus\n"
        "from manifests.lock import resolve\n"
        "lock = resolve(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "codes, _ = Corpus(lock).sentences('s', np.arange(240), 0)\n"  # two rounds
        "a, b = (part[np.lexsort(part.T)] for part in (codes[:120], codes[120:]))\n"
        "assert np.array_equal(a, b) and len(np.unique(a, axis=0)) == 120\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "manifest.toml")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
