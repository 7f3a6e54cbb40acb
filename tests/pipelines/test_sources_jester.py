"""Jester: frame folders at 12 frames per second, lists of id and label."""

from pathlib import Path

import numpy as np
import pytest
from made_frames import write_frames
from reading_datasets import read_all

from pipelines.sources.jester import Jester
from tokenizer.images import decode_image


def test_the_real_layout_gives_a_gesture_as_one_clip(samples: Path) -> None:
    found = read_all(Jester(root=str(samples / "jester")))
    (clip,) = found.examples.values()
    assert clip.key == "166766#00000"
    assert clip.meta["class"] == "Doing other things"
    assert clip.meta["class_index"] == 0
    assert clip.meta["frames"] == list(range(1, 38))
    assert clip.meta["times"][12] == pytest.approx(1.0)
    frames = found.pixels[clip.key]["frames"]
    assert len(frames) == 37
    path = samples / "jester" / "20bn-jester-v1" / "166766" / "00013.jpg"
    assert np.array_equal(frames[12], decode_image(path.read_bytes()))


def test_lists_say_splits_and_classes(tmp_path: Path) -> None:
    for name in ("1", "2", "3", "9"):
        write_frames(tmp_path / "20bn-jester-v1" / name, range(1, 4))
    (tmp_path / "20bn-jester-v1" / "3" / "00002.jpg").unlink()
    (tmp_path / "jester-v1-train.csv").write_text("1;Drumming Fingers\n2;No gesture\n77;No gesture\n1;No gesture\n")
    (tmp_path / "jester-v1-validation.csv").write_text("3;Drumming Fingers\n")
    (tmp_path / "jester-v1-test.csv").write_text("9\n")
    found = read_all(Jester(root=str(tmp_path)))
    assert {unit.split: [item.key for item in unit.items] for unit in found.units if unit.split != "train"} == {
        "val": ["3"], "test": ["9"]
    }  # fmt: skip
    assert found.examples["2#00000"].meta["class"] == "No gesture"
    assert "class_index" not in found.examples["2#00000"].meta
    assert "class" not in found.examples["9#00000"].meta
    assert found.rejects == {"77": "missing-frames", "1": "duplicate-key", "3#00000": "missing-frames"}
    assert sorted(found.examples) == ["1#00000", "2#00000", "9#00000"]


def test_a_label_that_the_publisher_does_not_have_is_a_reject(tmp_path: Path) -> None:
    write_frames(tmp_path / "20bn-jester-v1" / "1", range(1, 4))
    (tmp_path / "jester-v1-labels.csv").write_text("Drumming Fingers\nNo gesture\n")
    (tmp_path / "jester-v1-train.csv").write_text("1;Drumming\n")
    assert read_all(Jester(root=str(tmp_path))).rejects == {"1": "unknown-class"}
