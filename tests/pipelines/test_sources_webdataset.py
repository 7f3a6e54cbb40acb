"""Webdataset tars: img2dataset's layout, and tars cut at every place."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urls import at_url

from pipelines.sources.base import Example, Item, Reject, cut_into_units
from pipelines.sources.dataset import DatasetSource
from pipelines.sources.webdataset import Webdataset


def tar_bytes(members: dict[str, bytes] | list[tuple[str, bytes]], compression: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
        for name, content in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read(folder: Path, content: bytes, name: str = "00000.tar", **options: Any) -> list[Example | Reject]:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    item = Item(key="00000", files={"tar": name})
    found = list(Webdataset(root=str(folder), **options).examples(item))
    assert list(Webdataset(root=at_url(folder), **options).examples(item)) == found  # from a bucket, the same
    return found


FOUR = {f"{n:09d}.{ending}": f"{n} {ending}".encode() * 300 for n in range(4) for ending in ("jpg", "txt")}
WHOLE = tar_bytes(FOUR)
BLOCKS = 4  # of each member: a header, and 1500 bytes of content
END_OF_MEMBER = [512 * BLOCKS * n for n in range(1, 9)]


def test_every_sample_with_a_picture_is_one_example_in_the_tars_order(tmp_path: Path) -> None:
    found = read(tmp_path, tar_bytes({"b/2.jpg": b"two", "b/2.txt": b"x", "1.jpg": b"one", "3.txt": b"no picture"}))
    assert [example.key for example in found] == ["00000/b/2", "00000/1", "00000/3"]
    assert [example.media["image"].data for example in found if isinstance(example, Example)] == [b"two", b"one"]
    assert isinstance(found[-1], Reject)
    assert found[-1].reason == "no-image"


def test_a_uid_in_the_json_is_the_key(tmp_path: Path) -> None:
    notes = json.dumps({"uid": "22f4f3e48fefce72", "key": "0"}).encode()
    found = read(tmp_path, tar_bytes({"0.jpg": b"x", "0.json": notes, "1.jpg": b"x", "1.json": b"{cut"}))
    assert [example.key for example in found] == ["22f4f3e48fefce72", "00000/1"]


@given(st.integers(0, len(WHOLE) - 1))
def test_a_tar_cut_anywhere_keeps_the_samples_before_the_cut_and_says_that_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    found = read(tmp_path_factory.mktemp("cut"), WHOLE[:cut])
    examples = [one for one in found if isinstance(one, Example)]
    content_ends = [end - (BLOCKS - 1) * 512 + 1500 for end in END_OF_MEMBER[::2]]
    assert len(examples) == sum(end <= cut for end in content_ends)
    for example in examples:
        assert example.media["image"].data == FOUR[example.key.removeprefix("00000/") + ".jpg"]
    closed = cut >= END_OF_MEMBER[-1] + 512  # the first block of zeros is there
    assert [one.reason for one in found if isinstance(one, Reject)] == ([] if closed else ["tar-cut"])


@pytest.mark.parametrize("cut", END_OF_MEMBER)
def test_a_cut_between_two_members_is_noticed(tmp_path: Path, cut: int) -> None:
    """`tarfile` itself takes such a file for a whole one."""
    assert read(tmp_path, WHOLE[:cut])[-1].reason == "tar-cut"


def test_a_damaged_header_in_the_middle_is_noticed(tmp_path: Path) -> None:
    damaged = bytearray(WHOLE)
    damaged[END_OF_MEMBER[3] : END_OF_MEMBER[3] + 512] = b"\xff" * 512
    found = read(tmp_path, bytes(damaged))
    assert [type(one).__name__ for one in found] == ["Example", "Example", "Reject"]


@pytest.mark.parametrize("keep", [1.0, 0.7])
def test_compressed_tars_are_read_and_a_cut_one_is_rejected(tmp_path: Path, keep: float) -> None:
    content = tar_bytes(FOUR, "gz")
    found = read(tmp_path, content[: int(len(content) * keep)], "00000.tar.gz")
    assert any(isinstance(one, Reject) for one in found) == (keep < 1)
    assert keep < 1 or len(found) == 4


@pytest.mark.parametrize("content", [b"", b"x" * 2000, b"\0" * 100])
def test_what_is_no_tar_is_one_reject(tmp_path: Path, content: bytes) -> None:
    (found,) = read(tmp_path, content)
    assert isinstance(found, Reject)
    assert (found.key, found.stage, found.reason) == ("00000", "read", "tar-cut")


def test_member_names_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    (found,) = read(tmp_path, tar_bytes({"caf\udce9.jpg": b"x"}))
    assert found.key == "00000/caf%E9"


def test_shards_of_img2dataset_are_read_whole(samples: Path) -> None:
    source = DatasetSource(name="webdataset", dataset=Webdataset(root=str(samples / "datacomp")), items_per_unit=1)
    units = cut_into_units(source.listing()[0], source.items_per_unit, 0.0)
    assert [len(list(source.examples(unit))) for unit in units] == [33, 31]
    assert source.estimate([item for unit in units for item in unit.items]) == pytest.approx(64, abs=8)
    uids = {example.key for unit in units for example in source.examples(unit)}
    assert len(uids) == 64
    assert all(len(uid) == 32 for uid in uids)


def test_tars_of_pictures_alone_are_read(samples: Path) -> None:
    found = read_file(samples / "laion" / "image1.tar")
    assert [example.key for example in found] == [
        "image1/123_456",
        "image1/208_495",
        "image1/321_421",
        "image1/389_535",
    ]


def read_file(path: Path) -> list[Example | Reject]:
    return list(Webdataset(root=str(path.parent)).examples(Item(key=path.stem, files={"tar": path.name})))


def reasons(found: list[Example | Reject]) -> list[str]:
    return [one.reason if isinstance(one, Reject) else "" for one in found]


def test_members_of_a_sample_that_stand_apart_are_never_joined(tmp_path: Path) -> None:
    members = [("0.jpg", b"zero"), ("1.jpg", b"one"), ("0.txt", b"of zero"), ("1.txt", b"of one")]
    found = read(tmp_path, tar_bytes(members))
    assert reasons(found) == ["", "", "key-again", "key-again"]
    assert [one.meta for one in found if isinstance(one, Example)] == [{"member": "0.jpg"}, {"member": "1.jpg"}]
    assert [one.key for one in found] == ["00000/0", "00000/1", "00000/0", "00000/1"]


def test_a_doubled_sample_and_a_doubled_member_are_rejected(tmp_path: Path) -> None:
    members = [("0.jpg", b"a"), ("1.jpg", b"b"), ("1.JPG", b"c"), ("0.jpg", b"d"), ("2.jpg", b"e")]
    found = read(tmp_path, tar_bytes(members))
    assert reasons(found) == ["", "doubled-member", "key-again", ""]
    assert [one.media["image"].data for one in found if isinstance(one, Example)] == [b"a", b"e"]


def test_of_several_pictures_in_a_sample_none_is_chosen_unless_named(tmp_path: Path) -> None:
    content = tar_bytes({"0.jpg": b"photo", "0.edge.png": b"edge", "1.jpg": b"photo", "2.jpg": b"a", "2.png": b"b"})
    assert reasons(read(tmp_path, content)) == ["", "", "several-images"]
    found = read(tmp_path, content, columns=("image=jpg", "edge=edge.png"))
    assert reasons(found) == ["", "missing-edge", "missing-edge"]
    assert isinstance(found[0], Example)
    assert {role: still.data for role, still in found[0].media.items()} == {"image": b"photo", "edge": b"edge"}


def test_fields_of_the_json_are_kept_and_renamed_in_meta(tmp_path: Path) -> None:
    notes = json.dumps({"uid": "u", "similarity": 0.25, "NSFW": None, "caption": "of the json"}).encode()
    content = tar_bytes(
        {"0.jpg": b"x", "0.json": notes, "0.txt": b"of the txt", "1.jpg": b"x", "1.txt": "\u00e9".encode()}
    )
    found = read(tmp_path, content, meta=("score=similarity", "NSFW", "caption"))
    assert [one.meta for one in found if isinstance(one, Example)] == [
        {"score": 0.25, "caption": "of the json"},
        {"caption": "\u00e9"},
    ]


def test_a_row_without_the_field_that_names_it_is_rejected(tmp_path: Path) -> None:
    content = tar_bytes({"0.jpg": b"x", "0.json": b'{"id": 7}', "1.jpg": b"x"})
    found = read(tmp_path, content, key_column="id")
    assert [(one.key, *reasons([one])) for one in found] == [("7", ""), ("00000/1", "no-key")]
