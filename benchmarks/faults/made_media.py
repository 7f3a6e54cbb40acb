"""Small whole files of every format of pictures, videos, archives, tables and lists, and who reads them."""

import gzip
import io
import json
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from benchmarks.faults.readers import Target

PICTURES = {
    "jpeg": ("JPEG", {}), "progressive": ("JPEG", {"progressive": True}), "png": ("PNG", {}), "webp": ("WEBP", {}),
    "lossless": ("WEBP", {"lossless": True}), "gif": ("GIF", {}), "bmp": ("BMP", {}), "tiff": ("TIFF", {}),
    "lzw": ("TIFF", {"compression": "tiff_lzw"}), "deflated": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "ppm": ("PPM", {}), "jp2": ("JPEG2000", {}), "avif": ("AVIF", {}),
}  # fmt: skip
ENDINGS = {"JPEG": "jpg", "JPEG2000": "jp2", "TIFF": "tif"}
VIDEOS = {
    "mp4": ("mpeg4", {}), "mov": ("libx264", {}), "mkv": ("libx264", {}), "webm": ("libvpx", {}), "avi": ("mpeg4", {}),
    "mpg": ("mpeg2video", {}), "ts": ("libx264", {}), "flv": ("flv", {}), "wmv": ("wmv2", {}), "ogv": ("libtheora", {}),
    "y4m": ("rawvideo", {}),
}  # fmt: skip


def picture(seed: int = 0, size: tuple[int, int] = (48, 40), format: str = "JPEG", **options: Any) -> bytes:
    """Encodes a smooth colourful picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(buffer, format, **options)
    return buffer.getvalue()


def _labels(dtype: Any, size: tuple[int, int] = (40, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((np.arange(size[0] * size[1]) % 21).reshape(size).astype(dtype)).save(buffer, "PNG")
    return buffer.getvalue()


def _video(path: Path, codec: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(12):
            pixels = np.asarray(Image.open(io.BytesIO(picture(number, (64, 48)))).convert("RGB"))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def _write(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def _json(path: Path, value: Any) -> None:
    _write(path, json.dumps(value))


def _dataset(folder: Path, dataset: str, files: list[str], name: str = "", **options: Any) -> Target:
    given = {"dataset": dataset, "options": options}
    return Target(name=name or f"{dataset}/made", reader="source", folder=str(folder), files=files, given=given)


def targets(work: Path) -> list[Target]:
    """Writes the files below a folder and says who reads them."""
    return [*_pictures(work), *_videos(work), *_pairs(work), *_archives(work), *_tables(work), *_lists(work)]


def _pictures(work: Path) -> list[Target]:
    found = []
    for number, (name, (format, options)) in enumerate(PICTURES.items()):
        file = f"a.{ENDINGS.get(format, format.lower())}"
        _write(work / "pictures" / name / file, picture(number, format=format, **options))
        found.append(
            Target(name=f"picture/{name}", reader="folder", folder=str(work / "pictures" / name), files=[file])
        )
    exif = Image.Exif()
    exif[0x0112] = 6
    _write(work / "pictures" / "exif" / "a.jpg", picture(3, exif=exif.tobytes()))
    return [
        *found,
        Target(name="picture/exif", reader="folder", folder=str(work / "pictures" / "exif"), files=["a.jpg"]),
    ]


def _videos(work: Path) -> list[Target]:
    found = []
    for ending, (codec, _) in VIDEOS.items():
        if codec in av.codecs_available:
            _video(work / "videos" / ending / f"a.{ending}", codec)
            found.append(
                _dataset(work / "videos" / ending, "videos", [f"a.{ending}"], f"video/{ending}", frames_per_clip=5)
            )
    return found


def _pairs(work: Path) -> list[Target]:
    found = []
    depth = np.linspace(1, 9, 40 * 48).reshape(40, 48)
    packed = io.BytesIO()
    np.savez_compressed(packed, depth=depth)
    plain = io.BytesIO()
    np.save(plain, depth)
    for ending, data in {"png": _labels(np.uint16), "npy": plain.getvalue(), "npz": packed.getvalue()}.items():
        folder = work / "pairs" / ending
        _write(folder / "image" / "a.jpg", picture())
        _write(folder / "depth" / f"a.{ending}", data)
        _write(folder / "labels" / "a.png", _labels(np.uint8))
        files = [f"depth/a.{ending}", "labels/a.png"] if ending == "png" else [f"depth/a.{ending}"]
        found.append(Target(name=f"pairs/{ending}", reader="pairs", folder=str(folder), files=files))
    return found


def _tar(path: Path, members: dict[str, bytes], mode: str = "w", format: int = tarfile.PAX_FORMAT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=format) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _archives(work: Path) -> list[Target]:
    members: dict[str, bytes] = {}
    for number in range(3):
        about = {"uid": f"{number:032x}", "caption": f"boats {number}", "width": 48, "nested": {"a": [1, 2.5, None]}}
        stem = f"{number:09d}" if number else "a-long-name-" * 12
        members |= {f"{stem}.jpg": picture(number), f"{stem}.json": json.dumps(about).encode(), f"{stem}.txt": b"boat"}
    folder = work / "webdataset"
    _tar(folder / "plain" / "0.tar", members)
    _tar(folder / "gnu" / "0.tar", members, format=tarfile.GNU_FORMAT)
    _tar(folder / "packed" / "0.tar.gz", members, "w:gz")
    options = {"meta": ["member", "caption", "nested"]}
    found = [_dataset(folder / name, "webdataset", [file], f"webdataset/{name}", **options)
             for name, file in (("plain", "0.tar"), ("gnu", "0.tar"), ("packed", "0.tar.gz"))]  # fmt: skip
    return [*found, *_img2dataset(work / "img2dataset"), *_records(work / "records")]


def _img2dataset(folder: Path) -> list[Target]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    keys = [f"{number:09d}" for number in range(3)]
    rows = {"key": keys, "uid": [f"{n:032x}" for n in range(3)], "status": ["success"] * 3, "caption": ["boat"] * 3,
            "original_width": [48] * 3, "original_height": [40] * 3, "similarity": [0.1, 0.2, 0.3]}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), folder / "00000.parquet")
    _tar(folder / "00000.tar", {f"{key}.jpg": picture(number) for number, key in enumerate(keys)})
    _json(folder / "00000_stats.json", {"count": 4, "successes": 3})
    files = ["00000.parquet", "00000.parquet", "00000.tar", "00000_stats.json"]
    return [
        _dataset(folder, "laion", files),
        _dataset(folder, "laion", files, "laion/chosen", at_least=["similarity=0.15"]),
    ]


def _records(folder: Path) -> list[Target]:
    from pipelines.sources.tfrecords import example_class, masked_crc

    records = b""
    for number in range(3):
        example = example_class()()
        example.features.feature["image"].bytes_list.value.append(picture(number))
        example.features.feature["label"].int64_list.value.append(number)
        data = example.SerializeToString()
        length = struct.pack("<Q", len(data))
        records += length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))
    _write(folder / "plain" / "a.tfrecord", records)
    _write(folder / "packed" / "a.tfrecord", gzip.compress(records))
    return [_dataset(folder / name, "tfrecord", ["a.tfrecord"], f"tfrecord/{name}") for name in ("plain", "packed")]


def _tables(work: Path) -> list[Target]:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [{"bytes": picture(number), "path": f"{number}.jpg"} for number in range(4)]
    table = pa.table({"image": cells, "name": ["a", "b", "c", "d"], "size": [1.0, 2.0, float("nan"), 4.0]})
    found = []
    for packing in ("zstd", "snappy", "gzip", "none"):
        folder = work / "parquet" / packing
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "train.parquet", compression=packing, row_group_size=2)
        options = {"key_column": "name", "meta": ["size"]}
        found.append(_dataset(folder, "parquet", ["train.parquet"], f"parquet/{packing}", **options))
    saved = work / "huggingface"
    features = datasets.Features({"image": datasets.Image(), "name": datasets.Value("string")})
    datasets.Dataset.from_dict({"image": cells, "name": list("abcd")}, features=features).save_to_disk(str(saved))
    files = sorted(path.name for path in saved.iterdir())
    return [*found, _dataset(saved, "huggingface", files)]


def _lists(work: Path) -> list[Target]:
    return [*_multisports(work / "multisports"), *_co3d(work / "co3d_made")]


def _multisports(folder: Path) -> list[Target]:
    tube = np.array([[1, 8, 12, 16, 24], [2, 16, 12, 24, 36]], np.float32)
    truth = {
        "labels": ["push up"], "train_videos": [["volleyball/v"]], "test_videos": [[]], "nframes": {"volleyball/v": 12},
        "resolution": {"volleyball/v": (48, 64)}, "gttubes": {"volleyball/v": {0: [tube]}},
    }  # fmt: skip
    _video(folder / "trainval" / "volleyball" / "v.mp4", "mpeg4")
    _write(folder / "annotations" / "multisports_GT.pkl", pickle.dumps(truth, protocol=2))
    return [_dataset(folder, "multisports", ["annotations/multisports_GT.pkl"])]


def _co3d(folder: Path) -> list[Target]:
    frames = []
    for n in range(3):
        places = {"image": f"cup/1_2_3/images/frame{n:06d}.jpg", "mask": f"cup/1_2_3/masks/frame{n:06d}.png",
                  "depth": f"cup/1_2_3/depths/frame{n:06d}.png"}  # fmt: skip
        frames.append({"sequence_name": "1_2_3", "frame_number": n, "frame_timestamp": n / 10,
                       **{role: {"path": path, "size": [40, 48]} for role, path in places.items()}})  # fmt: skip
        _write(folder / places["image"], picture(n))
        _write(folder / places["mask"], _labels(np.uint8))
        _write(folder / places["depth"], _labels(np.uint16))
    files = {"frame_annotations.jgz": frames, "sequence_annotations.jgz": [{"sequence_name": "1_2_3"}]}
    for name, value in files.items():
        _write(folder / "cup" / name, gzip.compress(json.dumps(value).encode(), mtime=0))
    return [_dataset(folder, "co3d", [f"cup/{name}" for name in files], annotations=["mask", "depth"])]
