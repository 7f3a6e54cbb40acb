"""Datasets of short videos with an action each: splits, labels and keys as their publishers define them."""

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest
from click.testing import CliRunner
from made_media import write_video
from numbered_videos import numbered_video
from reading_datasets import Found, read_all

from pipelines.cli import tokenize
from pipelines.sources.charades import Charades
from pipelines.sources.charades_ego import CharadesEgo
from pipelines.sources.dataset import Dataset
from pipelines.sources.hmdb51 import HMDB51
from pipelines.sources.kinetics import Kinetics
from pipelines.sources.moments import Moments
from pipelines.sources.multi_moments import MultiMoments
from pipelines.sources.ssv2 import SSv2
from pipelines.sources.ucf101 import UCF101
from visent.errors import UserError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def first_frames(dataset: Dataset, splits: tuple[str, ...] = ()) -> Found:
    """Reads everything and checks that nothing gets lost: each item gives rows or one reject."""
    found = read_all(dataset, splits)
    items = {example.key.rsplit("#", 1)[0] for example in found.examples.values()}
    assert items | set(found.rejects) == {item.key for item in found.items}
    return found


def metas(found: Found) -> dict[str, dict[str, object]]:
    """Meta of each video's first row, without times."""
    firsts = {key.removesuffix("#00000"): example for key, example in found.examples.items() if key.endswith("#00000")}
    return {key: {k: v for k, v in one.meta.items() if k != "times"} for key, one in firsts.items()}


def splits_of(found: Found) -> dict[str, str]:
    return {item.key: item.split for item in found.items}


def test_ucf101_of_real_videos(samples: Path) -> None:
    found = first_frames(UCF101(root=str(samples / "ucf101"), frames=8))
    shared = {"class": "SoccerJuggling", "class_index": 83}  # line 84 of classInd.txt
    assert metas(found) == {
        "SoccerJuggling/v_SoccerJuggling_g23_c01": {**shared, "group": 23},
        "SoccerJuggling/v_SoccerJuggling_g24_c01": {**shared, "group": 24},
    }
    assert set(splits_of(found).values()) == {"train"}
    assert all(pixels["frames"][0].shape == (240, 320, 3) for pixels in found.pixels.values())
    assert all(len(pixels["frames"]) == 8 for pixels in found.pixels.values())


def test_ucf101_lists_the_fold_that_is_asked_for(tmp_path: Path) -> None:
    lists = tmp_path / "ucfTrainTestlist"
    write(lists / "classInd.txt", "1 Archery\n2 YoYo\n")
    write(lists / "trainlist02.txt", "YoYo/v_YoYo_g08_c01.avi 2\r\nYoYo/v_YoYo_g08_c02.avi 2\r\n")
    write(lists / "testlist02.txt", "Archery/v_Archery_g01_c01.avi\n")
    for name in ("YoYo/v_YoYo_g08_c01", "Archery/v_Archery_g01_c01"):
        write_video(tmp_path / "UCF-101" / f"{name}.avi")
    found = first_frames(UCF101(root=str(tmp_path), fold="2"))
    assert splits_of(found) == {
        "YoYo/v_YoYo_g08_c01": "train", "YoYo/v_YoYo_g08_c02": "train", "Archery/v_Archery_g01_c01": "test"
    }  # fmt: skip
    assert found.rejects == {"YoYo/v_YoYo_g08_c02": "missing-video"}
    assert metas(found)["Archery/v_Archery_g01_c01"] == {"class": "Archery", "class_index": 0, "group": 1}
    with pytest.raises(UserError, match="found nothing"):
        read_all(UCF101(root=str(tmp_path), fold="1"))


def test_hmdb51_of_real_videos(samples: Path) -> None:
    found = first_frames(HMDB51(root=str(samples / "hmdb51"), fps=0.0))
    assert {key: (splits_of(found)[key], meta["class"]) for key, meta in metas(found).items()} == {
        "cartwheel/Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6": ("train", "cartwheel"),
        "wave/RATRACE_wave_f_nm_np1_fr_goo_37": ("train", "wave"),
        "wave/SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0": ("train", "wave"),
        "wave/TrumanShow_wave_f_nm_np1_fr_med_26": ("test", "wave"),
    }
    assert found.rejects == {}
    # At 30 frames a second; the stored order of these files jumps, the times must not.
    times = [t for key in sorted(found.examples) if "RATRACE" in key for t in found.examples[key].meta["times"]]
    assert times == pytest.approx([n / 30 for n in range(72)], abs=1e-3)


def test_hmdb51_leaves_out_what_a_fold_does_not_use(tmp_path: Path) -> None:
    listed = "a.avi 1 \nb.avi 2 \nc.avi 0 \nd.avi 2 \n"
    write(tmp_path / "testTrainMulti_7030_splits" / "brush_hair_test_split3.txt", listed)
    for name in "abc":
        write_video(tmp_path / "brush_hair" / f"{name}.avi")
    found = first_frames(HMDB51(root=str(tmp_path), fold="3"))
    assert splits_of(found) == {"brush_hair/a": "train", "brush_hair/b": "test", "brush_hair/d": "test"}
    assert metas(found)["brush_hair/a"] == {"class": "brush hair"}
    assert found.rejects == {"brush_hair/d": "missing-video"}
    assert found.note == "left out: 1 videos that fold 3 does not use"


def test_ssv2_of_a_real_video(samples: Path) -> None:
    found = first_frames(SSv2(root=str(samples / "ssv2"), fps=12.0))
    assert metas(found) == {
        "166766": {
            "class": "Poking something so that it falls over", "class_index": 57,
            "caption": "poking something so that it falls over", "placeholders": ["something"],
        }
    }  # fmt: skip
    assert splits_of(found) == {"166766": "val"}
    assert len(found.pixels["166766#00000"]["frames"]) == 49  # the WebM's packets


def test_ssv2_reads_the_publishers_file_names_and_unlabelled_tests(tmp_path: Path) -> None:
    entry = {"id": "7", "label": "lifting a cup", "template": "Lifting [something]", "placeholders": ["a cup"]}
    write(tmp_path / "labels" / "labels.json", json.dumps({"Lifting something": "3"}))
    write(tmp_path / "labels" / "train.json", json.dumps([entry, {**entry, "id": "8"}]))
    write(tmp_path / "labels" / "test.json", json.dumps([{"id": "9"}]))
    for name in "79":
        numbered_video(tmp_path / "20bn-something-something-v2" / f"{name}.webm", 5, codec="libvpx-vp9")
    found = first_frames(SSv2(root=str(tmp_path)))
    assert metas(found)["7"]["class_index"] == 3
    assert metas(found)["9"] == {}
    assert splits_of(found) == {"7": "train", "8": "train", "9": "test"}
    assert found.rejects == {"8": "missing-video"}
    write(tmp_path / "labels" / "train.json", json.dumps([{"name": "x"}]))
    with pytest.raises(UserError, match=r"train.json: an entry is .* expected id"):
        read_all(SSv2(root=str(tmp_path)))


def test_kinetics_of_real_videos_in_the_flat_layout(samples: Path) -> None:
    found = first_frames(Kinetics(root=str(samples / "kinetics" / "k400"), frames=4))
    assert metas(found) == {
        "val/R6llTwEh07w_000000_000010": {"class": "using segway"},
        "val/SOX5yA1l24A_000299_000309": {"class": "using segway"},
    }
    assert found.rejects == {}


def test_kinetics_of_real_videos_in_folders_of_classes(samples: Path) -> None:
    found = first_frames(Kinetics(root=str(samples / "kinetics" / "k400_class_folders"), frames=4))
    assert metas(found) == {
        "val/arm_wrestling/demo": {"class": "arm wrestling"},
        "val/flipping_pancake/decord_flipping_a_pancake": {"class": "flipping pancake"},
    }


def test_kinetics_matches_odd_ids_any_container_and_rejects_what_youtube_lost(tmp_path: Path) -> None:
    header = "label,youtube_id,time_start,time_end,split\n"
    rows = ["air drumming,-a_B,0,10,train", '"playing guitar, electric",_c-D,299,309,train', "yoga,gone,7,17,train"]
    write(tmp_path / "annotations" / "train.csv", header + "\n".join(rows) + "\n")
    write(tmp_path / "annotations" / "test.csv", "youtube_id,time_start,time_end,split\nzz,1,11,test\n")
    write_video(tmp_path / "train" / "-a_B_000000_000010.mkv")
    write_video(tmp_path / "train" / "playing guitar" / "_c-D_000299_000309.mp4")
    write_video(tmp_path / "train" / "unknown_000001_000011.mp4")
    numbered_video(tmp_path / "test" / "zz_000001_000011.webm", 5, codec="libvpx-vp9")
    found = first_frames(Kinetics(root=str(tmp_path)))
    assert metas(found) == {
        "train/-a_B_000000_000010": {"class": "air drumming"},
        "train/_c-D_000299_000309": {"class": "playing guitar, electric"},
        "test/zz_000001_000011": {},
    }
    assert found.rejects == {"train/gone_000007_000017": "missing-video"}
    assert found.note == "left out: 1 videos that the lists do not name"


@pytest.mark.parametrize("text", ["label,youtube_id,time_start\nx,y,1\n", "youtube_id,time_start,time_end\nx,1\n"])
def test_a_table_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "annotations" / "train.csv", text)
    with pytest.raises(UserError, match=r"annotations/train\.csv"):
        read_all(Kinetics(root=str(tmp_path)))


@pytest.mark.parametrize(
    ("dataset", "path"),
    [(UCF101, "ucfTrainTestlist/classInd.txt"), (HMDB51, "testTrainMulti_7030_splits/wave_test_split1.txt"),
     (Moments, "moments_categories.txt"), (MultiMoments, "moments_categories.txt")],
)  # fmt: skip
def test_a_line_of_another_form_is_refused(tmp_path: Path, dataset: type[Dataset], path: str) -> None:
    write(tmp_path / path, "<html>\n")
    with pytest.raises(UserError, match=r"the line '<html>' is no .* fetch the file again"):
        read_all(dataset(root=str(tmp_path)))
    (tmp_path / path).write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_all(dataset(root=str(tmp_path)))


def test_moments_in_time(tmp_path: Path) -> None:
    write(tmp_path / "moments_categories.txt", "adult+female+singing,0\nblocking,17\n")
    write(tmp_path / "trainingSet.csv", "blocking/getty-a_4.mp4,blocking,3,0\nblocking/gone.mp4,blocking,3,1\n")
    write(tmp_path / "validationSet.csv", "adult+female+singing/x_1.mp4,adult+female+singing,2,0\n")
    write_video(tmp_path / "training" / "blocking" / "getty-a_4.mp4")
    write_video(tmp_path / "validation" / "adult+female+singing" / "x_1.mp4")
    found = first_frames(Moments(root=str(tmp_path)))
    assert metas(found) == {
        "training/blocking/getty-a_4": {"class": "blocking", "class_index": 17},
        "validation/adult+female+singing/x_1": {"class": "adult+female+singing", "class_index": 0},
    }
    assert splits_of(found)["validation/adult+female+singing/x_1"] == "val"
    assert found.rejects == {"training/blocking/gone": "missing-video"}


def test_multi_moments_in_time(tmp_path: Path) -> None:
    write(tmp_path / "moments_categories.txt", "singing,0\nclapping,2\n")
    write(tmp_path / "trainingSet.txt", "singing/a.mp4,0,2\n")
    write(tmp_path / "validationSet.txt", "clapping/b.mp4,2\n")
    for name in ("singing/a", "clapping/b"):
        write_video(tmp_path / "videos" / f"{name}.mp4")
    found = first_frames(MultiMoments(root=str(tmp_path)))
    assert metas(found) == {
        "singing/a": {"classes": ["singing", "clapping"], "class_indices": [0, 2]},
        "clapping/b": {"classes": ["clapping"], "class_indices": [2]},
    }
    write(tmp_path / "trainingSet.txt", "singing/a.mp4\n")
    with pytest.raises(UserError, match=r"trainingSet\.txt has the line"):
        read_all(MultiMoments(root=str(tmp_path)))


COLUMNS = ["id", "subject", "scene", "quality", "relevance", "verified", "script", "objects", "descriptions", "actions",
           "length"]  # fmt: skip


def write_table(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def test_charades_of_the_real_tables_names_every_video(samples: Path) -> None:
    found = first_frames(Charades(root=str(samples / "charades")))
    assert len(found.items) == 300
    assert set(found.rejects.values()) == {"missing-video"}  # the samples have no videos
    (item,) = (item for item in found.items if item.key == "S9KOH")
    assert item.data["actions"][1] == {"class": "c021", "class_index": 21, "start": 0.0, "end": 2.5}


@pytest.fixture
def charades(tmp_path: Path) -> Path:
    script = 'A person stands,\nthen "runs".'  # as the real tables have it: quoted, over two lines
    rows = [
        {"id": "AAAAA", "script": script, "actions": "c001 0.00 0.90;c000 1.20 1.90"},
        {"id": "BBBBB", "actions": ""},
    ]
    write_table(tmp_path / "Charades_v1_train.csv", COLUMNS, rows)
    write_table(tmp_path / "Charades_v1_test.csv", COLUMNS, [{"id": "CCCCC", "actions": "c001 1.00 5.00"}])
    write(tmp_path / "Charades_v1_classes.txt", "c000 Holding some clothes\nc001 Putting clothes somewhere\n")
    for name in ("Charades_v1_480/AAAAA", "Charades_v1/BBBBB", "Charades_v1_480/CCCCC"):
        write_video(tmp_path / f"{name}.mp4")
    return tmp_path


def test_charades_clips_carry_the_actions_in_them(charades: Path) -> None:
    found = first_frames(Charades(root=str(charades), fps=10.0, frames_per_clip=10))
    assert list(found.examples) == ["AAAAA#00000", "AAAAA#00001", "BBBBB#00000", "BBBBB#00001", "CCCCC#00000",
                                    "CCCCC#00001"]  # fmt: skip
    first, second = found.examples["AAAAA#00000"].meta, found.examples["AAAAA#00001"].meta
    assert first["caption"] == 'A person stands,\nthen "runs".'
    assert [action["class"] for action in first["actions"]] == ["Putting clothes somewhere"]
    assert second["actions"] == [{"class": "Holding some clothes", "class_index": 0, "start": 1.2, "end": 1.9}]
    assert found.examples["BBBBB#00000"].meta["actions"] == []


def test_charades_is_cut_into_actions_on_demand(charades: Path) -> None:
    found = first_frames(Charades(root=str(charades), fps=10.0, per_action=True))
    assert {key: (one.meta["class_index"], len(one.media["frames"])) for key, one in found.examples.items()} == {
        "AAAAA/00#00000": (1, 9), "AAAAA/01#00000": (0, 7), "CCCCC/00#00000": (1, 10)
    }  # fmt: skip
    assert found.examples["AAAAA/01#00000"].meta["times"][0] == pytest.approx(1.2)


def test_an_action_of_another_form_is_refused(charades: Path) -> None:
    write_table(charades / "Charades_v1_train.csv", COLUMNS, [{"id": "AAAAA", "actions": "c001 1.0"}])
    with pytest.raises(UserError, match=r"video AAAAA: the action is 'c001 1\.0'"):
        read_all(Charades(root=str(charades)))


def test_charades_ego_pairs_both_views(tmp_path: Path) -> None:
    columns = [*COLUMNS, "egocentric", "charades_video"]
    rows = [
        {"id": "005BU", "actions": "c001 0.00 0.90", "egocentric": "No"},
        {"id": "005BUEGO", "actions": "c001 0.50 1.90", "egocentric": "Yes", "charades_video": "005BU"},
    ]
    (tmp_path / "CharadesEgo").mkdir()
    write_table(tmp_path / "CharadesEgo" / "CharadesEgo_v1_train.csv", columns, rows)
    for row in rows:
        write_video(tmp_path / "CharadesEgo_v1_480" / f"{row['id']}.mp4")
    both = metas(first_frames(CharadesEgo(root=str(tmp_path))))
    assert {key: (meta["view"], meta["pair"]) for key, meta in both.items()} == {
        "005BU": ("third", "005BUEGO"), "005BUEGO": ("first", "005BU")
    }  # fmt: skip
    first = first_frames(CharadesEgo(root=str(tmp_path), view="first"))
    assert list(metas(first)) == ["005BUEGO"]
    assert first.note == "left out: 1 videos of the other view"


def test_charades_through_the_command(charades: Path, tiny: str) -> None:
    (charades / "Charades_v1_480" / "CCCCC.mp4").unlink()
    out = charades.parent / "corpus" / "charades"
    arguments = ["charades", "--root", str(charades), "--out", str(out), "--tokenizer", tiny, "--frames", "4",
                 "--frames-per-clip", "3", "--split", "train,test"]  # fmt: skip
    stopped = CliRunner().invoke(tokenize, arguments)
    assert isinstance(stopped.exception, UserError)
    assert "1 missing-video" in str(stopped.exception)
    result = CliRunner().invoke(tokenize, [*arguments, "--max-reject-fraction", "0.5"])
    assert result.exit_code == 0, result.output
    rows = [row for path in sorted(out.glob("*.parquet")) for row in pyarrow.parquet.read_table(path).to_pylist()]
    assert [(row["key"], len(row["frames"])) for row in rows] == [
        ("AAAAA#00000", 3), ("AAAAA#00001", 1), ("BBBBB#00000", 3), ("BBBBB#00001", 1)
    ]  # fmt: skip
    assert json.loads(rows[1]["meta"])["times"] == [1.5]
    (rejects,) = out.glob("test-*.rejects.jsonl")
    assert json.loads(rejects.read_text())["source"] == "Charades_v1_480/CCCCC.mp4"
