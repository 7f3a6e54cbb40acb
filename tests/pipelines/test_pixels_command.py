"""`visent pixels`: what is written beside the codes is what was encoded, and never of another dataset than it says."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from deadly import Deadly
from made_media import picture_bytes, write_labels, write_picture, write_pictures, write_video
from PIL import Image
from urls import at_url

from manifests.dataset import load_facts
from manifests.pixel_files import shards_of
from manifests.pixels import PixelStore
from manifests.shards import read_rows
from pipelines.cli import verify
from pipelines.commands.pixels import pixels
from pipelines.commands.status import status
from pipelines.encoder import shared_encoder
from pipelines.faults import Fault
from pipelines.job import Job, Work, units_of
from pipelines.pixel_rows import ShardRows, packed_rows
from pipelines.pixels import make_pixels
from pipelines.reporting.report import Wanted, write_report
from pipelines.resuming.retry import retry_rejects
from pipelines.sources.dataset import DatasetSource
from pipelines.sources.folder import FolderSource
from pipelines.sources.pairs import PairsSource
from pipelines.sources.videos import Videos
from pipelines.tokenize import tokenize
from pipelines.units import tokenize_unit
from visent.errors import UserError


def job(tmp_path: Path, tiny: str, **options: Any) -> Job:
    source = options.pop("source", None) or FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=3)
    return Job(**{"out": str(tmp_path / "d"), "name": "d", "tokenizer": tiny, "source": source} | options)


def same_as_codes(folder: str, split: str, tiny: str) -> int:
    """Encodes all pixels again and compares them with the dataset's codes; returns how many pictures there were."""
    facts, store = load_facts(folder), PixelStore.open(folder, split)
    rows = [row for shard in shards_of(facts, split) for row in read_rows(f"{folder}/{shard.file}", facts.schema)]
    assert store.keys == [row.key for row in rows]
    pictures = 0
    for role in facts.schema.roles:
        for number, row in enumerate(rows):
            squares = store.read(role, np.array([number]))[0]
            codes = shared_encoder(tiny, "crop", None).encode(squares)
            np.testing.assert_array_equal(codes, np.atleast_2d(row.codes[role]), err_msg=f"{row.key} {role}")
            pictures += len(squares)
    return pictures


def stamps(folder: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path(folder, "pixels").glob("train-*.parquet")}


@pytest.mark.parametrize("format", ["parquet", pytest.param("arrayrecord", marks=pytest.mark.slow)])
def test_stills_with_drawn_roles_have_the_codes_of_the_dataset(tmp_path: Path, tiny: str, format: Any) -> None:
    write_pictures(tmp_path / "in", 9)
    (tmp_path / "in" / "004.png").write_bytes(picture_bytes(4)[:200])  # rejected then and now
    write_picture(tmp_path / "in" / "wide.jpg", 50, (90, 41))
    write_video(tmp_path / "in" / "film.mp4", 20)
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=3, video_stills=3.0)
    made = job(tmp_path, tiny, source=source, annotate=("edge", "holes"), format=format, holdout=0.4)
    tokenize(made, max_reject_fraction=0.5)
    facts = load_facts(made.out)
    for split in ("train", "val"):
        done = make_pixels(made.out, split)
        assert done.rows == facts.examples(split) > 2
        assert same_as_codes(made.out, split, tiny) == done.pictures == 3 * done.rows
    assert make_pixels(made.out, "val").made == 0


def test_clips_have_the_codes_of_the_dataset(tmp_path: Path, tiny: str) -> None:
    for number, frames in enumerate((20, 25, 33)):
        write_video(tmp_path / "in" / f"{number}.mp4", frames)
    source = DatasetSource(name="videos", dataset=Videos(root=str(tmp_path / "in"), fps=5.0), items_per_unit=2)
    made = job(tmp_path, tiny, source=source, annotate=("gray",))
    tokenize(made)
    done = make_pixels(made.out, "train")
    assert same_as_codes(made.out, "train", tiny) == done.pictures
    store = PixelStore.open(made.out, "train")
    lengths = [len(store.read("frames", np.array([row]))[0]) for row in range(done.rows)]
    assert len(set(lengths)) > 1
    short = store.keys[lengths.index(min(lengths))]
    with pytest.raises(UserError, match=f"clips of {max(lengths)} frames are wanted .* {short!r} has {min(lengths)}"):
        store.read("gray", np.arange(done.rows), max(lengths))
    with pytest.raises(UserError, match="ask for no more frames than the shortest has"):
        store.read("gray", np.arange(done.rows))
    few = store.read("frames", np.arange(done.rows), min(lengths))
    assert few.shape == (done.rows, min(lengths), 32, 32, 3)


def test_maps_of_classes_keep_their_colours_and_their_legend(tmp_path: Path, tiny: str) -> None:
    maps = [np.arange(number, number + 4, dtype=np.uint8).reshape(2, 2) for number in range(3)]
    for number in range(3):
        write_picture(tmp_path / "in" / "image" / f"{number}.png", number, (48, 48))
        write_labels(tmp_path / "in" / "mask" / f"{number}.png", np.kron(maps[number], np.ones((24, 24), np.uint8)))
    paths = {role: str(tmp_path / "in" / role) for role in ("image", "mask")}
    made = job(tmp_path, tiny, source=PairsSource(paths=paths, items_per_unit=2, labels=("mask",)))
    tokenize(made)
    make_pixels(made.out, "train")
    assert same_as_codes(made.out, "train", tiny) == 6
    store = PixelStore.open(made.out, "train")
    legend = store.legend("mask")
    assert legend is not None
    assert store.legend("image") is None
    colours = {colour: number for number, colour in zip(legend.ids, legend.colours, strict=True)}
    for squares, ids in zip(store.read("mask", np.arange(3))[:, 0], maps, strict=True):
        read = np.array([[colours[tuple(pixel)] for pixel in row] for row in squares.tolist()])
        np.testing.assert_array_equal(read, np.kron(ids, np.ones((16, 16), int)))


def test_roles_of_networks_are_drawn_by_the_same_network(tmp_path: Path, tiny: str) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'visent[onnx]'")
    pytest.importorskip("onnx", reason="pip install onnx")
    from made_onnx import convolution, write_card, write_model

    write_pictures(tmp_path / "in", 7)
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 3)) / 9
    write_model(tmp_path / "m", convolution(kernel))
    made = job(tmp_path, tiny, annotate=(write_card(tmp_path / "m"), "edge"))
    tokenize(made)
    make_pixels(made.out, "train")
    assert same_as_codes(made.out, "train", tiny) == 7 * 3
    write_model(tmp_path / "m", convolution(kernel * 2))
    assert make_pixels(made.out, "train").made == 0  # needs no model
    (Path(made.out) / "pixels" / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(
        UserError, match=r"role 'drawn' of .* was drawn by a model of sha256 .*: put the first one back"
    ):
        make_pixels(made.out, "train")


def test_models_of_labels_have_their_palettes_legend(tmp_path: Path, tiny: str) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'visent[onnx]'")
    pytest.importorskip("onnx", reason="pip install onnx")
    from made_onnx import per_pixel, write_card, write_model

    write_pictures(tmp_path / "in", 3)
    write_model(tmp_path / "m", per_pixel([[1, 0, 0], [0, 1, 0], [0, 0, 1]]))
    card = write_card(tmp_path / "m", decode="labels", palette="ade20k", first_row=1)
    made = job(tmp_path, tiny, annotate=(card,))
    tokenize(made)
    make_pixels(made.out, "train")
    store = PixelStore.open(made.out, "train")
    legend = store.legend("drawn")
    assert legend is not None
    assert legend.ids == tuple(number for number in range(1, 151) if number != 49)
    drawn = np.unique(store.read("drawn", np.arange(3)).reshape(-1, 3), axis=0)
    assert {tuple(colour) for colour in drawn.tolist()} <= set(legend.colours[:3])


def test_what_kills_its_reader_is_not_read_again(tmp_path: Path, tiny: str) -> None:
    source = Deadly(items=(("a", "crash", "b"), ("a", "raise", "b"), ("c",)))
    made = job(tmp_path, tiny, source=source)
    (unit,) = units_of(made, source.listing()[0])
    faults = (
        Fault(item=0, result=1, stage="decode", reason="crashed"),
        Fault(item=1, result=1, stage="read", reason="crashed"),
    )
    Path(made.out).mkdir()
    shard = tokenize_unit(made, Work(unit=unit, faults=faults), "", shared_encoder(tiny, "crop", None))
    keys = ["0/0", "0/2", "1/0", "2/0"]
    rows = ShardRows(keys=keys, sizes=[[48, 40]] * 4, lengths=None)
    packed = list(packed_rows(made, unit, shard, ("image",), rows, rows))
    assert [row.key for row in packed] == keys
    assert [len(row.pictures["image"]) for row in packed] == [1] * 4


def test_five_lines_read_them(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 5)
    made = job(tmp_path, tiny)
    tokenize(made)
    make_pixels(made.out, "train")
    store = PixelStore.open(made.out, "train")
    for file in sorted(Path(made.out, "pixels").glob("train-*.parquet")):
        for row in pq.read_table(file).to_pylist():
            picture = Image.open(io.BytesIO(row["image"]))
            np.testing.assert_array_equal(
                np.asarray(picture), store.read("image", np.array([store.keys.index(row["key"])]))[0, 0]
            )


def test_growth_and_retries_make_pixels_stale_and_only_those_are_made_again(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 7)
    (tmp_path / "in" / "004.png").write_bytes(b"")
    made = job(tmp_path, tiny)
    tokenize(made, max_reject_fraction=0.5)
    make_pixels(made.out, "train", ["image"])
    before = stamps(made.out)
    (tmp_path / "in" / "004.png").write_bytes(picture_bytes(4))
    retry_rejects(made.out)
    with pytest.raises(UserError, match=r"1 of 3 shards are others\): bring them up to date with `visent pixels"):
        PixelStore.open(made.out, "train")
    assert make_pixels(made.out, "train").made == 1
    assert {name for name, stamp in stamps(made.out).items() if before[name] != stamp} == {
        "train-00001-of-00003.parquet"
    }
    assert same_as_codes(made.out, "train", tiny) == 7
    (tmp_path / "in" / "new.png").write_bytes(picture_bytes(99))
    tokenize(made)
    with pytest.raises(UserError, match="1 of 4 shards are others"):
        PixelStore.open(made.out, "train")
    assert make_pixels(made.out, "train").made == 1
    assert same_as_codes(made.out, "train", tiny) == 8


def test_other_commands_do_not_mind_the_folder(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 4)
    made = job(tmp_path, tiny)
    tokenize(made)
    make_pixels(made.out, "train")
    for command in (verify, status):
        done = CliRunner().invoke(command, [str(tmp_path), "--json"] if command is status else [made.out, "--json"])
        assert done.exit_code == 0, done.output
        (found,) = json.loads(done.stdout)["datasets"]
        assert not found.get("problems")
        assert not found["notes"]
    write_report(made.out, str(tmp_path / "r.html"), Wanted(rows=1))
    assert tokenize(made).pictures == 0
    assert make_pixels(made.out, "train").made == 0


def test_what_is_missing_is_made_and_nothing_else(tmp_path: Path, tiny: str) -> None:
    """A run that was stopped leaves whole files; the next one goes on with them."""
    write_pictures(tmp_path / "in", 9)
    made = job(tmp_path, tiny)
    tokenize(made)
    kept = (tmp_path / "in" / "005.png").read_bytes()
    (tmp_path / "in" / "005.png").unlink()
    with pytest.raises(UserError, match=r"train-00001.*no longer gives row '005' .*: missing \(005.png: gone since"):
        make_pixels(made.out, "train")
    assert list(stamps(made.out)) == ["train-00000-of-00003.parquet"]
    assert not list(Path(made.out, "pixels").glob(".tmp-*"))
    with pytest.raises(UserError, match="has no pixels of split train: make them with `visent pixels"):
        PixelStore.open(made.out, "train")
    (tmp_path / "in" / "005.png").write_bytes(kept)
    before = stamps(made.out)
    done = make_pixels(made.out, "train")
    assert (done.made, done.files, done.rows) == (2, 3, 9)
    assert {name: stamp for name, stamp in stamps(made.out).items() if name in before} == before
    assert same_as_codes(made.out, "train", tiny) == 9


def test_other_pictures_than_those_that_were_encoded_are_refused(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 3)
    made = job(tmp_path, tiny)
    tokenize(made)
    (tmp_path / "in" / "001.png").write_bytes(picture_bytes(1, (50, 40)))
    with pytest.raises(UserError, match=r"row '001' as it was tokenized: its picture is \[50, 40\], was \[48, 40\]"):
        make_pixels(made.out, "train")
    (tmp_path / "in" / "001.png").write_bytes(b"GIF89a")
    with pytest.raises(UserError, match=r"row '001' as it was tokenized: \S+ \(001.png"):
        make_pixels(made.out, "train")


def test_roles_and_rows_add_up(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 9)
    made = job(tmp_path, tiny, annotate=("edge", "gray"))
    tokenize(made)
    assert make_pixels(made.out, "train", ["edge"], 3).rows == 3
    store = PixelStore.open(made.out, "train")
    assert len(store.keys) == 9
    there = _there(store, "edge")
    assert len(there) == 3
    with pytest.raises(UserError, match=r"only 3 rows have: make those of all with `visent pixels .* --roles edge`"):
        store.read("edge", np.arange(9))
    with pytest.raises(UserError, match=r"role 'image' of .* has no pixels: .* --roles image --most 3`"):
        store.read("image", np.array(there))
    with pytest.raises(UserError, match="did you mean 'edge'"):
        store.read("edges", np.arange(1))
    done = make_pixels(made.out, "train", ["image"], 5)
    assert (done.rows, done.roles) == (5, ("image", "edge"))
    store = PixelStore.open(made.out, "train")
    assert set(there) < set(_there(store, "image")) == set(_there(store, "edge"))
    assert make_pixels(made.out, "train", ["edge"], 2).made == 0  # what is there stays
    assert make_pixels(made.out, "train").roles == ("image", "edge", "gray")
    assert same_as_codes(made.out, "train", tiny) == 27


def _there(store: PixelStore, role: str) -> list[int]:
    found = []
    for number in range(len(store.keys)):
        try:
            store.read(role, np.array([number]))
        except UserError:
            continue
        found.append(number)
    return found


def test_source_and_dataset_may_lie_at_urls(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 7)
    source = FolderSource(paths=(at_url(tmp_path / "in"),), items_per_unit=3)
    made = job(tmp_path, tiny, out="memory://pixels/d", source=source, annotate=("edge",))
    tokenize(made)
    assert make_pixels(made.out, "train").made == 3
    assert same_as_codes(made.out, "train", tiny) == 14
    fsspec.filesystem("memory").rm("/pixels/d/pixels/train-00001-of-00003.parquet")
    with pytest.raises(UserError, match=r"train-00001-of-00003.parquet is gone: make it again"):
        PixelStore.open(made.out, "train").read("image", np.arange(7))
    assert make_pixels(made.out, "train").made == 1


def test_damage_is_found_when_a_file_is_first_read(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 4)
    made = job(tmp_path, tiny)
    tokenize(made)
    make_pixels(made.out, "train")
    file = Path(made.out, "pixels", "train-00000-of-00002.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    store = PixelStore.open(made.out, "train")
    assert store.read("image", np.array([3])).shape == (1, 1, 32, 32, 3)
    with pytest.raises(UserError, match=r"train-00000-of-00002.parquet is damaged .*: remove it, then make it again"):
        store.read("image", np.array([3, 0]))
    file.unlink()
    assert make_pixels(made.out, "train").made == 1
    assert same_as_codes(made.out, "train", tiny) == 4


def test_the_command_says_what_it_did_and_what_is_wrong(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 4)
    made = job(tmp_path, tiny)
    tokenize(made)
    done = CliRunner().invoke(pixels, [made.out, "--split", "train", "--roles", "image"])
    assert done.exit_code == 0, done.output
    assert f"wrote {made.out}/pixels/train.json" in done.output
    assert "pixels of d: 4/4 rows" in done.output
    wrong = {"val": "unknown split of dataset 'd' 'val'", "train --roles imag": "did you mean 'image'"}
    for arguments, message in wrong.items():
        failed = CliRunner().invoke(pixels, [made.out, "--split", *arguments.split()])
        assert isinstance(failed.exception, UserError)
        assert message in str(failed.exception)
    failed = CliRunner().invoke(pixels, [str(tmp_path)])
    assert "no dataset at" in str(failed.exception)


@pytest.mark.slow
def test_a_killed_run_leaves_whole_files_and_is_gone_on_with(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 60)
    made = job(tmp_path, tiny)
    tokenize(made)
    command = [sys.executable, "-m", "visent", "pixels", made.out, "--split", "train"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while len(stamps(made.out)) < 3 and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    before = stamps(made.out)
    assert 0 < len(before) < 20
    for name in before:
        assert pq.read_table(Path(made.out, "pixels", name)).num_rows == 3
    done = make_pixels(made.out, "train")
    assert 20 - len(before) <= done.made <= 21 - len(before)  # a file may be there whose receipt is not
    assert not list(Path(made.out, "pixels").glob(".tmp-*"))
    assert same_as_codes(made.out, "train", tiny) == 60


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
sys.argv[0] = "visent"
from visent.cli import main
main()
"""


@pytest.mark.slow
def test_a_target_that_cannot_take_more_is_one_line_and_leaves_nothing_half(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 6)
    made = job(tmp_path, tiny)
    tokenize(made)
    command = [sys.executable, "-c", FULL_DISK, "pixels", made.out, "--split", "train"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith(("pixels of", "keys of"))]
    assert line.startswith(f"error: cannot write {made.out}/pixels/train-00000-of-00002.parquet: ")
    assert "File too large; nothing half-written was left" in line
    assert list(Path(made.out, "pixels").iterdir()) == []
    assert make_pixels(made.out, "train").rows == 6
