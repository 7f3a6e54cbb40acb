"""DataComp and LAION: tars with a parquet beside, and which samples are taken."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from made_media import picture_bytes
from reading_datasets import read_all, source_of

from manifests.dataset import load_facts
from pipelines.cli import tokenize
from pipelines.sources.datacomp import DataComp
from pipelines.sources.laion import LAION
from pipelines.sources.uids import HALVES, count_different, halves, held, read_uids
from visent.errors import UserError


def tables(samples: Path) -> list[dict[str, Any]]:
    shards = sorted((samples / "datacomp" / "shards").glob("*.parquet"))
    return [row for path in shards for row in pq.read_table(path).to_pylist()]


def scores(samples: Path) -> dict[str, float]:
    table = pq.read_table(samples / "datacomp" / "metadata" / "00000.parquet")
    return dict(zip(table["uid"].to_pylist(), table["clip_b32_similarity_score"].to_pylist(), strict=True))


def test_the_real_shards_give_every_sample_that_was_fetched(samples: Path) -> None:
    found = read_all(DataComp(root=str(samples / "datacomp")))
    fetched = {row["uid"]: row for row in tables(samples) if row["status"] == "success"}
    assert len(fetched) == 64
    assert set(found.examples) == set(fetched)
    assert found.rejects == {}
    assert found.note == "left out: 3 samples that img2dataset could not fetch"
    for uid, example in found.examples.items():
        assert example.meta["caption"] == fetched[uid]["caption"]
        assert found.pixels[uid]["image"][0].shape == (fetched[uid]["height"], fetched[uid]["width"], 3)


def test_a_score_that_stands_in_the_metadata_alone_selects(samples: Path) -> None:
    least, most = 0.2, 0.35
    dataset = DataComp(root=str(samples / "datacomp"), at_least=(f"clip_b32_similarity_score={least}",),
                       at_most=(f"CLIP_B32_similarity_score={most}",))  # fmt: skip
    found = read_all(dataset)
    fetched = {row["uid"] for row in tables(samples) if row["status"] == "success"}
    expected = {uid for uid, score in scores(samples).items() if uid in fetched and least <= score <= most}
    assert 5 < len(expected) < 60
    assert set(found.examples) == expected
    assert found.rejects == {}
    assert f"{64 - len(expected)} samples outside of the selection" in found.note
    assert source_of(dataset).estimate(found.items) == len(expected)


def test_a_size_and_a_column_beside_the_tar_select(samples: Path) -> None:
    found = read_all(DataComp(root=str(samples / "datacomp"), min_size=400, at_least=("original_width=1000",)))
    expected = {row["uid"] for row in tables(samples) if row["status"] == "success"
                and min(row["width"], row["height"]) >= 400 and row["original_width"] >= 1000}  # fmt: skip
    assert 0 < len(expected) < 64
    assert set(found.examples) == expected


@pytest.mark.parametrize("is_sorted", [True, False])
@pytest.mark.parametrize("header", [True, False])
def test_a_list_of_uids_selects(samples: Path, tmp_path: Path, is_sorted: bool, header: bool) -> None:
    """The split into halves is the publisher's: the number of 32 hex digits, divided by 2^64."""
    uids = sorted(row["uid"] for row in tables(samples) if row["status"] == "success")[5:15]
    numbers = [divmod(int(uid, 16), 2**64) for uid in [*uids, uids[3], uids[3], "0" * 31 + "1"]]
    listed = np.array(sorted(numbers) if is_sorted else numbers[::-1], "u8,u8")
    path = tmp_path / "uids.npy"
    if header:
        np.save(path, listed)
    else:
        listed.tofile(path)
    found = read_all(DataComp(root=str(samples / "datacomp"), uids=str(path)))
    assert set(found.examples) == set(uids)
    assert found.rejects == {}
    for part in ("54 samples outside of the selection", "2 repetitions in the list", "1 listed uids that no tar holds"):
        assert part in found.note


def test_a_tar_without_a_wanted_sample_is_no_shard(samples: Path, tmp_path: Path) -> None:
    first = pq.read_table(samples / "datacomp" / "shards" / "00000000.parquet")
    uid = next(row["uid"] for row in first.to_pylist() if row["status"] == "success")
    np.save(tmp_path / "uids.npy", halves([uid]))
    found = read_all(DataComp(root=str(samples / "datacomp"), uids=str(tmp_path / "uids.npy")))
    assert [item.key for item in found.items] == ["shards/00000000"]
    assert list(found.examples) == [uid]


def test_what_is_no_list_of_uids_is_refused(tmp_path: Path, samples: Path) -> None:
    np.save(tmp_path / "other.npy", np.zeros((3, 2)))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    for name in ("other.npy", "cut.npy", "absent.npy"):
        with pytest.raises(UserError, match=r"--uids .*" + name):
            read_all(DataComp(root=str(samples / "datacomp"), uids=str(tmp_path / name)))


@given(st.lists(st.integers(0, 2**128 - 1), max_size=30), st.lists(st.integers(0, 2**128 - 1), max_size=5))
def test_a_uid_is_found_in_a_sorted_list_exactly_when_it_is_there(listed: list[int], others: list[int]) -> None:
    uids = np.sort(halves([f"{number:032x}" for number in listed]))
    assert [int(a) << 64 | int(b) for a, b in uids.tolist()] == sorted(listed)
    wanted = [*listed, *others]
    assert held(uids, halves([f"{number:x}" for number in wanted])).tolist() == [n in listed for n in wanted]
    assert count_different(uids) == len(set(listed))


def test_an_unsorted_list_is_sorted_and_a_sorted_one_stays_on_the_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([(1, 2), (1, 3), (2, 0)], HALVES))
    np.save(tmp_path / "b.npy", np.array([(1, 3), (1, 2), (2, 0)], HALVES))
    assert isinstance(read_uids(str(tmp_path / "a.npy")), np.memmap)
    assert read_uids(str(tmp_path / "a.npy")).tolist() == read_uids(str(tmp_path / "b.npy")).tolist()


def write_shard(root: Path, rows: list[dict[str, Any]], *, parquet: bool = True, jsons: bool = True) -> None:
    """Writes a tar as img2dataset does; a row without `in_tar` is known to the parquet alone."""
    root.mkdir(exist_ok=True, parents=True)
    with tarfile.open(root / "00000.tar", "w") as tar:
        for row in rows:
            if not row.get("in_tar", True):
                continue
            notes = {name: value for name, value in row.items() if name != "in_tar"}
            members = {"jpg": picture_bytes(int(row["key"]), format="JPEG"), "json": json.dumps(notes).encode()}
            for ending, content in list(members.items())[: 2 if jsons else 1]:
                info = tarfile.TarInfo(f"{row['key']}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    if parquet:
        kept = [{name: value for name, value in row.items() if name != "in_tar"} for row in rows]
        pq.write_table(pa.Table.from_pylist(kept), root / "00000.parquet")


ROWS: list[dict[str, Any]] = [
    {"key": "000000000", "SIMILARITY": 0.25, "NSFW": "UNLIKELY", "status": "success"},
    {"key": "000000001", "SIMILARITY": 0.35, "NSFW": "UNSURE", "status": "success"},
    {"key": "000000002", "SIMILARITY": 0.45, "NSFW": "UNLIKELY", "status": "success"},
    {"key": "000000003", "SIMILARITY": 0.55, "NSFW": "UNLIKELY", "status": "failed_to_download", "in_tar": False},
    {"key": "000000004", "SIMILARITY": None, "NSFW": "UNLIKELY", "status": "success"},
]


@pytest.mark.parametrize("parquet", [True, False])
def test_columns_in_any_case_select_from_the_parquet_or_the_json_files(tmp_path: Path, parquet: bool) -> None:
    write_shard(tmp_path, ROWS, parquet=parquet)
    dataset = LAION(root=str(tmp_path), at_least=("similarity=0.3",), meta=("score=similarity",))
    found = read_all(dataset)
    assert {key: example.meta for key, example in found.examples.items()} == {
        "00000/000000001": {"score": 0.35},
        "00000/000000002": {"score": 0.45},
    }
    assert "2 samples outside of the selection" in found.note
    both = read_all(LAION(root=str(tmp_path), at_least=("similarity=0.3",), only=("nsfw=UNLIKELY",)))
    assert list(both.examples) == ["00000/000000002"]


def test_tars_of_jpg_alone_are_read_with_what_the_parquet_knows(tmp_path: Path) -> None:
    write_shard(tmp_path, [{**row, "uid": f"{n:032x}"} for n, row in enumerate(ROWS)], jsons=False)
    found = read_all(LAION(root=str(tmp_path), meta=("similarity",), at_most=("similarity=0.4",)))
    assert {key: example.meta for key, example in found.examples.items()} == {
        f"{0:032x}": {"similarity": 0.25},
        f"{1:032x}": {"similarity": 0.35},
    }


def test_the_real_tar_of_jpg_alone_is_read(samples: Path) -> None:
    found = read_all(LAION(root=str(samples / "laion")))
    assert list(found.examples) == [f"image1/{name}" for name in ("123_456", "208_495", "321_421", "389_535")]
    with pytest.raises(UserError, match=r"column of image1.tar 'similarity'.*the known ones are: key|similarity"):
        read_all(LAION(root=str(samples / "laion"), at_least=("similarity=0.3",)))


def test_a_sample_that_the_parquet_has_and_the_tar_lacks_is_rejected(tmp_path: Path) -> None:
    write_shard(tmp_path, [*ROWS, {**ROWS[2], "key": "000000009", "in_tar": False}])
    assert read_all(LAION(root=str(tmp_path))).rejects == {"00000/000000009": "missing-image"}
    assert read_all(LAION(root=str(tmp_path), at_least=("similarity=0.3",))).rejects == {
        "00000/000000009": "missing-image"
    }


def test_a_sample_is_not_read_from_a_tar_that_was_cut(tmp_path: Path) -> None:
    write_shard(tmp_path, ROWS)
    whole = (tmp_path / "00000.tar").read_bytes()
    (tmp_path / "00000.tar").write_bytes(whole[: 512 * 8])
    found = read_all(LAION(root=str(tmp_path)))
    assert {"00000": "tar-cut", "00000/000000004": "missing-image"}.items() <= found.rejects.items()
    assert len(found.examples) + len(found.rejects) == 4 + 1  # the samples fetched, and the cut


@pytest.mark.parametrize("keep", [0, 300, 512 * 8])
def test_a_cut_tar_without_parquet_is_a_reject_whatever_is_wanted(tmp_path: Path, keep: int) -> None:
    write_shard(tmp_path, ROWS, parquet=False)
    (tmp_path / "00001.tar").write_bytes((tmp_path / "00000.tar").read_bytes()[:keep])
    found = read_all(LAION(root=str(tmp_path), at_least=("similarity=0.4",)))
    assert found.rejects == {"00001": "tar-cut"}
    assert list(found.examples) == ["00000/000000002"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at_least": ("similarity",)}, "expected COLUMN=VALUE"),
        ({"at_most": ("similarity=high",)}, "'high' is no number"),
        ({"min_size": -1}, "--min-size is -1"),
        ({"meta": ("a=", "b")}, "no new NAME=COLUMN"),
        ({"at_least": ("NSF=0.3",)}, "did you mean 'NSFW'"),
        ({"at_least": ("NSFW=0.3",)}, "cannot be compared"),
        ({"meta": ("NSFX",)}, "did you mean 'NSFW'"),
    ],
)
def test_a_condition_that_cannot_be_met_is_explained(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_shard(tmp_path, ROWS)
    with pytest.raises(UserError, match=message):
        read_all(LAION(root=str(tmp_path), **options))


def test_a_damaged_parquet_is_explained(tmp_path: Path) -> None:
    write_shard(tmp_path, ROWS)
    (tmp_path / "00000.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(UserError, match=r"cannot read .*00000.parquet"):
        read_all(LAION(root=str(tmp_path), at_least=("similarity=0.3",)))


def test_from_shards_to_rows_through_the_command(tmp_path: Path, tiny: str) -> None:
    write_shard(tmp_path / "in", ROWS)
    arguments = ["laion", "--root", tmp_path / "in", "--at-least", "similarity=0.2", "--at-most", "similarity=0.4",
                 "--only", "nsfw=UNSURE", "--meta", "score=similarity", "--out", tmp_path / "laion"]  # fmt: skip
    result = CliRunner().invoke(tokenize, [str(argument) for argument in (*arguments, "--tokenizer", tiny)])
    assert result.exit_code == 0, result.output
    assert "3 samples outside of the selection" in result.output
    assert load_facts(str(tmp_path / "laion")).config["options"]["at_least"] == ["similarity=0.2"]
    (row,) = pq.read_table(next((tmp_path / "laion").glob("*.parquet"))).to_pylist()
    assert row["key"] == "00000/000000001"
    assert json.loads(row["meta"])["score"] == 0.35
