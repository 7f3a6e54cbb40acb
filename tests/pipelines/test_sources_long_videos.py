"""Datasets of long or richly annotated videos: spans instead of whole films, boxes and actions where they happen."""

import json
import os
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from made_media import write_video
from numbered_videos import number_of, numbered_video
from reading_datasets import read_all

from pipelines.sources.ava import AVA
from pipelines.sources.ego4d import Ego4D
from pipelines.sources.hdvila import HDVILA
from pipelines.sources.multisports import MultiSports
from pipelines.sources.video_clips import spans
from visent.errors import UserError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("length", [0.0, 0.4, 60.0, 60.9, 61.5, 119.99, 600.2])
def test_spans_cover_a_video_once(length: float) -> None:
    found = spans(length, 60.0)
    assert found[0][0] == 0.0
    assert found[-1][1] is None
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert found[-1][0] <= max(length - 1.0, 0.0)  # so that the last is not empty where the stated length is rounded up


@pytest.fixture
def ava(tmp_path: Path) -> Path:
    """A film of 24 seconds, annotated from second 5 on; another one that was not fetched."""
    rows = [
        "-5KQ66BBWC4,0005,0.077,0.151,0.283,0.811,80,1",
        "-5KQ66BBWC4,0005,0.077,0.151,0.283,0.811,9,1",
        "-5KQ66BBWC4,0006,0.226,0.032,0.366,0.497,12,0",
        "-5KQ66BBWC4,0012,0.226,0.032,0.366,0.497,12,0",
        "-5KQ66BBWC4,0017,0.226,0.032,0.366,0.497,12,0",
        "_gone,0902,0.1,0.1,0.2,0.2,12,0",
    ]
    write(tmp_path / "annotations" / "ava_train_v2.2.csv", "\n".join(rows) + "\n")
    write(tmp_path / "annotations" / "ava_train_excluded_timestamps_v2.2.csv", "-5KQ66BBWC4,0012\n")
    entries = [f'label {{\n  name: "{name}"\n  label_id: {n}\n}}\n' for name, n in (("answer phone", 9), ("stand", 12))]
    write(tmp_path / "annotations" / "ava_action_list_v2.2.pbtxt", "".join(entries))
    numbered_video(tmp_path / "trainval" / "-5KQ66BBWC4.mkv", 240, gop=48)
    return tmp_path


def test_ava_cuts_the_annotated_part_into_items_with_their_actions(ava: Path) -> None:
    found = read_all(AVA(root=str(ava), fps=5.0, seconds_per_item=10.0))
    first, second = "-5KQ66BBWC4/0003.5", "-5KQ66BBWC4/0013.5"  # from a second and a half before the first label on
    assert [item.key for item in found.items] == [first, second, "_gone/0900.5"]
    assert found.rejects == {"_gone/0900.5": "missing-video"}
    assert found.note == "left out: 1 seconds that AVA excludes"
    assert list(found.examples) == [f"{first}#00000", f"{second}#00000"]
    numbers = [number_of(frame) for key in found.pixels for frame in found.pixels[key]["frames"]]
    assert numbers == list(range(35, 185, 2))
    actions = found.examples[f"{first}#00000"].meta["actions"]
    assert [action["start"] for action in actions] == [5.0, 6.0]  # not 12, which is excluded
    assert actions[0]["classes"] == ["80", "answer phone"]  # the list names 9 and 12 alone
    assert (actions[0]["class_indices"], actions[0]["person"]) == ([80, 9], "1")
    assert actions[0]["box"] == [0.077, 0.151, 0.283, 0.811]
    assert [action["start"] for action in found.examples[f"{second}#00000"].meta["actions"]] == [17.0]


def test_ava_gives_a_row_for_each_annotated_second_on_demand(ava: Path) -> None:
    found = read_all(AVA(root=str(ava), fps=2.0, around=1.5))
    assert list(found.examples) == ["-5KQ66BBWC4/0005#00000", "-5KQ66BBWC4/0006#00000", "-5KQ66BBWC4/0017#00000"]
    assert found.examples["-5KQ66BBWC4/0017#00000"].meta["times"] == [15.5, 16.0, 16.5, 17.0, 17.5, 18.0]
    assert [action["start"] for action in found.examples["-5KQ66BBWC4/0005#00000"].meta["actions"]] == [5.0, 6.0]


def test_ava_reads_real_rows(samples: Path, tmp_path: Path) -> None:
    """The real rows under the publisher's names, and in place of a film one of 906 seconds and as many frames."""
    (tmp_path / "annotations").mkdir()
    for name, real in (("val_v2.2.csv", "ava_sample.csv"), ("action_list_v2.2.pbtxt", "action_list.txt"),
                       ("val_excluded_timestamps_v2.2.csv", "ava_excluded_timestamps_sample.csv")):  # fmt: skip
        (tmp_path / "annotations" / f"ava_{name}").symlink_to(samples / "ava" / "annotations" / real)
    write_video(tmp_path / "trainval" / "0f39OWEqJ24.mp4", frames=906, times=[100 * n for n in range(906)])
    found = read_all(AVA(root=str(tmp_path), around=1.5))
    assert {item.key: item.split for item in found.items} == {"0f39OWEqJ24/0902": "val"}
    assert found.note == "left out: 2 seconds that AVA excludes"
    (example,) = found.examples.values()
    assert example.meta["times"] == [901.0, 902.0, 903.0]
    assert example.meta["actions"] == [
        {"start": 902.0, "end": 902.0, "box": [0.031, 0.162, 0.67, 0.995], "person": "0",
         "classes": ["action1", "action2", "action3"], "class_indices": [12, 17, 79]}
    ]  # fmt: skip


def test_a_label_of_another_form_is_refused(ava: Path) -> None:
    write(ava / "annotations" / "ava_train_v2.2.csv", "-5KQ66BBWC4,0005,0.1,0.2,0.3\n")
    with pytest.raises(UserError, match=r"line 1: .* is no label of AVA"):
        read_all(AVA(root=str(ava)))


@pytest.fixture
def ego4d(tmp_path: Path) -> Path:
    for name in ("a1", "b2"):
        numbered_video(tmp_path / "v2" / "full_scale" / f"{name}.mp4", 250, gop=30)
    numbered_video(tmp_path / "v2" / "clips" / "c3.mp4", 40)
    videos = [
        {"video_uid": "a1", "duration_sec": 25.0, "scenarios": ["Cooking"], "split_em": "train", "split_fho": None},
        {"video_uid": "b2", "duration_sec": 25.0, "scenarios": [], "split_em": "val", "split_fho": None},
        {"video_uid": "not-fetched", "duration_sec": 7200.0, "scenarios": [], "split_em": "test", "split_fho": "test"},
    ]
    write(tmp_path / "ego4d.json", json.dumps({"version": "2.0", "videos": videos}))
    return tmp_path


def test_ego4d_reads_a_long_video_in_spans(ego4d: Path) -> None:
    found = read_all(Ego4D(root=str(ego4d), fps=5.0, seconds_per_item=10.0, frames_per_clip=32))
    assert [item.key for item in found.items] == [f"{uid}/{start:05d}" for uid in ("a1", "b2") for start in (0, 10, 20)]
    assert found.rejects == {}
    numbers = [number_of(frame) for key in found.pixels if key[0] == "a" for frame in found.pixels[key]["frames"]]
    assert numbers == list(range(0, 250, 2))
    assert found.examples["a1/00010#00001"].meta["times"][0] == pytest.approx(16.4)
    assert found.examples["a1/00010#00001"].meta["scenarios"] == ["Cooking"]


def test_ego4d_follows_the_split_of_a_benchmark(ego4d: Path) -> None:
    found = read_all(Ego4D(root=str(ego4d), frames=1, benchmark="em"))
    assert {item.key: item.split for item in found.items} == {"a1/00000": "train", "b2/00000": "val"}
    with pytest.raises(UserError, match="left out 2 videos outside the splits of fho"):
        read_all(Ego4D(root=str(ego4d), benchmark="fho"))
    (ego4d / "ego4d.json").unlink()
    with pytest.raises(UserError, match=r"needs ego4d\.json"):
        read_all(Ego4D(root=str(ego4d), benchmark="em"))


@pytest.mark.parametrize("text", ["[]", '{"videos": 1}', '{"videos": [{}]}', '{"videos": ["x"]}', "{"])
def test_an_ego4d_json_of_another_form_is_refused(ego4d: Path, text: str) -> None:
    write(ego4d / "ego4d.json", text)
    with pytest.raises(UserError, match=r"ego4d\.json is n"):
        read_all(Ego4D(root=str(ego4d)))


def test_ego4d_asks_the_container_for_a_length_that_no_list_states(ego4d: Path) -> None:
    found = read_all(Ego4D(root=str(ego4d), videos="clips", seconds_per_item=2.0, frames=1))
    assert list(found.examples) == ["c3/00000#00000", "c3/00002#00000"]
    with pytest.raises(UserError, match="--benchmark is stated for videos"):
        Ego4D(root=str(ego4d), videos="clips", benchmark="em")


def test_hdvila_names_clips_by_the_real_list(samples: Path) -> None:
    found = read_all(HDVILA(root=str(samples / "hdvila")))
    assert found.rejects == {"QMi8x8o55Ns.1": "missing-video", "QMi8x8o55Ns.16": "missing-video"}
    assert found.note == "left out: 1 videos that the lists do not name"  # the stand-in


def test_hdvila_reads_a_clip_where_the_list_names_it(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "video_clips").mkdir()
    (tmp_path / "hdvila_part0.jsonl").symlink_to(samples / "hdvila" / "hdvila_part0.jsonl")
    clip = samples / "hdvila" / "video_clips" / "InternVid_example1.mp4"
    (tmp_path / "video_clips" / "QMi8x8o55Ns.16.mp4").symlink_to(clip)
    found = read_all(HDVILA(root=str(tmp_path), fps=5.0))
    (example,) = found.examples.values()
    assert (example.key, len(example.media["frames"])) == ("QMi8x8o55Ns.16#00000", 40)
    assert example.meta["span"] == ["00:04:52.140", "00:05:03.350"]
    write(tmp_path / "hdvila_part1.jsonl", '{"video_id": "x"}\n')
    with pytest.raises(UserError, match=r"hdvila_part1\.jsonl, line 1"):
        read_all(HDVILA(root=str(tmp_path)))


@pytest.fixture
def multisports(tmp_path: Path) -> Path:
    """Two videos of 64 x 48 pixels at ten frames a second; tubes count frames from 1, boxes are pixels."""
    tube = np.array([[11, 8, 12, 16, 24], [12, 16, 12, 24, 36], [13, 16, 24, 32, 36]], np.float32)
    truth = {
        "labels": ["aerobic push up", "volleyball spike"],
        "train_videos": [["volleyball/v_a_c001", "volleyball/v_b_c001"]],
        "test_videos": [["aerobic_gymnastics/v_c_c001"]],
        "nframes": {"volleyball/v_a_c001": 20},
        "resolution": {"volleyball/v_a_c001": (48, 64), "aerobic_gymnastics/v_c_c001": (48, 64)},
        "gttubes": {"volleyball/v_a_c001": {1: [tube]}, "aerobic_gymnastics/v_c_c001": {}},
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "multisports_GT.pkl").write_bytes(pickle.dumps(truth, protocol=2))
    for name in ("volleyball/v_a_c001", "aerobic_gymnastics/v_c_c001"):
        write_video(tmp_path / "trainval" / f"{name}.mp4")
    return tmp_path


def test_multisports_clips_carry_the_actions_in_them(multisports: Path) -> None:
    found = read_all(MultiSports(root=str(multisports), fps=10.0, frames_per_clip=10))
    assert {item.key: item.split for item in found.items} == {
        "volleyball/v_a_c001": "train", "volleyball/v_b_c001": "train", "aerobic_gymnastics/v_c_c001": "val"
    }  # fmt: skip
    assert found.rejects == {"volleyball/v_b_c001": "missing-video"}
    assert [len(found.examples[f"volleyball/v_a_c001#0000{n}"].meta["actions"]) for n in (0, 1)] == [0, 1]
    meta = found.examples["volleyball/v_a_c001#00001"].meta
    assert meta["actions"] == [{"class": "volleyball spike", "class_index": 1, "start": 1.0, "end": 1.3,
                                "box": [0.125, 0.25, 0.5, 0.75]}]  # fmt: skip
    assert meta["sport"] == "volleyball"


def test_a_video_that_the_pickle_does_not_describe_is_named(multisports: Path) -> None:
    path = multisports / "annotations" / "multisports_GT.pkl"
    truth = pickle.loads(path.read_bytes())
    del truth["resolution"]["volleyball/v_a_c001"]
    path.write_bytes(pickle.dumps(truth))
    with pytest.raises(UserError, match=r"names volleyball/v_a_c001 without its resolution"):
        read_all(MultiSports(root=str(multisports)))


def test_a_pickle_that_would_run_code_is_refused(multisports: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(multisports / "owned"),)

    (multisports / "annotations" / "multisports_GT.pkl").write_bytes(pickle.dumps({"labels": Evil()}))
    with pytest.raises(UserError, match="no pickle of MultiSports"):
        read_all(MultiSports(root=str(multisports)))
    assert not (multisports / "owned").exists()
