"""VIPSeg: panoptic masks of videos, in both forms that the publisher and their scripts write."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from made_frames import SIZE, write_frames, write_ids
from PIL import Image
from reading_datasets import read_all

from pipelines.render.panoptic import read_classes, read_segments, segment_colours
from pipelines.sources.vipseg import COLOURS, VIPSeg
from visent.errors import UserError

PERSON, GRASS, SKY = 61, 17, 30  # classes, from 1
# Two persons on grass below the sky; the second comes in the third frame, when the first is smaller than before.
SEEN = ((GRASS, SKY, 6100), (GRASS, SKY, 6100), (GRASS, SKY, 6100, 6103), (SKY, 6100, 6103, 0))


def segments(values: Sequence[int]) -> np.ndarray:
    """A map with a stripe for each value, the first the widest."""
    widths = np.linspace(2, 1, len(values))
    edges = np.rint(np.cumsum([0, *widths]) / widths.sum() * SIZE[0]).astype(int)
    ids = np.zeros(SIZE[::-1], np.uint16)
    for value, left, right in zip(values, edges, edges[1:], strict=False):
        ids[:, left:right] = value
    return ids


@pytest.fixture
def vipseg(tmp_path: Path) -> Path:
    """A video of four frames, numbered as in the real files."""
    for number, values in zip((2020, 2023, 2026, 2029), SEEN, strict=True):
        write_frames(tmp_path / "imgs" / "1_a", [number], "{:08d}.jpg")
        write_ids(tmp_path / f"panomasks/1_a/{number:08d}.png", segments(values))
    (tmp_path / "train.txt").write_text("1_a\n2_gone\n")
    (tmp_path / "val.txt").write_text("")
    return tmp_path


def as_720p(root: Path, split: str = "") -> None:
    """Does to the masks what create_panoptic_video_labels.py does."""
    known: dict[int, int] = {}
    annotations = []
    for path in sorted((root / "panomasks" / "1_a").iterdir()):
        ids = np.array(Image.open(path))
        info, colours = [], np.zeros((*ids.shape, 3), np.uint8)
        for value in np.unique(ids[ids > 0]).tolist():
            known.setdefault(value, 0x0A1402 + 70_000 * len(known))
            colours[ids == value] = [known[value] & 255, known[value] >> 8 & 255, known[value] >> 16]
            category = (value if value < 125 else value // 100) - 1
            area = int((ids == value).sum())
            info.append({"id": known[value], "category_id": category, "iscrowd": 0, "area": area})
        (root / "panomasksRGB" / "1_a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours).save(root / "panomasksRGB" / "1_a" / path.name)
        annotations.append({"image_id": path.stem, "file_name": path.name, "segments_info": info})
    text = json.dumps({"videos": [], "annotations": [{"video_id": "1_a", "annotations": annotations}]})
    (root / f"panoptic_gt_VIPSeg{split}.json").write_text(text)
    (root / "imgs").rename(root / "images")
    (root / "panomasks").rename(root / "away")


def test_the_real_frames_are_read_from_both_folders(samples: Path) -> None:
    found = read_all(VIPSeg(root=str(samples / "vipseg" / "VIPSeg"), annotations=()))
    assert {key: example.meta["frames"] for key, example in found.examples.items()} == {
        "1001_3iEIq5HBY1s#00000": [2058, 2059, 2060], "1007_YCTBBdbKSSg#00000": [693, 694, 695]
    }  # fmt: skip
    assert len(found.items) == 346  # the publisher's validation list is whole
    assert set(found.rejects.values()) == {"missing-frames"}
    assert len(found.rejects) + len(found.examples) == len(found.items)
    found = read_all(VIPSeg(root=str(samples / "vipseg" / "VIPSeg_720P"), annotations=()))
    assert found.examples["350_6L1vA-xJt-M#00000"].meta["frames"] == list(range(2020, 2063, 3))


def test_videos_without_masks_are_rejects(samples: Path) -> None:
    found = read_all(VIPSeg(root=str(samples / "vipseg" / "VIPSeg")), ("train",))
    assert found.rejects["1001_3iEIq5HBY1s"] == "missing-panoptic"


def test_masks_are_drawn_in_vipsegs_colours_and_read_back(vipseg: Path) -> None:
    found = read_all(VIPSeg(root=str(vipseg), annotations=("panoptic", "semantic")))
    assert found.rejects == {"2_gone": "missing-frames"}
    pixels = found.pixels["1_a#00000"]
    totals: dict[int, int] = {}
    for values in SEEN:
        for value, count in zip(*np.unique(segments(values), return_counts=True), strict=True):
            totals[int(value)] = totals.get(int(value), 0) + int(count)
    by_size = sorted({value for value in totals if value}, key=lambda value: (-totals[value], value))
    painted = segment_colours({value: value // 100 or value for value in by_size}, COLOURS, "1_a")
    for place, values in enumerate(SEEN):
        ids = segments(values)
        classes = np.where(ids < 125, ids, ids // 100)
        assert np.array_equal(read_segments(pixels["panoptic"][place], painted), ids)
        assert np.array_equal(read_classes(pixels["panoptic"][place], COLOURS), classes)
        assert np.array_equal(read_classes(pixels["semantic"][place], COLOURS), classes)


def test_the_colours_are_the_publishers(samples: Path) -> None:
    categories = json.loads((samples / "vipseg" / "VIPSeg" / "panoVIPSeg_categories.json").read_text())
    assert {one["id"] + 1: tuple(one["color"]) for one in categories} == COLOURS
    assert {one["name"]: one["id"] + 1 for one in categories}["person"] == PERSON


def test_an_object_keeps_its_colour_whatever_clip_it_is_in(vipseg: Path) -> None:
    whole = read_all(VIPSeg(root=str(vipseg)))
    cut = read_all(VIPSeg(root=str(vipseg), frames_per_clip=1, stride=3))
    last = cut.pixels["1_a#00001"]["panoptic"][0]
    assert np.array_equal(last, whole.pixels["1_a#00000"]["panoptic"][3])


@pytest.mark.parametrize("split", ["", "_val"])
def test_the_720p_form_gives_the_same_pictures(vipseg: Path, split: str) -> None:
    dataset = VIPSeg(root=str(vipseg), annotations=("panoptic", "semantic"))
    before = read_all(dataset).pixels["1_a#00000"]
    as_720p(vipseg, split)
    for name in ("train.txt", "val.txt"):
        (vipseg / name).unlink()
    found = read_all(dataset)
    assert {unit.split for unit in found.units} == {"val" if split else "train"}
    assert found.items[0].size == (vipseg / f"panoptic_gt_VIPSeg{split}.json").stat().st_size
    assert np.array_equal(found.pixels["1_a#00000"]["panoptic"], before["panoptic"])
    assert np.array_equal(found.pixels["1_a#00000"]["semantic"], before["semantic"])


def test_classes_that_vipseg_does_not_have_reject_their_clip(vipseg: Path) -> None:
    write_ids(vipseg / "panomasks/1_a/00002026.png", segments((GRASS, 12500)))
    for role in ("panoptic", "semantic"):
        found = read_all(VIPSeg(root=str(vipseg), annotations=(role,), frames_per_clip=2), ("train",))
        assert list(found.examples) == ["1_a#00000"]
        assert found.rejects == {"1_a#00001": "unknown-label", "2_gone": "missing-frames"}


def test_one_bad_mask_does_not_hide_the_others(vipseg: Path) -> None:
    (vipseg / "panomasks/1_a/00002026.png").write_bytes(b"\x89PNG")
    (vipseg / "panomasks/1_a/00002029.png").unlink()
    found = read_all(VIPSeg(root=str(vipseg), frames_per_clip=1), ("train",))
    assert list(found.examples) == ["1_a#00000", "1_a#00001"]
    assert found.rejects["1_a#00002"] in ("damaged", "not-an-image", "truncated")
    assert found.rejects["1_a#00003"] == "missing-panoptic"


def test_segments_that_the_json_does_not_have_are_rejects(vipseg: Path) -> None:
    as_720p(vipseg)
    path = vipseg / "panoptic_gt_VIPSeg.json"
    annotations = json.loads(path.read_text())
    annotations["annotations"][0]["annotations"] = annotations["annotations"][0]["annotations"][:2]
    path.write_text(json.dumps(annotations))
    found = read_all(VIPSeg(root=str(vipseg), frames_per_clip=2), ("train",))
    assert found.rejects == {"1_a#00001": "unknown-label", "2_gone": "missing-frames"}


def test_a_json_that_is_another_one_is_named(vipseg: Path) -> None:
    as_720p(vipseg)
    (vipseg / "panoptic_gt_VIPSeg.json").write_text('{"annotations": [{}]}')
    with pytest.raises(UserError, match=r"panoptic_gt_VIPSeg\.json"):
        read_all(VIPSeg(root=str(vipseg)), ("train",))
