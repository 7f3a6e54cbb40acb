"""Sources that lie in buckets: the same examples as from a disk, through every fault at once."""

import asyncio
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import gcsfs.retry
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.faults.buckets import Bucket
from benchmarks.faults.proxy import Fault, each
from manifests import files
from pipelines.sources.base import Example, Reject, Source, cut_into_units
from pipelines.sources.coco import COCO
from pipelines.sources.dataset import Dataset, DatasetSource
from pipelines.sources.folder import FolderSource
from pipelines.sources.parquet import Parquet
from pipelines.sources.videos import Videos
from pipelines.sources.webdataset import Webdataset
from visent import storage
from visent.errors import UserError


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits a twentieth as long between tries."""
    monkeypatch.setattr(storage, "PAUSES", tuple(pause / 20 for pause in storage.PAUSES))
    quick = SimpleNamespace(sleep=lambda seconds: asyncio.sleep(seconds / 20))
    monkeypatch.setattr(gcsfs.retry, "asyncio", quick)


def picture(seed: int, side: int = 30) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (side, side + 10, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


def film(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            grey = np.full((48, 64, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for each source below."""
    root = tmp_path_factory.mktemp("media")
    for number in range(8):
        path = root / "folder" / ("deep" if number % 3 else ".") / f"odd #[{number}] %20 +ü.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number) if number else b"")
    film(root / "videos" / "clips" / "a.mp4")
    (root / "webdataset").mkdir()
    with tarfile.open(root / "webdataset" / "0.tar", "w") as tar:
        for number in range(40):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = len(picture(number, 150))
            tar.addfile(info, io.BytesIO(picture(number, 150)))
    (root / "parquet").mkdir()
    pq.write_table(pa.table({"image": [picture(number, 200) for number in range(9)]}), root / "parquet" / "x.parquet")
    (root / "coco" / "val2017").mkdir(parents=True)
    (root / "coco" / "annotations").mkdir()
    images = [{"id": n, "file_name": f"{n:012d}.jpg", "height": 30, "width": 40} for n in range(6)]
    for image in images:
        (root / "coco" / "val2017" / str(image["file_name"])).write_bytes(picture(1))
    boxes = [{"image_id": n, "category_id": 1, "bbox": [n, 1, 9, 9], "iscrowd": 0} for n in range(6)]
    text = json.dumps({"images": images, "annotations": boxes})
    (root / "coco" / "annotations" / "instances_val2017.json").write_text(text)
    return root


def dataset(name: str, made: Dataset) -> Source:
    return DatasetSource(name=name, dataset=made, items_per_unit=5)


SOURCES: dict[str, Callable[[str], Source]] = {
    "folder": lambda root: FolderSource(paths=(root,), items_per_unit=5),
    "videos": lambda root: dataset("videos", Videos(root=root, fps=5.0, frames_per_clip=4)),
    "webdataset": lambda root: dataset("webdataset", Webdataset(root=root)),
    "parquet": lambda root: dataset("parquet", Parquet(root=root)),
    "coco": lambda root: dataset("coco", COCO(root=root, annotations=("boxes",))),
}


def put(folder: Path, url: str) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            files.write_bytes(f"{url}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return url


def everything(source: Source) -> list[Any]:
    items, note = source.listing()
    units = cut_into_units(items, source.items_per_unit, 0.0)
    return [items, note, *(plain(one) for unit in units for one in source.examples(unit))]


def plain(one: Example | Reject) -> tuple[Any, ...]:
    if isinstance(one, Reject):
        return one.key, one.stage, one.reason
    media = {role: [bytes(getattr(frame, "data", b"")) for frame in made] if isinstance(made, list) else
             getattr(made, "data", None) for role, made in one.media.items()}  # fmt: skip
    return one.key, one.source, media, dict(one.meta)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_in_a_bucket_gives_the_same_through_faults(name: str, served: Bucket, media: Path) -> None:
    wanted = everything(SOURCES[name](str(media / name)))
    url = put(media / name, f"{served.url}/{name}")
    assert everything(SOURCES[name](url)) == wanted
    served.proxy.reset(each(0.03, operations=("read", "list", "stat"), seconds=0.1))
    assert everything(SOURCES[name](url)) == wanted
    served.proxy.reset([Fault(kind="short", operation="read", most=1)])
    assert everything(SOURCES[name](url)) == wanted
    assert served.proxy.injected


@pytest.mark.parametrize("name", ["folder", "videos", "webdataset", "parquet"])
def test_a_bucket_that_fails_ends_the_job_and_rejects_nothing(
    name: str, google: Bucket, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there may be good: the same command goes on when the bucket is back."""
    monkeypatch.setattr(storage, "PAUSES", (0.01,))
    source = SOURCES[name](put(media / name, f"{google.url}/{name}"))
    units = cut_into_units(source.listing()[0], source.items_per_unit, 0.0)
    google.proxy.reset([Fault(kind="status", operation="read", status=503, most=None)])
    with pytest.raises(UserError, match=r"cannot read gs://.* times in a row.*run the"):
        list(source.examples(units[-1]))
