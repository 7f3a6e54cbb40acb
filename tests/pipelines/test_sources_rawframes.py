"""Raw frames, paired videos, and Charades with masks: general layouts of frames and annotations."""

from pathlib import Path

import numpy as np
import pytest
from made_frames import SIZE, squares, write_frames, write_ids
from made_media import STEP, write_video
from PIL import Image
from reading_datasets import read_all

from pipelines.render.instances import read_ids
from pipelines.sources.charades_masks import CharadesMasks
from pipelines.sources.rawframes import RawFrames
from pipelines.sources.video_masks import ANY_ID
from pipelines.sources.video_pairs import VideoPairs
from tokenizer.images import decode_image
from visent.errors import UserError

# Raw frames


def test_the_real_frames_and_their_flow(samples: Path) -> None:
    root = samples / "rawframes"
    found = read_all(RawFrames(root=str(root), rate=5.0))
    clip = found.examples["test_imgs#00000"]
    assert clip.meta == {"frames": list(range(1, 11)), "times": [n / 5 for n in range(10)]}
    jpeg = (root / "test_imgs" / "img_00003.jpg").read_bytes()
    assert np.array_equal(found.pixels[clip.key]["frames"][2], decode_image(jpeg))
    found = read_all(RawFrames(root=str(root), annotations=("flow_x", "flow_y")))
    assert found.examples["test_imgs#00000"].meta == {"frames": [1, 2, 3, 4, 5]}
    flow = np.array(Image.open(root / "test_imgs" / "y_00002.jpg"))
    assert np.array_equal(found.pixels["test_imgs#00000"]["flow_y"][1][..., 2], flow)
    found = read_all(RawFrames(root=str(root), list_file="rawframe_test_list.txt"))  # it names a folder of another name
    assert [item.reject for item in found.items] == ["missing-frames", "duplicate-key"]


def test_lists_give_count_and_classes(tmp_path: Path) -> None:
    for name, count in (("run/a", 6), ("run/b", 2), ("my jump", 4)):
        write_frames(tmp_path / name, range(1, count + 1), "img_{:05d}.jpg")
    (tmp_path / "train.txt").write_text("run/a 4 7\nmy jump 4 1 5\n")
    (tmp_path / "val.txt").write_text("run/b 3 7\n")
    found = read_all(RawFrames(root=str(tmp_path), list_file="{split}.txt"))
    assert {key: example.meta for key, example in found.examples.items()} == {
        "run/a#00000": {"class_index": 7, "frames": [1, 2, 3, 4]},
        "my jump#00000": {"class_indices": [1, 5], "frames": [1, 2, 3, 4]},
    }
    assert found.rejects == {"run/b#00000": "missing-frames"}  # the list says three
    assert {unit.split for unit in found.units} == {"train", "val"}
    (tmp_path / "train.txt").write_text("run/a\n")
    with pytest.raises(UserError, match="expected a folder"):
        read_all(RawFrames(root=str(tmp_path), list_file="train.txt"))


@pytest.mark.parametrize(("pattern", "text"), [("img.jpg", "one %d"), ("a/%d", "one %d"), ("%d_%d", "one %d")])
def test_patterns_need_one_number(pattern: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        RawFrames(root=".", pattern=pattern)


# Pairs of videos


def test_folders_of_frames_are_paired_by_number(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames" / "v1", (3, 4, 7), "v1-{:06d}.jpg")
    for number in (3, 4, 7):
        write_ids(tmp_path / "mask" / "v1" / f"{number}.png", squares([2, 5]))
        write_ids(tmp_path / "far" / "v1" / f"{number}.png", np.full(SIZE[::-1], 1000 + number, np.uint16))
    (tmp_path / "mask" / "v2").mkdir()
    dataset = VideoPairs(root=str(tmp_path), folders=("frames", "mask", "far"), instances=("mask",), depth=("far",))
    found = read_all(dataset)
    assert found.examples["v1#00000"].meta == {"frames": [3, 4, 7]}
    pixels = found.pixels["v1#00000"]
    assert list(pixels) == ["frames", "mask", "far"]
    assert np.array_equal(read_ids(pixels["mask"][2], "v1", ANY_ID[:8]), squares([2, 5]))
    assert found.rejects == {"v2": "missing-frames"}


def test_video_files_are_paired_by_position(tmp_path: Path) -> None:
    write_video(tmp_path / "frames" / "run" / "a.avi", 12)
    write_video(tmp_path / "mask" / "run" / "a.mp4", 12)
    found = read_all(VideoPairs(root=str(tmp_path), stride=5, frames_per_clip=2))
    assert {key: example.meta["times"] for key, example in found.examples.items()} == {
        "run/a#00000": [0.0, 0.5], "run/a#00001": [1.0]
    }  # fmt: skip
    assert found.rejects == {}
    for role in ("frames", "mask"):
        assert abs(found.pixels["run/a#00001"][role][0].mean() - 10 * STEP) < 3
    found = read_all(VideoPairs(root=str(tmp_path), frames=3))
    assert found.examples["run/a#00000"].meta["times"] == [0.0, 0.4, 0.8]


def test_a_folder_of_masks_stands_beside_a_video_file(tmp_path: Path) -> None:
    write_video(tmp_path / "frames" / "a.avi", 5, size=SIZE)
    write_video(tmp_path / "frames" / "b.avi", 5, size=SIZE)
    for number in range(5):
        write_ids(tmp_path / "mask" / "a" / f"{number:03d}.png", squares([number]))
        if number < 3:
            write_ids(tmp_path / "mask" / "b" / f"{number:03d}.png", squares([number]))
    found = read_all(VideoPairs(root=str(tmp_path), labels=("mask",), frames_per_clip=4))
    assert [len(found.pixels[key]["mask"]) for key in found.examples] == [4, 1, 3]
    assert found.rejects == {"b": "lengths-differ"}
    with pytest.raises(UserError, match="--frames needs"):
        read_all(VideoPairs(root=str(tmp_path), frames=2))


def test_damaged_sides_reject_the_rest(tmp_path: Path) -> None:
    write_video(tmp_path / "frames" / "a.avi", 60)
    path = write_video(tmp_path / "mask" / "a.avi", 60)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    (tmp_path / "frames" / "b.avi").write_bytes(b"no video")
    write_frames(tmp_path / "mask" / "b", range(3))
    found = read_all(VideoPairs(root=str(tmp_path), frames_per_clip=64))
    assert 0 < len(found.pixels["a#00000"]["mask"]) == len(found.pixels["a#00000"]["frames"]) < 60
    assert found.rejects["a"] in ("stops-early", "damaged", "unreadable")
    assert found.rejects["b"] == "unreadable"


def test_roles_must_be_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'mask'"):
        VideoPairs(root=str(tmp_path), labels=("masks",))
    with pytest.raises(UserError, match="two or more"):
        VideoPairs(root=str(tmp_path), folders=("frames",))


# Charades with masks


@pytest.fixture
def charades(tmp_path: Path) -> Path:
    """Frames and masks of "46GP8", frames alone of "N11GT", a test video without frames."""
    for name in ("46GP8", "N11GT"):
        write_frames(tmp_path / "Charades_v1_rgb" / name, range(1, 49), name + "-{:06d}.jpg")
    for number in range(1, 49):
        write_ids(tmp_path / "Charades_v1_masks/46GP8" / f"46GP8-{number:06d}.png", squares([3]), palette=False)
    (tmp_path / "Charades_v1_masks" / "AAAAA").mkdir()
    columns = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
    text = columns + '46GP8,X,Kitchen,6,7,Yes,"A person cooks, then eats.",food,"x",c092 11.90 21.20,24.83\n'
    (tmp_path / "Charades_v1_train.csv").write_text(text + "N11GT,X,Kitchen,6,7,Yes,,food,x,,24.83\n")
    (tmp_path / "Charades_v1_test.csv").write_text(columns + "AAAAA,X,Kitchen,6,7,Yes,,food,x,,24.83\n" * 2)
    return tmp_path


def test_charades_frames_have_the_masks_of_their_number(charades: Path) -> None:
    found = read_all(CharadesMasks(root=str(charades), frames=2))
    clip = found.examples["46GP8#00000"]
    assert clip.meta == {"caption": "A person cooks, then eats.", "frames": [1, 25], "times": [0.0, 1.0]}
    assert np.array_equal(found.pixels[clip.key]["mask"][1][..., 0] == 255, squares([3]) > 0)
    assert [item.reject for item in found.items] == ["", "missing-frames", "duplicate-key"]
    assert "1 videos without masks" in found.note
    found = read_all(CharadesMasks(root=str(charades), masks="instances", frames=1))
    assert np.array_equal(read_ids(found.pixels["46GP8#00000"]["mask"][0], "46GP8", ANY_ID[:8]), squares([3]))


def test_charades_videos_may_be_files(charades: Path) -> None:
    (charades / "Charades_v1_rgb").rename(charades / "away")
    (charades / "Charades_v1_masks" / "AAAAA").rmdir()  # in a bucket there is no such thing
    write_video(charades / "Charades_v1_480" / "46GP8.mp4", 48, size=SIZE)
    found = read_all(CharadesMasks(root=str(charades), masks="colours", frames_per_clip=40), ("train",))
    assert [len(clip["mask"]) for clip in found.pixels.values()] == [40, 8]
    assert found.examples["46GP8#00001"].meta["times"][0] == 4.0
    assert set(np.unique(found.pixels["46GP8#00000"]["mask"][0])) == {0, 3}
