"""One unit to one shard: nothing lost, nothing substituted, everything said."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_media import picture_bytes, write_pictures, write_video
from PIL import Image

from manifests.dataset import config_digest
from manifests.shards import ShardInfo, read_receipt, read_rows, receipt_name
from pipelines.alone import alone
from pipelines.encoder import shared_encoder
from pipelines.job import JOB_FILE, Job, Work, configuration, difference, job_from_facts, units_of
from pipelines.resuming.settle import record, settle
from pipelines.sources.dataset import DatasetSource
from pipelines.sources.folder import FolderSource
from pipelines.sources.pairs import PairsSource
from pipelines.sources.videos import Videos
from pipelines.units import tokenize_unit
from tokenizer.images import decode_image, prepare
from visent.errors import UserError


def make(job: Job, views: tuple[int, int] = (0, 0)) -> list[ShardInfo]:
    Path(job.out).mkdir(exist_ok=True)
    units = units_of(job, job.source.listing()[0])
    return [tokenize_unit(job, Work(unit=unit, views=views), "digest", shared_encoder(job.tokenizer)) for unit in units]


def job(tmp_path: Path, tiny: str, items: int = 100, **options: Any) -> Job:
    fields = {"out": str(tmp_path / "out"), "name": "d", "tokenizer": tiny} | options
    if "source" not in fields:
        fields["source"] = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=items)
    return Job(**fields)


def rejects(info: ShardInfo, folder: str) -> list[dict[str, str]]:
    path = Path(folder) / info.file.replace(".parquet", ".rejects.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_row_holds_the_codes_of_each_role(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 5)
    made = job(tmp_path, tiny, annotate=("edge", "gray"))
    (info,) = make(made)
    rows = list(read_rows(f"{made.out}/{info.file}", made.schema))
    assert [row.key for row in rows] == [f"{n:03d}" for n in range(5)]
    squares = np.stack([prepare(decode_image(picture_bytes(n)), "crop", 32) for n in range(5)])
    assert np.array_equal(np.stack([row.codes["image"] for row in rows]), shared_encoder(tiny).encode(squares))
    assert list(rows[0].codes) == ["image", "edge", "gray"]
    assert rows[0].meta == {"source": "000.png", "size": [48, 40]}


def bad_files(folder: Path) -> dict[str, str]:
    """Writes one file of every bad kind; returns key -> expected reason, "" for those that are fine."""
    whole = picture_bytes(1, (200, 150), "JPEG")
    frames = [Image.open(io.BytesIO(picture_bytes(n))) for n in range(2)]
    animated = io.BytesIO()
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    bomb = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
    turned = Image.Exif()
    turned[0x0112] = 6
    cmyk = io.BytesIO()
    Image.open(io.BytesIO(whole)).convert("CMYK").save(cmyk, "JPEG")
    sixteen = io.BytesIO()
    Image.fromarray(np.arange(3000, dtype=np.uint16).reshape(50, 60) * 20).save(sixteen, "PNG")
    palette = io.BytesIO()
    Image.open(io.BytesIO(whole)).convert("P").save(palette, "PNG")
    one = io.BytesIO()
    Image.new("RGB", (1, 1), "red").save(one, "PNG")
    contents = {
        "truncated.jpg": (whole[: len(whole) // 2], "truncated"), "empty.jpg": (b"", "empty"),
        "text.jpg": (b"not a picture", "not-an-image"), "animated.gif": (animated.getvalue(), "animated"),
        "bomb.png": (bomb.getvalue(), "too-large"), "mislabelled.png": (whole, ""), "cmyk.jpg": (cmyk.getvalue(), ""),
        "sixteen.png": (sixteen.getvalue(), ""), "palette.png": (palette.getvalue(), ""),
        "one.png": (one.getvalue(), ""),
        "turned.jpg": (picture_bytes(2, (60, 40), "JPEG", exif=turned), ""),
    }  # fmt: skip
    folder.mkdir()
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    return {Path(name).stem: reason for name, (_, reason) in contents.items()}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_every_bad_picture_is_rejected_with_its_reason_and_every_odd_one_gives_a_row(tmp_path: Path, tiny: str) -> None:
    """Law 4: rows and rejects together are the listing."""
    expected = bad_files(tmp_path / "in")
    made = job(tmp_path, tiny)
    (info,) = make(made)
    keys = {row.key for row in read_rows(f"{made.out}/{info.file}", made.schema)}
    found = {reject["key"]: reject["reason"] for reject in rejects(info, made.out)}
    assert found == {key: reason for key, reason in expected.items() if reason}
    assert keys == {key for key, reason in expected.items() if not reason}
    assert info.rejects == dict(Counter(found.values()))
    assert {reject["stage"] for reject in rejects(info, made.out)} == {"decode"}


@given(st.lists(st.sampled_from(["good", "cut", "empty"]), min_size=1, max_size=6))
def test_rows_and_rejects_are_all_that_was_listed(
    tmp_path_factory: pytest.TempPathFactory, tiny: str, kinds: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("law")
    (folder / "in").mkdir()
    for number, kind in enumerate(kinds):
        content = picture_bytes(number)
        (folder / "in" / f"{number}.png").write_bytes({"good": content, "cut": content[:200], "empty": b""}[kind])
    (info,) = make(job(folder, tiny))
    assert info.rows == kinds.count("good")
    assert info.rows + sum(info.rejects.values()) == len(kinds)


def test_the_same_unit_gives_the_same_bytes_however_it_is_cut_into_batches(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 9)
    one, other = (job(tmp_path, tiny, out=str(tmp_path / name), annotate=("holes",)) for name in ("a", "b"))
    assert make(one) == make(other)
    assert (tmp_path / "a" / "train-00000-of-00001.parquet").read_bytes() == (
        tmp_path / "b" / "train-00000-of-00001.parquet"
    ).read_bytes()


def test_views_stand_view_by_view_with_the_keys_of_the_original(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 3)
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    made = job(tmp_path, tiny, annotate=("edge",))
    (original,) = make(made)
    (info,) = make(made, (1, 6))
    rows = list(read_rows(f"{made.out}/{info.file}", made.schema))
    assert [(row.view, row.key) for row in rows] == [(view, f"00{n}") for view in range(1, 7) for n in range(3)]
    assert info.keys_sha256 == original.keys_sha256
    assert info.rejects == {"empty": 1}
    assert len({row.codes["image"].tobytes() for row in rows}) > 9


def test_a_source_that_gives_other_keys_later_gets_no_receipt(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 3)
    made = job(tmp_path, tiny)
    (original,) = make(made)
    (unit,) = units_of(made, made.source.listing()[0])
    (tmp_path / "in" / "001.png").write_bytes(b"")
    work = Work(unit=unit, views=(1, 2), keys_sha256=original.keys_sha256)
    with pytest.raises(UserError, match="no longer gives"):
        tokenize_unit(made, work, "digest", shared_encoder(tiny))
    assert not list(Path(made.out).glob("*views*.json"))


def test_clips_and_their_annotations_have_the_same_frames(tmp_path: Path, tiny: str) -> None:
    write_video(tmp_path / "in" / "v.mp4")
    source = DatasetSource(
        name="videos", items_per_unit=4, dataset=Videos(root=str(tmp_path / "in"), fps=5.0, frames_per_clip=4)
    )
    made = job(tmp_path, tiny, source=source, annotate=("edge",))
    (info,) = make(made)
    rows = list(read_rows(f"{made.out}/{info.file}", made.schema))
    assert [len(row.codes["frames"]) for row in rows] == [len(row.codes["edge"]) for row in rows] == [4, 4, 2]
    assert info.frames == {4: 2, 2: 1}


def test_pictures_and_stills_of_videos_make_one_dataset(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    write_video(tmp_path / "in" / "v.mp4")
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=9, video_stills=1.0)
    made = job(tmp_path, tiny, source=source)
    (info,) = make(made)
    keys = [row.key for row in read_rows(f"{made.out}/{info.file}", made.schema)]
    assert keys == ["000", "001", "v#000000", "v#000001"]


def test_depth_pairs_make_rows_and_incomplete_ones_rejects(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "image", 3)
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "000.npy", np.linspace(1, 9, 20 * 24, dtype=np.float32).reshape(20, 24))
    np.save(tmp_path / "depth" / "001.npy", np.ones((20, 20), np.float32))
    paths = {"image": str(tmp_path / "image"), "depth": str(tmp_path / "depth")}
    made = job(tmp_path, tiny, source=PairsSource(paths=paths, items_per_unit=9))
    (info,) = make(made)
    assert [row.key for row in read_rows(f"{made.out}/{info.file}", made.schema)] == ["000"]
    assert {one["key"]: one["reason"] for one in rejects(info, made.out)} == {
        "001": "sizes-differ",
        "002": "missing-depth",
    }


def test_the_receipt_comes_after_the_shard_and_a_mended_source_clears_the_rejects(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    (tmp_path / "in" / "001.png").write_bytes(b"")
    made = job(tmp_path, tiny)
    (info,) = make(made)
    assert read_receipt(made.out, info.file) == info
    assert rejects(info, made.out)
    (tmp_path / "in" / "001.png").write_bytes(picture_bytes(1))
    Path(made.out, receipt_name(info.file)).unlink()  # only what has no receipt is made again
    (info,) = make(made)
    assert not rejects(info, made.out)
    assert not list(Path(made.out).glob("*.jsonl"))


def settled(made: Job) -> dict[str, Any]:
    found = settle(made, made.source.listing()[0])
    record(made, found)
    return found.config


def test_a_folder_keeps_its_configuration_and_refuses_another_by_name(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    first = job(tmp_path, tiny)
    config = settled(first)
    make(first)
    assert settled(first) == config
    with pytest.raises(UserError, match=r'--holdout: was 0.0, now 0.1\n  --annotate: was \[\], now \["edge"\]'):
        settled(job(tmp_path, tiny, annotate=("edge",), holdout=0.1))
    (tmp_path / "in" / "001.png").unlink()
    with pytest.raises(UserError, match="1 item is gone: 001"):
        settled(first)


def test_a_moved_source_goes_on_under_the_configuration_it_was_begun_with(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    config = settled(job(tmp_path, tiny))
    make(job(tmp_path, tiny))
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    moved = job(tmp_path, tiny, source=FolderSource(paths=(str(tmp_path / "elsewhere"),), items_per_unit=100))
    assert settled(moved) == config | {"roots": {"": str(tmp_path / "elsewhere")}}
    assert config_digest(settled(moved)) == config_digest(config)


def test_a_configuration_may_change_while_nothing_is_finished(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    settled(job(tmp_path, tiny))
    assert settled(job(tmp_path, tiny, annotate=("edge",)))["annotate"] == ["edge"]


def test_only_a_folder_that_is_held_is_said_to_be_held(tmp_path: Path) -> None:
    taken = pytest.raises(UserError, match="another `visent tokenize` is writing")
    with alone(str(tmp_path)), taken, alone(str(tmp_path)):
        pass
    with pytest.raises(BlockingIOError), alone(str(tmp_path)):
        raise BlockingIOError  # of something else inside


def test_a_folder_with_other_files_is_refused(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    with pytest.raises(UserError, match="holds other files"):
        settled(job(tmp_path, tiny, out=str(tmp_path / "in")))
    assert not (tmp_path / "in" / JOB_FILE).exists()


@pytest.mark.parametrize("kind", ["folder", "pairs", "videos"])
def test_a_recorded_configuration_builds_the_same_job(tmp_path: Path, tiny: str, kind: str) -> None:
    write_pictures(tmp_path / "in", 2)
    write_video(tmp_path / "in" / "v.mp4")
    sources = {
        "folder": FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=7, video_stills=2.0),
        "pairs": PairsSource(
            paths={"image": f"{tmp_path}/in/*.png", "b": f"{tmp_path}/in"}, items_per_unit=7, labels=("b",)
        ),
        "videos": DatasetSource(
            name="videos", items_per_unit=7, dataset=Videos(root=str(tmp_path / "in"), fps=3.0, stills=True)
        ),
    }
    made = job(tmp_path, tiny, source=sources[kind], annotate=("edge",), holdout=0.2)
    config = json.loads(json.dumps(settled(made)))
    again = job_from_facts(made.out, "d", config)
    assert again == made
    assert not difference(config, configuration(again))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"holdout": 1.0}, "--holdout"),
        ({"annotate": ("egde",)}, "did you mean 'edge'"),
        ({"annotate": ("image",)}, "unknown annotator"),
        ({"tokenizer": "absent"}, "no tokenizer"),
    ],
)
def test_a_wrong_job_is_one_clear_error(tmp_path: Path, tiny: str, options: dict[str, Any], message: str) -> None:
    write_pictures(tmp_path / "in", 1)
    with pytest.raises(UserError, match=message):
        job(tmp_path, tiny, **options)
