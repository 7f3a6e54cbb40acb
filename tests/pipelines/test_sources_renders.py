"""Renders of objects from many sides: backgrounds, depth, lists."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_frames import SIZE, write_frames
from PIL import Image
from reading_datasets import read_all

from pipelines.sources.multiview import Multiview
from pipelines.sources.objaverse import Objaverse
from visent.errors import UserError


def test_the_real_views_and_their_depth(samples: Path) -> None:
    root = samples / "multiview"
    for background, grey in (("white", 255), ("black", 0)):
        found = read_all(Multiview(root=str(root), background=background, annotations=("depth",)))
        (clip,) = found.examples.values()
        assert clip.key == "chicken-gt#00000"
        assert clip.meta == {"frames": list(range(16))}
        for number in (0, 9):
            rgba = np.array(Image.open(root / "chicken-gt" / f"{number:03d}.png")).astype(float)
            alpha = rgba[..., 3:] / 255
            laid = rgba[..., :3] * alpha + grey * (1 - alpha)
            assert np.abs(found.pixels[clip.key]["frames"][number] - laid).max() <= 1
            depth = np.array(Image.open(root / "chicken-gt" / f"{number:03d}-depth.png")).astype(int)
            drawn = found.pixels[clip.key]["depth"][number][..., 0].astype(int)
            assert np.array_equal(drawn == 0, depth == 65535)
            near, far = np.percentile(depth[depth < 65535], [10, 90])
            assert drawn[depth < near].min() > drawn[(depth > far) & (depth < 65535)].max()


def test_views_alone_need_no_depth(samples: Path) -> None:
    found = read_all(Multiview(root=str(samples / "multiview"), frames=4))
    assert found.examples["chicken-gt#00000"].meta["frames"] == [0, 4, 8, 12]


def test_a_view_without_depth_is_a_reject(tmp_path: Path) -> None:
    write_frames(tmp_path / "cup", range(3), "{:03d}.png")
    for number in range(2):
        depth = np.full(SIZE[::-1], 30000 + number, np.uint16)
        Image.fromarray(depth).save(tmp_path / "cup" / f"{number:03d}-depth.png")
    found = read_all(Multiview(root=str(tmp_path), annotations=("depth",), frames_per_clip=2))
    assert list(found.examples) == ["cup#00000"]
    assert found.rejects == {"cup#00001": "missing-depth"}


def write_objects(root: Path, uids: list[str]) -> None:
    for uid in uids:
        write_frames(root / "views_release" / uid, range(12), "{:03d}.png", (8, 8))
        (root / "views_release" / uid / "000.npy").touch()


def test_objaverses_list_says_objects_and_splits(tmp_path: Path) -> None:
    uids = [f"{n * 7 % 120:032x}" for n in range(120)]
    write_objects(tmp_path, [*uids[:2], *uids[-3:], "f" * 32])
    (tmp_path / "views_release" / "valid_paths.json").write_text(json.dumps([*uids[:2], *uids[-3:], *uids[2:-3]]))
    found = read_all(Objaverse(root=str(tmp_path)), ("train",))
    assert sorted(found.examples) == sorted(f"{uid}#00000" for uid in [*uids[:2], *uids[-3:]])
    assert len(found.rejects) == 113
    assert set(found.rejects.values()) == {"missing-frames"}
    assert "1 objects that are not in the list of valid ones" in found.note
    (tmp_path / "views_release" / "valid_paths.json").write_text(json.dumps(uids))
    found = read_all(Objaverse(root=str(tmp_path)))
    assert {unit.split: len(unit.items) for unit in found.units if unit.split == "val"} == {"val": 2}  # of 120
    assert sorted(item.key for item in found.items if item.split == "val") == sorted(uids[-2:])


def test_an_object_that_lacks_a_view_is_a_reject(tmp_path: Path) -> None:
    write_objects(tmp_path, ["a", "b"])
    (tmp_path / "views_release" / "b" / "011.png").unlink()
    (tmp_path / "views_release" / "valid_paths.json").write_text('["a", "b", "a"]')
    found = read_all(Objaverse(root=str(tmp_path)))
    assert list(found.examples) == ["a#00000"]
    assert len(found.pixels["a#00000"]["frames"]) == 12
    assert found.rejects == {"b#00000": "missing-frames", "a": "duplicate-key"}


def test_a_list_that_is_none_is_named(tmp_path: Path) -> None:
    write_objects(tmp_path, ["a"])
    (tmp_path / "views_release" / "valid_paths.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"valid_paths\.json"):
        read_all(Objaverse(root=str(tmp_path)))
