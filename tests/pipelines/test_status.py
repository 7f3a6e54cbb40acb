"""What `visent status` says of datasets that are whole, under way, stopped, growing or being retried."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner
from made_media import picture_bytes, write_pictures

from manifests import files
from manifests.dataset import load_facts
from pipelines import worklog
from pipelines.job import Job
from pipelines.resuming.retry import retry_rejects
from pipelines.resuming.settle import record, settle
from pipelines.sources.folder import FolderSource
from pipelines.status import Status, dataset_status
from pipelines.tokenize import tokenize, tokenize_views
from pipelines.verify import verify_dataset
from visent.cli import visent
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> Job:
    """A finished dataset of 11 pictures, two of which cannot be read, with three views."""
    folder = tmp_path_factory.mktemp("whole")
    write_pictures(folder / "in", 9)
    (folder / "in" / "004x.png").write_bytes(b"")
    (folder / "in" / "007x.png").write_bytes(b"no picture")
    source = FolderSource(paths=(str(folder / "in"),), items_per_unit=3)
    made = Job(out=str(folder / "corpus" / "d"), name="d", tokenizer=tiny, source=source)
    tokenize(made, max_reject_fraction=0.5)
    tokenize_views(made.out, 3)
    return made


@pytest.fixture
def copied(whole: Job, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole.out, tmp_path / "d"))


def status(folder: Path) -> Status:
    return dataset_status(str(folder))


def begin(folder: Path, number: int, **fields: Any) -> None:
    """Says that a worker has begun a shard and loses what was made of it."""
    name = f"train-{number:05d}-of-00004"
    (folder / f"{name}.json").unlink(missing_ok=True)
    log = worklog.ShardLog(shard=f"{name}.parquet", host=socket.gethostname(), pid=os.getpid(), started=time.time() - 5)
    (folder / "log" / f"{name}.json").write_text(json.dumps(replace(log, **fields).to_json()))


def test_a_finished_dataset_is_complete_and_tells_its_rejects(copied: Path) -> None:
    found = status(copied)
    assert (found.state, found.wanted, found.done, found.missing, found.rows) == ("complete", 4, 4, 0, 9)
    assert found.rejects == {"empty": 1, "not-an-image": 1}
    assert found.views == {"1-2": 4}
    assert found.bytes == sum(path.stat().st_size for path in copied.glob("*.parquet"))
    assert not found.running
    assert not found.notes


def test_facts_and_receipts_tell_the_same(copied: Path) -> None:
    by_facts = status(copied)
    (copied / "dataset.json").unlink()
    by_receipts = status(copied)
    assert by_receipts.state == "unfinished"
    assert "all shards are there" in by_receipts.notes[0]
    assert replace(by_receipts, state="complete", notes=[], seconds={}) == replace(by_facts, seconds={})


def test_shards_are_done_running_stopped_failed_or_missing(copied: Path) -> None:
    (copied / "dataset.json").unlink()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    begin(copied, 0)
    begin(copied, 1, pid=gone.pid)
    begin(copied, 2, state="failed", ended=time.time(), error="cannot write: disk full")
    found = status(copied)
    assert (found.state, found.done, found.missing) == ("running", 1, 2)
    assert [one.shard for one in found.running] == ["train-00000-of-00004.parquet"]
    assert [one.shard for one in found.stopped] == ["train-00001-of-00004.parquet"]
    assert found.failed == {"train-00002-of-00004.parquet": "cannot write: disk full"}
    assert found.rejects == {"not-an-image": 1}
    assert found.images_per_second
    assert found.eta_seconds


def test_a_worker_elsewhere_is_alive_until_it_was_silent_for_long(copied: Path) -> None:
    (copied / "dataset.json").unlink()
    begin(copied, 0, host="elsewhere", started=time.time() - 60)
    begin(copied, 1, host="elsewhere", started=time.time() - 6000)
    found = status(copied)
    assert [one.shard[:11] for one in found.running] == ["train-00000"]
    assert [one.shard[:11] for one in found.stopped] == ["train-00001"]


def test_what_is_missing_is_known_before_anything_is_done(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 9)
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=2)
    made = Job(out=str(tmp_path / "d"), name="d", tokenizer=tiny, source=source)
    record(made, settle(made, made.source.listing()[0]))
    found = status(tmp_path / "d")
    assert (found.state, found.wanted, found.done, found.missing) == ("unfinished", 5, 0, 5)


def test_shards_that_are_gone_from_a_finished_dataset_are_told(copied: Path) -> None:
    (copied / "train-00003-of-00004.parquet").unlink()
    found = status(copied)
    assert (found.state, found.missing) == ("unfinished", 1)
    assert "1 shards of dataset.json are gone" in found.notes[0]


def test_growth_and_retry_under_way_are_told(copied: Path, whole: Job) -> None:
    grown = replace(whole, out=str(copied))
    items = [*grown.source.listing()[0]]
    items.append(replace(items[0], key="new"))
    record(grown, settle(grown, items))
    found = status(copied)
    assert (found.state, found.done, found.wanted) == ("unfinished", 4, 5)
    assert "has got more input" in found.notes[0]
    (copied / "retry").mkdir()
    (copied / "retry" / "plan.json").write_text(json.dumps({"train-00001-of-00004.parquet": "digest"}))
    assert "has made 0 of 1 shards" in status(copied).notes[1]


def test_logs_that_are_cut_or_gone_change_nothing_else(copied: Path) -> None:
    (copied / "dataset.json").unlink()
    for path in (copied / "log").iterdir():
        path.write_bytes(path.read_bytes()[:20])
    cut = status(copied)
    shutil.rmtree(copied / "log")
    assert status(copied) == cut
    assert cut.rows == 9


def test_the_command_prints_tables_or_json_and_says_by_its_status_whether_all_is_done(whole: Job, copied: Path) -> None:
    run = CliRunner().invoke
    done = run(visent, ["status", str(Path(whole.out).parent)])
    assert done.exit_code == 0
    assert "complete" in done.output
    assert "rejected: 1 empty" in done.output
    (copied / "dataset.json").unlink()
    (copied / "train-00003-of-00004.json").unlink()
    both = run(visent, ["status", whole.out, str(copied), "--json"])
    assert both.exit_code == 3
    assert [one["state"] for one in json.loads(both.output)["datasets"]] == ["complete", "unfinished"]
    nothing = run(visent, ["status", str(copied / "log")])
    assert isinstance(nothing.exception, UserError)


def test_a_dataset_in_a_bucket_grows_is_retried_and_tells_its_status(tmp_path: Path, tiny: str) -> None:
    url = f"memory://{tmp_path.name}/corpus/d"
    write_pictures(tmp_path / "in", 5)
    (tmp_path / "in" / "002.png").write_bytes(b"")
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=2)
    made = Job(out=url, name="d", tokenizer=tiny, source=source)
    tokenize(made, max_reject_fraction=0.5)
    tokenize_views(url, 2)
    (tmp_path / "in" / "002.png").write_bytes(picture_bytes(2))
    assert retry_rejects(url).rejects == {}
    write_pictures(tmp_path / "in", 7)
    assert tokenize(made).rows == 7
    assert not verify_dataset(url).problems
    found = dataset_status(url)
    assert (found.state, found.done, found.rows, found.rejects) == ("complete", 4, 7, {})
    assert not [name for name in fsspec.filesystem("memory").find(f"/{tmp_path.name}") if "/retry/" in name]
    assert files.list_names(f"{url}/listing") == ["000.jsonl.gz", "001.jsonl.gz"]
    assert load_facts(url).views() == 1
