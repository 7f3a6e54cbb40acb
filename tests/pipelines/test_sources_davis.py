"""DAVIS and YouTube-VOS: palette masks of object ids, drawn with one colour for an object throughout its video."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from made_frames import squares, write_frames, write_ids
from PIL import Image
from reading_datasets import read_all

from pipelines.cli import tokenize
from pipelines.render.instances import instance_colours, read_ids
from pipelines.sources.davis import DAVIS
from pipelines.sources.youtube_vos import YouTubeVOS
from tokenizer.images import decode_image
from visent.errors import UserError

# DAVIS


def test_the_real_layout_of_2017_gives_frames_and_their_objects(samples: Path) -> None:
    root = samples / "davis" / "DAVIS2017"
    found = read_all(DAVIS(root=str(root), stride=13))
    assert {unit.split: [item.key for item in unit.items] for unit in found.units} == {
        "val": ["car-shadow"], "test": ["judo"]
    }  # fmt: skip
    clip = found.examples["car-shadow#00000"]
    assert clip.meta == {"frames": [0, 13, 26, 39], "times": [0.0, 0.542, 1.083, 1.625]}
    for place, number in enumerate(clip.meta["frames"]):
        ids = np.array(Image.open(root / f"Annotations/480p/car-shadow/{number:05d}.png"))
        drawn = found.pixels[clip.key]["instances"][place]
        (colour,) = instance_colours("car-shadow", 1)
        assert np.array_equal(drawn, np.where(ids[..., None] == 1, colour, 0))
        jpeg = (root / f"JPEGImages/480p/car-shadow/{number:05d}.jpg").read_bytes()
        assert np.array_equal(found.pixels[clip.key]["frames"][place], decode_image(jpeg))
    assert found.examples["judo#00000"].meta["frames"] == [0]  # the only mask that test-dev has
    assert found.rejects == {}


def test_frames_alone_need_no_masks(samples: Path) -> None:
    found = read_all(DAVIS(root=str(samples / "davis" / "DAVIS2017"), annotations=()), ("test",))
    assert found.examples["judo#00000"].meta["frames"] == [0, 1, 2, 3, 4, 5]
    assert list(found.pixels["judo#00000"]) == ["frames"]


def test_2016_has_masks_of_one_object(samples: Path, tmp_path: Path) -> None:
    davis = samples / "davis"
    (tmp_path / "JPEGImages").symlink_to(davis / "DAVIS2017" / "JPEGImages")
    for name in ("Annotations", "ImageSets"):
        (tmp_path / name).symlink_to(davis / "DAVIS2016" / name)
    found = read_all(DAVIS(root=str(tmp_path), year="2016", annotations=("mask",), frames_per_clip=32, stride=8))
    assert [item.key for item in found.items] == ["car-shadow"]
    pixels = found.pixels["car-shadow#00000"]
    for place, number in enumerate(range(0, 40, 8)):
        mask = np.array(Image.open(davis / f"DAVIS2016/Annotations/480p/car-shadow/{number:05d}.png"))
        assert np.array_equal(pixels["mask"][place], np.repeat(mask[..., None], 3, axis=2))


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """A video "dogs" of six frames: objects 1 and 3 all the time, 2 from frame 2 on, void in frame 5."""
    write_frames(tmp_path / "JPEGImages/Full-Resolution/dogs", range(6))
    for number in range(6):
        values = squares([1, 2, 3] if number > 1 else [1, 3])
        values[30:, :] = 255 if number == 5 else 0
        write_ids(tmp_path / f"Annotations/Full-Resolution/dogs/{number:05d}.png", values)
    lists = tmp_path / "ImageSets/2017"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("dogs\ngone\ndogs\n")
    return tmp_path


def test_an_object_has_one_colour_in_all_clips_of_its_video(davis: Path) -> None:
    found = read_all(DAVIS(root=str(davis), resolution="Full-Resolution", frames_per_clip=2))
    assert found.rejects == {"gone": "missing-frames", "dogs": "duplicate-key"}
    frames = [still for key in found.pixels for still in found.pixels[key]["instances"]]
    assert len(frames) == 6
    first, third = tuple(frames[0][8, 0]), tuple(frames[0][8, 10])
    assert len({first, third, (0, 0, 0)}) == 3
    for still in frames[2:]:
        assert (tuple(still[8, 0]), tuple(still[8, 20])) == (first, third)
        assert tuple(still[8, 10]) not in (first, third)
    assert not frames[5][30:].any()  # void is black


def test_a_frame_that_a_list_of_2016_names_must_be_there(davis: Path) -> None:
    for folder, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
        (davis / folder / "1080p").symlink_to(davis / folder / "Full-Resolution")
        (davis / folder / "1080p" / "dogs" / f"00005.{ending}").unlink()
    (davis / "ImageSets/1080p").mkdir()
    text = "".join(f"/JPEGImages/1080p/dogs/{n:05d}.jpg /Annotations/1080p/dogs/{n:05d}.png\n" for n in range(6))
    (davis / "ImageSets/1080p/train.txt").write_text(text)
    dataset = DAVIS(root=str(davis), year="2016", resolution="1080p", annotations=("mask",), frames_per_clip=4)
    found = read_all(dataset)
    assert list(found.examples) == ["dogs#00000"]
    assert found.rejects == {"dogs#00001": "missing-frames"}
    (davis / "ImageSets/1080p/train.txt").write_text("dogs\n")
    with pytest.raises(UserError, match="names no numbered frame"):
        read_all(dataset)


def test_the_command_makes_rows_of_both_clips_and_counts_rejects(davis: Path, tiny: str, tmp_path: Path) -> None:
    out = tmp_path / "davis"
    (davis / "Annotations/Full-Resolution/dogs/00004.png").unlink()
    arguments = ["davis", "--root", str(davis), "--resolution", "Full-Resolution", "--frames-per-clip", "2",
                 "--out", str(out), "--tokenizer", tiny, "--max-reject-fraction", "0.9"]  # fmt: skip
    result = CliRunner().invoke(tokenize, arguments)
    assert result.exit_code == 0, result.output
    rows = pyarrow.parquet.read_table(out / "train-00000-of-00001.parquet").to_pylist()
    assert [row["key"] for row in rows] == ["dogs#00000", "dogs#00001"]
    assert [len(row[role]) for row in rows for role in ("frames", "instances")] == [2, 2, 2, 2]
    assert rows[0]["instances"][0] == rows[0]["instances"][1] != rows[1]["instances"][0]  # an object comes
    assert [json.loads(row["meta"])["times"] for row in rows] == [[0.0, 0.042], [0.083, 0.125]]
    rejects = [json.loads(line) for line in (out / "train-00000-of-00001.rejects.jsonl").read_text().splitlines()]
    assert {(one["key"], one["reason"]) for one in rejects} == {
        ("dogs", "duplicate-key"), ("dogs#00002", "missing-instances"), ("gone", "missing-frames")
    }  # fmt: skip


# YouTube-VOS


def test_the_real_layout_of_youtube_vos_gives_every_fifth_frame(samples: Path) -> None:
    root = samples / "youtube_vos"
    found = read_all(YouTubeVOS(root=str(root)))
    (clip,) = found.examples.values()
    assert clip.key == "003234408d#00000"
    assert clip.meta["objects"] == {str(n): "penguin" for n in range(1, 6)}
    assert clip.meta["frames"] == list(range(0, 75, 5))
    assert clip.meta["times"][6] == 1.0
    for place, number in enumerate(clip.meta["frames"]):
        ids = np.array(Image.open(root / f"train/Annotations/003234408d/{number:05d}.png"))
        assert np.array_equal(read_ids(found.pixels[clip.key]["instances"][place], "003234408d", range(1, 6)), ids)
    assert found.rejects == {"038c15a5dd": "missing-instances"}
    frames = read_all(YouTubeVOS(root=str(root), annotations=()), ("val",))
    assert len(frames.pixels["038c15a5dd#00000"]["frames"]) == 15


@pytest.fixture
def youtube(tmp_path: Path) -> Path:
    """A video in train whose object 1 is in frames 5 to 15, object 3 in 15, of frames 0 to 20; one in valid."""
    for split in ("train", "valid"):
        write_frames(tmp_path / split / "JPEGImages" / f"{split}0", range(0, 25, 5))
    for number, ids in ((5, [1]), (10, [1]), (15, [1, 3])):
        write_ids(tmp_path / f"train/Annotations/train0/{number:05d}.png", squares(ids))
    for number, ids in ((0, [1]), (15, [1, 2])):
        write_ids(tmp_path / f"valid/Annotations/valid0/{number:05d}.png", squares(ids))
    objects = {"1": ("dog", ["00005", "00010", "00015"]), "3": ("cat", ["00015"])}
    write_meta(tmp_path / "train", {"train0": objects, "gone": {}})
    write_meta(tmp_path / "valid", {"valid0": {"1": ("dog", ["00000", "00005"]), "2": ("dog", ["00015"])}})
    return tmp_path


def write_meta(folder: Path, videos: dict[str, dict[str, tuple[str, list[str]]]]) -> None:
    """Writes meta.json as the publisher does."""
    found = {name: {"objects": {number: {"category": category, "frames": frames}
                                for number, (category, frames) in objects.items()}}
             for name, objects in videos.items()}  # fmt: skip
    (folder / "meta.json").write_text(json.dumps({"videos": found}))


def test_frames_without_objects_are_left_out_and_valid_has_first_masks_alone(youtube: Path) -> None:
    found = read_all(YouTubeVOS(root=str(youtube)))
    assert {key: example.meta["frames"] for key, example in found.examples.items()} == {
        "train0#00000": [5, 10, 15], "valid0#00000": [0, 15]
    }  # fmt: skip
    assert found.examples["train0#00000"].meta["objects"] == {"1": "dog", "3": "cat"}
    assert found.rejects == {"gone": "missing-frames"}


def test_a_mask_that_meta_json_promises_is_a_reject_when_missing(youtube: Path) -> None:
    (youtube / "train/Annotations/train0/00010.png").unlink()
    found = read_all(YouTubeVOS(root=str(youtube)), ("train",))
    assert found.rejects == {"gone": "missing-frames", "train0#00000": "missing-instances"}


def test_an_object_that_meta_json_does_not_know_is_a_reject(youtube: Path) -> None:
    write_ids(youtube / "train/Annotations/train0/00010.png", squares([1, 2]))
    assert read_all(YouTubeVOS(root=str(youtube)), ("train",)).rejects["train0#00000"] == "unknown-label"


def test_videos_outside_of_meta_json_are_left_out_and_said_so(youtube: Path) -> None:
    write_frames(youtube / "train/JPEGImages/extra", range(2))
    assert "1 videos that meta.json does not list" in read_all(YouTubeVOS(root=str(youtube))).note


@pytest.mark.parametrize("text", ["{", "[]", '{"videos": {"a": 1}}', '{"videos": {"a": {"objects": {"x": {}}}}}'])
def test_a_broken_meta_json_is_named(youtube: Path, text: str) -> None:
    (youtube / "train/meta.json").write_text(text)
    with pytest.raises(UserError, match=r"meta\.json"):
        read_all(YouTubeVOS(root=str(youtube)))
