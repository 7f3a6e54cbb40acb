"""Media, archives and lists that somebody made to do harm: refused, within bounded memory, and nothing is run."""

import gzip
import io
import json
import os
import pickle
import struct
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_media import picture_bytes, write_picture, write_pictures, write_video
from reading_datasets import read_all

from pipelines.render.depth import decode_depth
from pipelines.sources import mat
from pipelines.sources.co3d import CO3D
from pipelines.sources.instruct_pix2pix import InstructPix2Pix
from pipelines.sources.multisports import MultiSports
from pipelines.sources.parquet import Parquet
from pipelines.sources.tfrecords import Fault, masked_crc, records
from pipelines.sources.trust import gunzip
from pipelines.sources.video_clips import MOST_SPANS, spans
from pipelines.sources.video_frames import VideoError, sampled
from pipelines.sources.videos import Videos
from pipelines.sources.webdataset import Webdataset
from tokenizer.images import ImageError, decode_image
from visent.errors import UserError

MIB = 1 << 20
PHOTO = picture_bytes(format="JPEG")


@pytest.fixture
def bounded() -> Iterator[None]:
    """Fails when Python and numpy hold more than 200 MiB at a time; each bomb below would take gigabytes."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * MIB


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def zeros(mebibytes: int, wbits: int) -> bytes:
    """Packs zeros by zlib (15) or gzip (31) without holding them."""
    packer = zlib.compressobj(9, wbits=wbits)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(mebibytes)) + packer.flush()


# bombs


def npy(shape: tuple[int, ...], data: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


@pytest.mark.usefixtures("bounded")
def test_a_depth_map_that_states_more_than_it_holds_is_refused_unread() -> None:
    for shape, reason in (((10**6, 10**6), "too-large"), ((10**12, 0), "truncated"), ((4000, 4000), "truncated")):
        with pytest.raises(ImageError) as refused:
            decode_depth(npy(shape))
        assert refused.value.reason == reason


@pytest.mark.usefixtures("bounded")
def test_a_zip_of_zeros_is_refused_before_it_is_unpacked() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("depth.npy", "w") as file:
        file.write(npy((1 << 29,)))
        for _ in range(64):
            file.write(bytes(MIB))
    with pytest.raises(ImageError) as refused:
        decode_depth(buffer.getvalue())
    assert refused.value.reason == "too-large"


@pytest.mark.usefixtures("bounded")
def test_gzip_that_unpacks_to_far_more_than_annotations_do_is_refused() -> None:
    bomb = zeros(300, 31)
    with pytest.raises(ValueError, match="unpack to more than"):
        gunzip(bomb)
    text = b'{"frame_number": 1}' * 1000
    assert gunzip(gzip.compress(text) + gzip.compress(b"more")) == text + b"more"
    with pytest.raises(ValueError, match="truncated"):
        gunzip(gzip.compress(text)[:-9])


@pytest.mark.usefixtures("bounded")
def test_a_mat_file_of_zeros_is_refused_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mat, "MAX_BYTES", 32 * MIB)
    packed = zeros(100, 15)
    data = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(packed)) + packed
    with pytest.raises(ImageError, match="unpack to more than"):
        mat.variable(data, "groundTruth")


def test_a_jpeg_of_a_thousand_scans_is_refused_by_its_header() -> None:
    data = picture_bytes(format="JPEG", progressive=True)
    start = data.index(b"\xff\xda")
    scan = data[start : data.index(b"\xff\xda", start + 2)]
    with pytest.raises(ImageError, match="scans"):
        decode_image(data[:start] + scan * 1000 + data[start:])
    decode_image(data)


@pytest.mark.usefixtures("bounded")
def test_a_tar_whose_long_name_is_endless_is_cut_there(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 200 * MIB
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(200):
            file.write(bytes(MIB))
    assert read_all(Webdataset(root=str(tmp_path))).rejects == {"a.tar": "tar-cut"}


def test_a_tar_with_a_size_below_zero_does_not_lead_in_circles(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("a.jpg", PHOTO), ("b.jpg", PHOTO)])
    data = bytearray((tmp_path / "a.tar").read_bytes())
    at = data.index(b"b.jpg")
    data[at + 124 : at + 136] = b"\xff" * 4 + struct.pack(">q", -2048)  # base 256, two's complement
    total = sum(data[at : at + 148]) + 8 * 32 + sum(data[at + 156 : at + 512])
    data[at + 148 : at + 156] = f"{total:06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(data)
    found = read_all(Webdataset(root=str(tmp_path)))
    assert (list(found.examples), found.rejects) == (["a/a"], {"a": "tar-cut"})


def test_a_sample_of_endless_members_is_one_reject(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [(f"a.{n}.txt", b"") for n in range(2000)] + [("b.jpg", PHOTO)])
    found = read_all(Webdataset(root=str(tmp_path)))
    assert (found.rejects, list(found.examples)) == ({"a/a": "too-large"}, ["a/b"])


def test_a_packed_record_of_a_terabyte_ends_the_file_instead_of_being_unpacked(tmp_path: Path) -> None:
    length = struct.pack("<Q", 1 << 40)
    (tmp_path / "a.tfrecord").write_bytes(gzip.compress(length + struct.pack("<I", masked_crc(length)) + bytes(MIB)))
    (fault,) = records(str(tmp_path / "a.tfrecord"))
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.last) == ("too-large", True)


def test_a_table_that_states_more_rows_than_bytes_is_one_reject(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([None] * 3_000_000, pa.binary())})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", row_group_size=3_000_000)
    assert (tmp_path / "a.parquet").stat().st_size < 3_000_000
    assert read_all(Parquet(root=str(tmp_path))).rejects == {"a": "rows-overstated"}


def test_a_video_of_a_million_years_is_cut_into_a_bounded_number_of_spans() -> None:
    for length in (1e15, float("inf"), float("nan")):
        found = spans(length, 60.0)
        assert len(found) <= MOST_SPANS
        assert found[-1][1] is None


def test_a_video_larger_than_any_camera_makes_is_refused_before_its_frames_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.sources.video_frames.DECODING", {"max_pixels": "1000"})
    path = write_video(tmp_path / "a.mp4")
    with pytest.raises(VideoError):
        list(sampled(str(path), None))


# texts


DEEP = ["[" * 5000 + "]" * 5000, '{"a":' * 5000 + "0" + "}" * 5000]


@pytest.mark.parametrize("text", DEEP)
def test_deeply_nested_json_is_a_reject_in_a_sample_and_one_line_in_a_list(tmp_path: Path, text: str) -> None:
    (tmp_path / "web").mkdir()
    write_tar(tmp_path / "web" / "a.tar", [("a.jpg", PHOTO), ("a.json", text.encode())])
    assert list(read_all(Webdataset(root=str(tmp_path / "web"))).examples) == ["a/a"]
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "seeds.json").write_text(text)
    with pytest.raises(UserError, match="nested too deeply"):
        read_all(InstructPix2Pix(root=str(tmp_path / "pairs")))


@pytest.mark.parametrize("caption", ["[" * 100 + "]" * 100, '"\\ud800"', "NaN", "1e999"])
def test_what_no_row_can_hold_is_a_reject_and_no_traceback(tmp_path: Path, caption: str) -> None:
    about = f'{{"caption": {caption}}}'.encode()
    write_tar(tmp_path / "a.tar", [("a.jpg", PHOTO), ("a.json", about)])
    found = read_all(Webdataset(root=str(tmp_path)))
    from pipelines.examples import Look, squares
    from pipelines.sources.base import Reject

    look = Look(dataset="d", roles=("image",), annotate=(), preset="crop", size=16)
    (made,) = [squares(example, look, [0]) for example in found.examples.values()]
    if caption in ("NaN", "1e999"):  # no value of JSON: left away
        assert not isinstance(made, Reject)
        assert "caption" not in made[0].meta
    else:
        assert isinstance(made, Reject)
        assert made.reason == "bad-meta"


# paths


def test_no_list_leads_out_of_its_root(tmp_path: Path) -> None:
    write_picture(tmp_path / "secret.jpg")
    root = tmp_path / "root"
    for name, (image, sequence) in {"a": ("../secret.jpg", "s"), "b": (str(tmp_path / "secret.jpg"), "s")}.items():
        frames = [{"sequence_name": sequence, "frame_number": 0, "frame_timestamp": 0.0, "image": {"path": image}}]
        (root / name / sequence / "images").mkdir(parents=True)
        for file, value in {"frame": frames, "sequence": [{"sequence_name": sequence}]}.items():
            (root / name / f"{file}_annotations.jgz").write_bytes(gzip.compress(json.dumps(value).encode()))
    found = read_all(CO3D(root=str(root), annotations=()))  # type: ignore[arg-type]
    assert not found.examples
    assert set(found.rejects.values()) == {"outside-root"}


def test_a_listed_folder_outside_of_the_root_is_a_reject(tmp_path: Path) -> None:
    write_pictures(tmp_path / "secret" / "images", 2)
    root = tmp_path / "root" / "cup"
    root.mkdir(parents=True)
    for file, value in {"frame": [], "sequence": [{"sequence_name": "../../secret"}]}.items():
        (root / f"{file}_annotations.jgz").write_bytes(gzip.compress(json.dumps(value).encode()))
    found = read_all(CO3D(root=str(root.parent)))
    assert [item.reject for item in found.items] == ["outside-root"]


CONCAT, HLS = "ffconcat version 1.0\nfile secret.mp4\n", "#EXTM3U\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("text", [CONCAT, HLS])
def test_a_video_that_is_a_list_of_other_files_is_not_followed(tmp_path: Path, text: str) -> None:
    write_video(tmp_path / "root" / "secret.mp4")
    (tmp_path / "root" / "a.mp4").write_text(text)
    found = read_all(Videos(root=str(tmp_path / "root"), fps=10.0))
    assert found.rejects == {"a": "unreadable"}
    assert set(found.examples) == {"secret#00000"}


def test_concat_would_have_been_followed_without_the_list_of_containers(tmp_path: Path) -> None:
    """What the test above proves only as long as FFmpeg still does this."""
    write_video(tmp_path / "secret.mp4")
    (tmp_path / "a.mp4").write_text(CONCAT)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20


# pickles


class _Harm:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("harm",)


def test_no_name_of_a_pickle_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python tells of each name that a pickle has it import; reading MultiSports' annotations imports none."""
    monkeypatch.chdir(tmp_path)
    named: list[str] = []
    listening = True
    sys.addaudithook(lambda event, _: named.append(event) if listening and event == "pickle.find_class" else None)
    tube = np.array([[1, 8, 12, 16, 24]], np.float32)
    truth = {
        "labels": ["push up"], "train_videos": [["a/v"]], "test_videos": [[]],
        "resolution": {"a/v": (48, 64)}, "gttubes": {"a/v": {0: [tube]}},
    }  # fmt: skip
    write_video(tmp_path / "trainval" / "a" / "v.mp4")
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "multisports_GT.pkl"
    path.write_bytes(pickle.dumps(truth, protocol=2))
    assert len(read_all(MultiSports(root=str(tmp_path))).examples) == 1
    path.write_bytes(pickle.dumps({**truth, "labels": _Harm()}))
    os.utime(path, (1, 1))
    (tmp_path / "other").mkdir()
    (tmp_path / "annotations").rename(tmp_path / "other" / "annotations")
    with pytest.raises(UserError, match="mkdir"):
        read_all(MultiSports(root=str(tmp_path / "other")))
    listening = False
    assert not named
    assert not (tmp_path / "harm").exists()
