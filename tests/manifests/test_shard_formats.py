"""Law 1 and 2: what is written is what is read, by us and by strangers, in bytes that only the rows decide."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests import files
from manifests.dataset import DatasetFacts, load_facts, write_facts
from manifests.schema import Row, Schema
from manifests.shards import (
    ShardInfo,
    ShardWriter,
    format_of,
    read_codes,
    read_keys,
    read_receipt,
    read_rows,
    shard_name,
    write_receipt,
)
from manifests.testing import TINY_CARD, random_row, write_random_dataset
from tokenizer.card import TokenizerCard
from visent.errors import UserError

GOLDEN = Path(__file__).parent / "golden"
FORMATS = ("parquet", "arrayrecord")
ROLES = {"image": "still", "frames": "clip", "edge": "still", "mask": "clip"}
MIXED = Schema(roles=ROLES, card=TINY_CARD)

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
meta = st.dictionaries(text, st.one_of(st.integers(-(2**53), 2**53), text, st.booleans(), st.none()), max_size=3)


@st.composite
def rows_of_a_shard(draw: st.DrawFn) -> list[Row]:
    keys = draw(st.lists(text, max_size=9, unique=True))
    frames = [draw(st.integers(0, 4)) for _ in keys]
    codes = [random_row("any", key, 0, MIXED, count).codes for key, count in zip(keys, frames, strict=True)]
    return [Row(key=k, view=0, codes=c, meta=draw(meta)) for k, c in zip(keys, codes, strict=True)]


def write(path: Path, rows: list[Row], schema: Schema = MIXED, chunk: int = 100) -> ShardInfo:
    with ShardWriter(str(path), schema) as writer:
        for start in range(0, len(rows), chunk):
            writer.append(rows[start : start + chunk])
        return writer.close()


def same(left: Row, right: Row) -> bool:
    codes = all(
        left.codes[role].dtype == np.uint16 and np.array_equal(left.codes[role], right.codes[role])
        for role in left.codes
    )
    return (left.key, left.view, left.meta, list(left.codes)) == (
        right.key,
        right.view,
        right.meta,
        list(ROLES),
    ) and codes


@pytest.mark.parametrize("format", FORMATS)
@given(rows=rows_of_a_shard(), chunk=st.integers(1, 5))
def test_reading_a_shard_gives_the_rows_that_were_written(
    tmp_path_factory: pytest.TempPathFactory, format: str, rows: list[Row], chunk: int
) -> None:
    path = tmp_path_factory.mktemp("shard") / f"train-00000.{format}"
    info = write(path, rows, chunk=chunk)
    found = list(read_rows(str(path), MIXED))
    assert len(found) == len(rows) == info.rows
    assert all(same(got, row) for got, row in zip(found, rows, strict=True))
    assert read_keys(str(path), MIXED) == [row.key for row in rows]
    for role in ROLES:
        images, offsets = read_codes(str(path), MIXED, role)
        assert len(offsets) == len(rows) + 1
        for i, row in enumerate(rows):
            assert np.array_equal(images[offsets[i] : offsets[i + 1]], row.codes[role].reshape(-1, 16))


@pytest.mark.parametrize("format", FORMATS)
def test_bytes_do_not_depend_on_how_rows_were_appended(tmp_path: Path, format: str) -> None:
    card = TokenizerCard(**{**TINY_CARD.to_json(), "grid": 16, "image_size": 256})
    schema = Schema(roles={"image": "still"}, card=card)
    rows = [random_row("same", f"{i}", 0, schema) for i in range(9000)]  # two row groups in Parquet
    sums = {write(tmp_path / f"train-{chunk}.{format}", rows, schema, chunk).sha256 for chunk in (1, 777, 9000)}
    assert len(sums) == 1


def golden_rows() -> list[Row]:
    rows = []
    for i in range(3):
        codes = {role: (np.arange(16, dtype=np.uint16) * (i + 1) + n) % 64 for n, role in enumerate(("image", "edge"))}
        codes |= {role: np.tile(codes["image"], (i, 1)) for role in ("frames", "mask")}
        rows.append(Row(key=f"a/é{i}", view=0, codes=codes, meta={"size": [4, i], "licence": "CC0"}))
    return rows


@pytest.mark.parametrize("format", FORMATS)
def test_files_of_schema_version_1_are_still_read(format: str) -> None:
    found = list(read_rows(str(GOLDEN / f"v1.{format}"), MIXED))
    assert all(same(got, row) for got, row in zip(found, golden_rows(), strict=True))


@pytest.mark.parametrize("format", FORMATS)
def test_the_format_on_disk_has_not_changed(tmp_path: Path, format: str) -> None:
    golden = GOLDEN / f"v1.{format}"
    path = tmp_path / golden.name
    write(path, golden_rows())
    if format == "parquet":
        import pyarrow.parquet as pq

        writers = [pq.read_metadata(file).created_by for file in (golden, path)]
        if writers[0] != writers[1]:
            pytest.skip(
                f"the golden file was written by {writers[0]}, this is {writers[1]}: only its rows are compared"
            )
    assert path.read_bytes() == golden.read_bytes()


def test_hugging_face_datasets_reads_parquet_without_our_code(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [random_row("hf", f"{i}", 0, MIXED, i % 3) for i in range(7)]
    write(tmp_path / "train-00000.parquet", rows)
    found = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "train-00000.parquet"), cache_dir=str(tmp_path / "hf"), split="train"
    )
    assert found.column_names == ["key", "view", *ROLES, "meta"]
    for got, row in zip(found, rows, strict=True):
        assert got["key"] == row.key
        assert json.loads(got["meta"]) == row.meta
        assert all(
            np.array_equal(np.array(got[role]).reshape(-1, 16), row.codes[role].reshape(-1, 16)) for role in ROLES
        )


def test_grain_reads_array_records_with_five_lines_of_numpy(tmp_path: Path) -> None:
    grain = pytest.importorskip("grain.python")
    facts = write_random_dataset(str(tmp_path / "d"), {"image": "still", "edge": "still"}, examples={"train": 6},
                                 format="arrayrecord")  # fmt: skip
    layout = json.loads((tmp_path / "d" / "dataset.json").read_text())["record_layout"]
    source = grain.ArrayRecordDataSource(str(tmp_path / "d" / facts.shards[0].file))
    head = np.dtype([(f["name"], f["type"], f["count"]) for f in layout["head"]])
    records = b"".join(source[i][: layout["head_bytes"]] for i in range(len(source)))
    rows = np.frombuffer(records, head)
    for i in range(6):
        expected = random_row("d", f"train/{i:05d}", 0, facts.schema)
        assert all(np.array_equal(rows[role][i], expected.codes[role]) for role in ("image", "edge"))
        record = source[i]
        end = layout["head_bytes"] + int(rows["key_bytes"][i].item())
        assert record[layout["head_bytes"] : end].decode() == expected.key
        assert json.loads(record[end:]) == expected.meta


def test_parquet_takes_at_most_13_and_a_half_bits_for_a_random_13_bit_code(tmp_path: Path) -> None:
    card = TokenizerCard(**{**TINY_CARD.to_json(), "image_size": 256, "grid": 16, "codebook_size": 8192})
    schema = Schema(roles={"image": "still"}, card=card)
    codes = np.random.default_rng(0).integers(0, 8192, (20_000, 256), dtype=np.uint16)
    rows = [Row(key=f"{i:08d}", view=0, codes={"image": row}, meta={"source": "x.jpg"}) for i, row in enumerate(codes)]
    info = write(tmp_path / "train-00000.parquet", rows, schema)
    assert info.bytes * 8 / codes.size <= 13.5


def test_views_lie_one_after_another_and_share_their_keys(tmp_path: Path) -> None:
    path = str(tmp_path / shard_name("train-00000-of-00001", (1, 3)))
    rows = [random_row("v", f"{i}", view, MIXED, 2) for view in (1, 2, 3) for i in range(4)]
    with ShardWriter(path, MIXED, views=(1, 3)) as writer:
        writer.append(rows)
    info = writer.info
    assert info is not None
    assert (info.unit, info.split) == ("train-00000-of-00001", "train")
    assert (info.first_view, info.last_view, info.rows_per_view, info.frames) == (1, 3, (4, 4, 4), {2: 4})
    with pytest.raises(ValueError, match=r"in order"), ShardWriter(path, MIXED, views=(1, 3)) as writer:
        writer.append([rows[4], rows[0]])
    with pytest.raises(ValueError, match=r"same keys"), ShardWriter(path, MIXED, views=(1, 3)) as writer:
        writer.append(rows[:-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": ""}, "key"),
        ({"key": "\udc80"}, "Unicode"),
        ({"codes": {"image": np.zeros(16, np.uint16)}}, "roles"),
        ({"codes": {"image": np.zeros(15, np.uint16)}}, "no still"),
        ({"codes": {"image": np.zeros(16, np.int32)}}, "int32|i32"),
        ({"codes": {"image": np.full(16, 64, np.uint16)}}, "outside the codebook"),
        ({"codes": {"mask": np.zeros((5, 16), np.uint16)}}, "differ in length"),
    ],
)
def test_a_row_that_does_not_fit_the_schema_is_refused_and_leaves_no_file(
    tmp_path: Path, change: dict, message: str
) -> None:
    row = random_row("bad", "k", 0, MIXED, 2)
    codes = change.get("codes", {})
    whole = codes if message == "roles" else {**row.codes, **codes}
    with pytest.raises((ValueError, TypeError), match=message), ShardWriter(str(tmp_path / "t-0.parquet"), MIXED) as w:
        w.append([Row(key=change.get("key", "k"), view=0, codes=whole)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("role", ["key", "view", "meta", "frames", "key_bytes", "meta_bytes", "two words"])
def test_a_role_of_a_name_that_a_format_needs_is_one_line(role: str) -> None:
    with pytest.raises(UserError, match=f"^role '{role}' cannot be"):
        Schema(roles={role: "still"}, card=TINY_CARD)
    if role in ("frames", "key_bytes", "meta_bytes"):
        Schema(roles={role: "clip"}, card=TINY_CARD)


@pytest.mark.parametrize("format", FORMATS)
def test_receipts_and_facts_read_back_as_written(tmp_path: Path, format: str) -> None:
    folder = str(tmp_path / "d")
    facts = write_random_dataset(folder, ROLES, examples={"train": 10, "val": 3}, views=3, frames=(1, 4), format=format)
    assert load_facts(folder).to_json() == facts.to_json()
    assert (facts.examples("train"), facts.examples("val"), facts.views()) == (10, 3, 3)
    assert facts.splits == ("train", "val")
    assert all(read_receipt(folder, shard.file) == shard for shard in facts.shards)
    assert all(format_of(shard.file) == format for shard in facts.shards)


def test_a_shard_without_receipt_or_of_another_size_counts_as_not_made(tmp_path: Path) -> None:
    folder = str(tmp_path / "d")
    facts = write_random_dataset(folder, {"image": "still"}, examples={"train": 16})
    first, second = facts.shards
    (tmp_path / "d" / first.file).write_bytes(b"short")
    (tmp_path / "d" / second.file).with_suffix(".json").unlink()
    assert read_receipt(folder, first.file) is None
    assert read_receipt(folder, second.file) is None


def test_rejects_are_summed_over_originals_only() -> None:
    common = dict(split="train", rows=1, rows_per_view=(1,), bytes=1, sha256="", keys_sha256="", unit="train-0")
    first = ShardInfo(file="a", first_view=0, last_view=0, rejects={"truncated": 2, "empty": 1}, **common)
    views = ShardInfo(file="b", first_view=1, last_view=1, rejects={"truncated": 2}, **common)
    other = ShardInfo(file="c", first_view=0, last_view=0, rejects={"empty": 1}, **{**common, "unit": "train-1"})
    facts = DatasetFacts(name="d", schema=MIXED, shards=[views, other, first])
    assert facts.rejects == {"empty": 2, "truncated": 2}


def test_a_dataset_without_facts_is_called_unfinished(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=r"no dataset at"):
            load_facts(str(folder))
    (tmp_path / "job.json").write_text("{}")
    with pytest.raises(UserError, match=r"run the same `visent tokenize` again"):
        load_facts(str(tmp_path))


def test_facts_of_another_schema_version_are_refused(tmp_path: Path) -> None:
    facts = write_random_dataset(str(tmp_path / "d"), {"image": "still"}, examples={"train": 1})
    files.write_json(tmp_path / "d" / "dataset.json", {**facts.to_json(), "version": 2})
    with pytest.raises(UserError, match=r"version 2, this visent reads version 1"):
        load_facts(str(tmp_path / "d"))


def test_everything_reads_and_writes_through_fsspec_urls() -> None:
    folder = "memory://corpus/d"
    facts = write_random_dataset(folder, {"image": "still"}, examples={"train": 3})
    assert load_facts(folder).to_json() == facts.to_json()
    rows = list(read_rows(files.join(folder, facts.shards[0].file), facts.schema))
    assert [row.key for row in rows] == ["train/00000", "train/00001", "train/00002"]
    assert read_receipt(folder, facts.shards[0].file) == facts.shards[0]
    write_receipt(folder, facts.shards[0])
    write_facts(folder, facts)
    assert files.list_names(folder) == ["dataset.json", "train-00000-of-00001.json", "train-00000-of-00001.parquet"]
