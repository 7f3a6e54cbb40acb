"""TFRecord files: TensorFlow's own bytes, damaged records, features as columns."""

import base64
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_media import picture_bytes
from made_records import example_bytes, framed, write_records
from reading_datasets import read_all, source_of

from pipelines.sources.tfrecord import TFRecord
from pipelines.sources.tfrecords import Fault, features, masked_crc, records
from tokenizer.images import decode_image
from visent.errors import UserError

# Written by tf.io.TFRecordWriter of TensorFlow 2.21: an Example, and an empty record.
TENSORFLOWS = base64.b64decode(
    "0QAAAAAAAACfySHZCs4BCgkKBWVtcHR5EgAKGgoRaW1hZ2UvY2xhc3MvbGFiZWwSBRoDCgEHCh0KEGltYWdlL2NsYXNzL3RleHQS"
    "CQoHCgV0csOkawpeCg1pbWFnZS9lbmNvZGVkEk0KSwpJiVBORw0KGgoAAAANSUhEUgAAAAQAAAACCAIAAADwyuo0AAAAEElEQVR4"
    "nGP8z4AATEhsBgAZNQEDGy9LEgAAAABJRU5ErkJgggomChZpbWFnZS9vYmplY3QvYmJveC94bWluEgwSCgoIAACAPgAAAD+WwGjA"
    "AAAAAAAAAAApA5gH2OqCog=="
)


def test_what_tensorflow_wrote_is_read_as_it_meant_it(tmp_path: Path) -> None:
    (tmp_path / "x.tfrecord").write_bytes(TENSORFLOWS)
    first, second = records(str(tmp_path / "x.tfrecord"))
    assert isinstance(first, bytes)
    found = features(first)
    assert isinstance(found, dict)
    encoded = found.pop("image/encoded")
    assert np.array_equal(decode_image(encoded), np.full((2, 4, 3), (255, 0, 0)))
    assert found == {
        "image/class/label": 7,
        "image/class/text": "träk".encode(),
        "image/object/bbox/xmin": [0.25, 0.5],
        "empty": [],
    }
    assert second == b""
    assert framed(first) + framed(b"") == TENSORFLOWS


def test_the_checksum_is_crc32c_turned_and_masked() -> None:
    """RFC 3720, B.4: 32 bytes of zeros have the CRC-32C 0x8A9136AA."""
    assert masked_crc(bytes(32)) == ((0x8A9136AA >> 15 | 0x8A9136AA << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_tensorflow_reads_and_writes_the_same(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="needs the [tensorflow] extra")
    made = [example_bytes({"a": [1, -2], "b": b"x", "c": [0.5, 1.5]}), b"", b"x" * 5000]
    path = write_records(tmp_path / "ours", made)
    assert [one.numpy() for one in tf.data.TFRecordDataset(str(path))] == made
    example = tf.train.Example.FromString(made[0])
    assert list(example.features.feature["a"].int64_list.value) == [1, -2]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in made:
            writer.write(record)
    assert (tmp_path / "theirs").read_bytes() == path.read_bytes()


def examples(count: int, **more: Any) -> list[bytes]:
    return [
        example_bytes({"image/encoded": picture_bytes(n), "image/class/label": n, "image/filename": f"{n}.png", **more})
        for n in range(count)
    ]


def test_each_record_is_a_row_and_the_split_is_that_of_the_name(tmp_path: Path) -> None:
    write_records(tmp_path / "train-00000-of-00001", examples(3))
    write_records(tmp_path / "validation-00000-of-00001", examples(2))
    (tmp_path / "notes.txt").write_text("no records")
    (tmp_path / "packed.tfrecord.gz").write_bytes(gzip.compress(b"".join(map(framed, examples(1)))))
    found = read_all(TFRecord(root=str(tmp_path), meta=("class_index=image/class/label", "name=image/filename")))
    expected = [f"train-00000-of-00001/{n:08d}" for n in range(3)] + [
        f"validation-00000-of-00001/{n:08d}" for n in range(2)
    ]
    assert sorted(found.examples) == sorted([*expected, "packed.tfrecord.gz/00000000"])
    assert found.examples[expected[2]].meta == {"class_index": 2, "name": "2.png"}
    assert {unit.split: len(unit.items) for unit in found.units} == {"train": 2, "val": 1}
    assert np.array_equal(found.pixels[expected[1]]["image"][0], decode_image(picture_bytes(1)))
    assert found.rejects == {}
    train = source_of(TFRecord(root=str(tmp_path)), ("val",))
    assert train.estimate(train.listing()[0]) == 2


def test_several_pictures_of_a_record_are_roles(tmp_path: Path) -> None:
    write_records(tmp_path / "x.tfrecord", examples(2, mask=picture_bytes(9)))
    dataset = TFRecord(root=str(tmp_path), columns=("image=image/encoded", "edge=mask"), key_column="image/filename")
    found = read_all(dataset)
    assert list(found.examples) == ["0.png", "1.png"]
    assert np.array_equal(found.pixels["0.png"]["edge"][0], decode_image(picture_bytes(9)))


def test_a_damaged_record_is_rejected_and_the_next_one_read(tmp_path: Path) -> None:
    made = [framed(record) for record in [*examples(3), b"no example", example_bytes({"image/encoded": b"text"}),
                                          example_bytes({"other": 1})]]  # fmt: skip
    damaged = bytearray(made[1])
    damaged[40] ^= 1
    (tmp_path / "x.tfrecord").write_bytes(b"".join([made[0], bytes(damaged), *made[2:]]))
    found = read_all(TFRecord(root=str(tmp_path)))
    assert list(found.examples) == ["x.tfrecord/00000000", "x.tfrecord/00000002"]
    assert found.rejects == {
        "x.tfrecord/00000001": "damaged",
        "x.tfrecord/00000003": "no-example",
        "x.tfrecord/00000004": "not-an-image",
        "x.tfrecord/00000005": "missing-image",
    }


WHOLE = [framed(bytes([n]) * 100) for n in range(3)]


@given(st.integers(0, 3 * 116 - 1))
def test_a_file_cut_anywhere_keeps_the_records_before_the_cut_and_says_that_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "x.tfrecord"
    path.write_bytes(b"".join(WHOLE)[:cut])
    found = list(records(str(path)))
    assert [one for one in found if isinstance(one, bytes)] == [bytes([n]) * 100 for n in range(cut // 116)]
    faults = [one.reason for one in found if isinstance(one, Fault)]
    assert faults == ([] if cut % 116 == 0 else ["file-cut"])


def test_a_damaged_length_ends_the_file_and_a_gone_or_cut_gzip_file_is_a_fault(tmp_path: Path) -> None:
    damaged = bytearray(b"".join(WHOLE))
    damaged[116 + 3] = 0x7F
    (tmp_path / "x").write_bytes(bytes(damaged))
    assert [one.reason if isinstance(one, Fault) else "" for one in records(str(tmp_path / "x"))] == ["", "damaged"]
    (tmp_path / "y").write_bytes(gzip.compress(b"".join(WHOLE))[:-12])
    assert [one.reason for one in records(str(tmp_path / "y")) if isinstance(one, Fault)] == ["unreadable"]
    assert [one.reason for one in records(str(tmp_path / "z")) if isinstance(one, Fault)] == ["missing"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ("image=image/encoder",)}, "did you mean 'image/encoded'"),
        ({"meta": ("image/class",)}, "feature of x.tfrecord 'image/class'"),
        ({"key_column": "id"}, "feature of x.tfrecord 'id'"),
    ],
)
def test_features_that_are_not_there_are_explained(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_records(tmp_path / "x.tfrecord", examples(1))
    with pytest.raises(UserError, match=message):
        read_all(TFRecord(root=str(tmp_path), **options))


def test_two_kinds_of_pictures_without_a_choice_are_explained(tmp_path: Path) -> None:
    write_records(tmp_path / "x.tfrecord", [example_bytes({"left": picture_bytes(0), "right": picture_bytes(1)})])
    with pytest.raises(UserError, match=r"several columns of pictures \(left, right\)"):
        read_all(TFRecord(root=str(tmp_path)))
