"""Datasets, manifests and locks that somebody wrote by hand to do harm: one line, and nothing outside is touched."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests import files
from manifests.dataset import DatasetFacts, load_facts
from manifests.lock import load_lock, resolve, write_lock
from manifests.manifest import parse_text
from manifests.receipts import read_receipts
from manifests.shards import ShardInfo
from manifests.testing import write_random_dataset
from visent.errors import UserError
from visent.untrusted.names import is_plain, stays_below

MANIFEST = """version = 1
datasets.photos = "photos"
[tasks.photos]
dataset = "photos"
kind = "single"
sentence = ["image"]
[stages.images]
context = 16
share = { photos = 1.0 }
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_random_dataset(str(folder / "photos"), {"image": "still"}, examples={"train": 4})
    (folder / "manifest.toml").write_text(MANIFEST)
    write_lock(str(folder / "manifest.lock.json"), resolve(str(folder / "manifest.toml")))
    return folder


def receipt(corpus: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((corpus / "photos" / "dataset.json").read_text())["shards"][0]
    return value


OUTSIDE = ("../secret.parquet", "/etc/passwd", "a/b.parquet", "file:///a.parquet", "gs://b/a.parquet", ".parquet",
           "..", "", "a\0.parquet", "C:\\a.parquet", "..\\a.parquet", "a.pkl", "x" * 300 + ".parquet")  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_shard_lies_outside_of_its_dataset(corpus: Path, name: str) -> None:
    for field in ("file", "unit") if not name.endswith("pkl") else ("file",):
        with pytest.raises(UserError, match="fetch it again"):
            ShardInfo.from_json({**receipt(corpus), field: name})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_a_receipt_is_taken_or_one_line(corpus: Path, data: st.DataObject) -> None:
    value = receipt(corpus)
    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(VALUES)
    with contextlib.suppress(UserError):
        assert ShardInfo.from_json(ShardInfo.from_json(value).to_json()) == ShardInfo.from_json(value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_facts_is_taken_or_one_line(corpus: Path, data: st.DataObject) -> None:
    value = json.loads((corpus / "photos" / "dataset.json").read_text())
    holder = data.draw(st.sampled_from([value, value["card"], value["shards"][0]]))
    holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(VALUES)
    with contextlib.suppress(UserError):
        facts = DatasetFacts.from_json(value)
        assert facts.examples("train") >= 0
        assert DatasetFacts.from_json(facts.to_json()) == facts


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(data=st.data())
def test_any_value_in_a_lock_is_one_line(corpus: Path, data: st.DataObject) -> None:
    value = json.loads((corpus / "manifest.lock.json").read_text())
    task = value["stages"]["images"]["tasks"]["photos"]
    shard = value["datasets"]["photos"]["shards"][0]
    holder = data.draw(st.sampled_from([value, value["card"], value["stages"]["images"], task, shard]))
    name = data.draw(st.sampled_from(sorted(holder)))
    before, holder[name] = holder[name], data.draw(VALUES)
    changed = corpus / "changed.lock.json"
    changed.write_text(json.dumps(value))
    with contextlib.suppress(UserError):
        load_lock(str(changed))
        assert holder[name] == before or name in ("base", "fingerprint")  # which stands in the card, too


DEEP: dict[str, Callable[[Path], object]] = {
    "dataset.json": lambda folder: load_facts(str(folder)),
    "a.json": lambda folder: read_receipts(str(folder)),
    "manifest.lock.json": lambda folder: load_lock(str(folder / "manifest.lock.json")),
}


@pytest.mark.parametrize("name", DEEP)
def test_nesting_without_end_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    (tmp_path / name).write_text("[" * 100_000)
    with pytest.raises(UserError, match="nested too deeply"):
        DEEP[name](tmp_path)


@pytest.mark.parametrize("text", ["a = " + "[" * 500 + "]" * 500, "a = " + "[" * 100_000, "a" + ".a" * 5000 + " = 1"])
def test_a_manifest_nested_without_end_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="nested too deeply"):
        parse_text(text, "manifest.toml")


def test_names_that_stay_below() -> None:
    for name in ("a.jpg", "a/b/c.jpg", "..a/b..", "a b/ü.png", "...", "frame_00:01.jpg", "~/a"):
        assert stays_below(name), name
    for name in (
        "..",
        "a/../b",
        "/a",
        "\\a",
        "a\\..\\b",
        "file:///a",
        "s3://b/a",
        "C:\\a",
        "C:/a",
        "zip::file://a",
        "a\0b",
        "",
    ):
        assert not stays_below(name), name
    assert is_plain("train-00000-of-00002.parquet")
    assert not is_plain(".hidden")


def test_a_receipt_that_is_a_list_is_one_line() -> None:
    with pytest.raises(UserError, match=r"a receipt is a list of names and values, this is '\[1\]'"):
        ShardInfo.from_json([1])


def test_a_path_through_a_file_or_without_end_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileNotFoundError):
        files.stamp(tmp_path / "file" / "shard.parquet")
    for odd in ("a" * 5000, "a\0b"):
        with pytest.raises(UserError, match="cannot read"):
            files.stamp(tmp_path / odd)
