"""Sources whose files lie at URLs: the same rows as from a disk, in few questions and bounded memory.

That every dataset gives the same is checked wherever the tests of the datasets read one: see `reading_datasets`.
"""

import io
import random
import re
import tarfile
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from made_frames import write_frames
from made_media import picture_bytes, write_picture, write_pictures, write_video
from made_records import example_bytes, write_records
from reading_datasets import source_of
from urls import at_url

from manifests import files
from pipelines.annotate import models
from pipelines.cli import tokenize
from pipelines.resuming.order import Order
from pipelines.sources import places
from pipelines.sources.base import Example, Reject, Unit, cut_into_units
from pipelines.sources.datacomp import DataComp
from pipelines.sources.folder import FolderSource
from pipelines.sources.jester import Jester
from pipelines.sources.pairs import PairsSource, roles_below
from pipelines.sources.parquet import Parquet
from pipelines.sources.tfrecord import TFRecord
from pipelines.sources.uids import read_uids
from pipelines.sources.videos import Videos
from pipelines.sources.webdataset import Webdataset
from visent.errors import UserError


def read(source: FolderSource | PairsSource) -> tuple[Any, list[tuple[Any, ...]]]:
    """The listing, and what tells examples and rejects apart."""
    listing = source.listing()
    units = [Unit.from_json(unit.to_json()) for unit in cut_into_units(listing[0], 3, 0.0)]
    return listing, [_plain(one) for unit in units for one in source.examples(unit)]


def _plain(one: Example | Reject) -> tuple[Any, ...]:
    if isinstance(one, Reject):
        return one.key, one.source, one.reason
    media = {role: media if isinstance(media, np.ndarray) else media.data for role, media in one.media.items()}
    return one.key, one.source, {role: bytes(data) for role, data in media.items()}, dict(one.meta)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos at several depths, an empty one, a video, and files that are left out."""
    write_pictures(tmp_path / "photos", 20)
    write_pictures(tmp_path / "photos" / "deep" / "deeper", 2)
    (tmp_path / "photos" / "empty.jpg").touch()
    (tmp_path / "photos" / "deep" / ".hidden.png").write_bytes(picture_bytes())
    (tmp_path / "photos" / "odd [1]*?#% ü.png").write_bytes(picture_bytes())
    (tmp_path / "photos" / "notes.txt").touch()
    write_video(tmp_path / "photos" / "clips" / "a.mp4")
    return tmp_path / "photos"


def test_a_folder_gives_the_same_from_a_url(photos: Path) -> None:
    url = at_url(photos)
    here = FolderSource(paths=(str(photos),), items_per_unit=3, video_stills=5.0)
    for root in (url, url + "/"):
        there = FolderSource(paths=(root,), items_per_unit=3, video_stills=5.0)
        assert read(there) == read(here)
        assert there.estimate(there.listing()[0]) == here.estimate(here.listing()[0]) == 34
        assert there.roots == {"": url}


def test_a_job_reads_several_small_files_of_a_bucket_at_once(photos: Path) -> None:
    source = FolderSource(paths=(at_url(photos),), items_per_unit=30)
    (unit,) = cut_into_units(source.listing()[0], 30, 0.0)
    reading = Order().read(source, unit)
    keys = [next(reading).key]
    assert sum(thread.name.startswith("read_") for thread in threading.enumerate()) > 1
    keys += [one.key for one in reading]
    assert keys == [one.key for one in source.examples(unit) if isinstance(one, Example)]


def test_several_folders_may_lie_here_and_there(photos: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "more", 2)
    here = FolderSource(paths=(str(photos), str(tmp_path / "more")), items_per_unit=3)
    assert read(FolderSource(paths=(at_url(photos), str(tmp_path / "more")), items_per_unit=3)) == read(here)
    assert read(FolderSource(paths=(str(photos), at_url(tmp_path / "more")), items_per_unit=3)) == read(here)


def test_pairs_give_the_same_from_a_url(tmp_path: Path) -> None:
    for number in range(4):
        write_picture(tmp_path / "nyu" / "image" / "room" / f"rgb_{number}.jpg", number)
        write_picture(tmp_path / "nyu" / "depth" / "room" / f"sync_{number}.png", number)
    (tmp_path / "nyu" / "depth" / "room" / "sync_3.png").unlink()
    url = at_url(tmp_path / "nyu")
    given = {"image": "image/rgb_*.jpg", "depth": "depth/sync_*.png"}
    made = [
        PairsSource(paths={role: f"{root}/{path}" for role, path in given.items()}, items_per_unit=3)
        for root in (tmp_path / "nyu", url)
    ]
    assert read(made[0]) == read(made[1])
    assert [item.key for item in made[1].listing()[0]] == ["room/0", "room/1", "room/2", "room/3"]
    assert made[1].roots["image"] == f"{url}/image/rgb_*.jpg"
    assert roles_below(url) == {"image": f"{url}/image", "depth": f"{url}/depth"}


def test_lists_of_uids_may_lie_at_urls(samples: Path, tmp_path: Path) -> None:
    root = str(samples / "datacomp")
    tables = [pq.read_table(path) for path in sorted((samples / "datacomp" / "shards").glob("*.parquet"))]
    wanted = [row["uid"] for table in tables for row in table.to_pylist() if row["status"] == "success"][::3]
    pairs = [(int(uid[:16], 16), int(uid[16:], 16)) for uid in wanted]
    (tmp_path / "lists").mkdir()
    np.save(tmp_path / "lists" / "chosen.npy", np.array(pairs, "u8,u8"))
    np.array(pairs, "u8,u8").tofile(tmp_path / "lists" / "plain.npy")
    url = at_url(tmp_path / "lists")
    for name in ("chosen.npy", "plain.npy"):
        local, remote = (DataComp(root=root, uids=f"{place}/{name}") for place in (tmp_path / "lists", url))
        source = source_of(remote)
        items, note = source.listing()
        assert (items, note) == source_of(local).listing()
        assert {one.key for unit in cut_into_units(items, 3, 0.0) for one in source.examples(unit)} == set(wanted)
        assert remote.uids == f"{url}/{name}"
    with pytest.raises(UserError, match=r"--uids .*none\.npy cannot be read"):
        read_uids(f"{url}/none.npy")


def test_each_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        write_frames(tmp_path / "20bn-jester-v1" / str(number), [1])
    (tmp_path / "jester-v1-train.csv").write_text("".join(f"{number};Wave\n" for number in range(35)))
    asked: Counter[str] = Counter()
    for name in ("list_entries", "entry_of"):
        ask = getattr(files, name)
        monkeypatch.setattr(files, name, lambda path, name=name, ask=ask: (asked.update([name]), ask(path))[1])
    items, _ = source_of(Jester(root=at_url(tmp_path))).listing()
    assert Counter(item.reject for item in items) == {"": 30, "missing-frames": 5}
    assert asked["list_entries"] <= 3
    assert asked["entry_of"] <= 6
    assert not places._remembered


def test_what_is_no_folder_is_one_line(photos: Path) -> None:
    url = at_url(photos)
    for path, message in {f"{url}/none": "does not exist", f"{url}/000.png": "is a file",
                          "nosuch://b/x": "cannot read nosuch://b/x: Protocol not known"}.items():  # fmt: skip
        with pytest.raises(UserError, match=message):
            FolderSource(paths=(path,), items_per_unit=1)
    with pytest.raises(UserError, match=r"no pictures in .*; known endings"):
        FolderSource(paths=(f"{url}/clips",), items_per_unit=1).listing()


def test_a_picture_that_is_gone_is_a_reject(photos: Path) -> None:
    url = at_url(photos)
    source = FolderSource(paths=(url,), items_per_unit=50)
    (unit,) = cut_into_units(source.listing()[0], 50, 0.0)
    system, inner = fsspec.core.url_to_fs(f"{url}/003.png")
    system.rm_file(inner)
    rejects = [one for one in source.examples(unit) if isinstance(one, Reject)]
    assert [(one.key, one.stage, one.reason) for one in rejects] == [("003", "read", "missing")]


_LOCAL = re.compile(
    r"\bPath\(|(?<![\w.])open\(|os\.(stat|listdir|scandir|walk)\(|os\.path\.(exists|isdir|isfile|getsize)\(|\.glob\("
)


def test_no_source_asks_for_files_by_itself() -> None:
    for path in sorted((Path(__file__).resolve().parents[2] / "pipelines" / "sources").glob("*.py")):
        found = [line for line in path.read_text(encoding="utf-8").splitlines() if _LOCAL.search(line)]
        allowed = path.name == "places.py" or all("(copy, name)" in line for line in found)
        assert allowed, f"{path.name}: use pipelines/sources/places.py in {found}"


# an open file


def put(data: bytes, name: str = "file.bin") -> str:
    url = f"memory://open/{name}"
    system, inner = fsspec.core.url_to_fs(url)
    system.pipe_file(inner, data)
    return url


DATA = random.Random(0).randbytes(3_000_000)


@given(st.lists(st.tuples(st.integers(0, len(DATA) + 5), st.integers(0, 1_500_000)), max_size=8))
def test_an_open_file_reads_as_a_local_one_does(steps: list[tuple[int, int]]) -> None:
    with places.open_file(put(DATA)) as remote, io.BytesIO(DATA) as local:
        for position, count in steps:
            assert remote.seek(position) == local.seek(position)
            assert remote.read(count) == local.read(count)
            assert remote.tell() == local.tell()
        assert remote.seek(-10, io.SEEK_END) == local.seek(-10, io.SEEK_END)
        assert remote.read() == local.read()


def test_a_large_file_is_read_in_bounded_memory() -> None:
    url = put(bytes(80 << 20))
    tracemalloc.start()
    try:
        with places.open_file(url) as file:
            while file.read(1 << 20):
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 << 20


def test_of_a_tar_only_what_is_asked_for_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(40):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = 1 << 20
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    url = put(buffer.getvalue(), "tars/0.tar")
    fetched: list[int] = []
    ask = files.read_ranges
    monkeypatch.setattr(files, "read_ranges", lambda path, ranges: (fetched.extend(e - s for s, e in ranges),
                                                                    ask(path, ranges))[1])  # fmt: skip
    source = source_of(Webdataset(root=files.parent(url)))
    (unit,) = cut_into_units(source.listing()[0], 1, 0.0)
    examples: Iterator[Any] = source.examples(unit)
    assert next(examples).key == "0/0"
    assert sum(fetched) < 8 << 20
    assert len(list(examples)) == 39
    assert sum(fetched) == len(buffer.getvalue())
    assert max(fetched) <= 8 << 20


@pytest.mark.parametrize("content", [DATA[::-1], DATA[:-1], None])
def test_a_file_that_changes_while_it_is_read_is_noticed(content: bytes | None) -> None:
    url = put(DATA)
    system, inner = fsspec.core.url_to_fs(url)
    with places.open_file(url) as file:
        file.read(10)
        system.rm_file(inner)
        if content is not None:
            system.pipe_file(inner, content)
        with pytest.raises(UserError, match=f"{url} was changed while it was read"):
            file.read()


@pytest.mark.parametrize("kind", ["tar", "parquet", "tfrecord", "video"])
def test_input_that_changes_ends_the_job_instead_of_rejecting_rows(kind: str, tmp_path: Path) -> None:
    photos = [random.Random(number).randbytes(100_000) for number in range(30)]
    folder = tmp_path / kind
    folder.mkdir()
    if kind == "tar":
        with tarfile.open(folder / "0.tar", "w") as tar:
            for number, photo in enumerate(photos):
                (tmp_path / "photo").write_bytes(photo)
                tar.add(tmp_path / "photo", f"{number}.jpg")
    elif kind == "parquet":
        pq.write_table(pa.table({"image": photos}), folder / "0.parquet", row_group_size=5)
    elif kind == "video":
        with av.open(str(folder / "0.mkv"), "w") as container:
            stream = container.add_stream("mjpeg", rate=10)
            stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
            for number in range(30):
                noise = np.random.default_rng(number).integers(0, 256, (480, 640, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
            container.mux(stream.encode())
    else:
        png = picture_bytes()
        write_records(folder / "0.tfrecord", [example_bytes({"image": png + photo}) for photo in photos])
    made = {"tar": Webdataset, "parquet": Parquet, "tfrecord": TFRecord, "video": partial(Videos, stills=True)}[kind]
    source = source_of(made(root=at_url(folder)))
    (unit,) = cut_into_units(source.listing()[0], 1, 0.0)
    examples = iter(source.examples(unit))
    assert isinstance(next(examples), Example)
    url = f"{source.dataset.root}/{next(iter(unit.items[0].files.values()))}"
    system, inner = fsspec.core.url_to_fs(url)
    system.pipe_file(inner, system.cat_file(inner)[::-1])
    with pytest.raises(UserError, match="was changed while it was read"):
        list(examples)


# models


def test_models_at_urls_draw_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="pip install -e '.[onnx]'")
    pytest.importorskip("onnx", reason="pip install -e '.[dev]'")
    from made_onnx import per_pixel, write_card, write_model

    from pipelines.annotate.annotators import checked_annotators
    from pipelines.annotate.networks import shared_network, weights
    from pipelines.meter import Meter

    write_model(tmp_path / "m", per_pixel([[0, 0, 1], [0, 1, 0], [1, 0, 0]]))
    here = write_card(tmp_path / "m")
    there = f"drawn={at_url(tmp_path / 'm')}/model.toml"
    assert checked_annotators((there,), ("image",)) == (there,)
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    (one,), (other,) = weights([here]), weights([there])
    assert one.sha256 == other.sha256
    drawn = [shared_network(network, 32).submit([image], Meter()).result()[0] for network in (one, other)]
    assert np.array_equal(*drawn)
    assert np.array_equal(drawn[0], image[..., ::-1])
    with pytest.raises(UserError, match=r"none\.toml"):
        weights([there.replace("model.toml", "none.toml")])


def test_the_folder_of_models_may_be_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own" / "deep").mkdir(parents=True)
    (tmp_path / "own" / "deep" / "net.bin").write_bytes(b"weights")
    monkeypatch.setenv(models.FOLDER, at_url(tmp_path / "own"))
    assert models.found(models.ModelFile(name="net.bin")).read_bytes() == b"weights"
    with pytest.raises(UserError, match=r"no model other\.bin below memory://"):
        models.found(models.ModelFile(name="other.bin"))


def test_a_url_through_the_command_gives_the_same_bytes(photos: Path, tiny: str, tmp_path: Path) -> None:
    for root, out in ((str(photos), tmp_path / "a" / "corpus"), (at_url(photos), tmp_path / "b" / "corpus")):
        arguments = ["folder", root, "--out", str(out), "--tokenizer", tiny, "--max-reject-fraction", "0.2"]
        shown = CliRunner().invoke(tokenize, arguments)
        assert shown.exit_code == 0, (shown.output, shown.exception)
    one, other = (sorted((tmp_path / name / "corpus").glob("*.parquet")) for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other] != []
