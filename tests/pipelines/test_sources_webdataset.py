"""Webdataset tars: img2dataset's layout, and tars cut at every place."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.base import Example, Item, Reject, cut_into_units
from pipelines.sources.dataset import DatasetSource
from pipelines.sources.webdataset import Webdataset, samples


def tar_bytes(members: dict[str, bytes], compression: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read(folder: Path, content: bytes, name: str = "00000.tar") -> list[Example | Reject]:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return list(samples(Item(key="00000", files={"tar": name}), folder / name))


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
    return list(samples(Item(key=path.stem, files={"tar": path.name}), path))
