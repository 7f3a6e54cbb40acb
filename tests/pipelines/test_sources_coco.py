"""COCO: what its annotation files say about real photos, checked by pycocotools, panopticapi's format and numpy."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from made_media import picture_bytes
from PIL import Image
from pycocotools import coco as cocoapi
from reading_datasets import read_all

from manifests.dataset import load_facts
from manifests.shards import read_rows
from pipelines.cli import tokenize
from pipelines.render import instances, palettes
from pipelines.render.boxes import draw_boxes
from pipelines.render.keypoints import read_joints
from pipelines.render.labels import read
from pipelines.render.panoptic import read_classes
from pipelines.render.skeletons import COCO_17
from pipelines.sources.coco import COCO
from pipelines.sources.json_lists import entries, read_entries
from visent.errors import UserError


def oracle(samples: Path, name: str) -> Any:
    """The publisher's reader of an annotation file."""
    return cocoapi.COCO(str(samples / "coco" / "annotations" / f"{name}.json"))


def test_instances_are_the_masks_of_pycocotools_the_largest_below(samples: Path) -> None:
    found = read_all(COCO(root=str(samples / "coco")))
    assert (len(found.examples), found.rejects) == (43, {})
    assert "1 images without objects" in found.note
    truth = {split: oracle(samples, f"instances_{split}2017") for split in ("train", "val")}
    crowds = 0
    for key, example in found.examples.items():
        api, number = truth[key[: -len("2017/000000000000")]], example.meta["image_id"]
        everything = api.loadAnns(api.getAnnIds(number))
        objects = [entry for entry in everything if not entry["iscrowd"]]
        crowds += len(everything) - len(objects)
        masks = sorted((api.annToMask(entry) > 0 for entry in objects), key=lambda mask: -mask.sum())
        expected = np.zeros(masks[0].shape, int)
        for rank, mask in enumerate(masks, start=1):
            expected[mask] = rank
        colours = instances.instance_colours(key, example.meta["objects"])
        read_back = instances.read_instances(found.pixels[key]["instances"][0], colours)
        np.testing.assert_array_equal(read_back, expected)
        assert example.meta["categories"] == sorted({entry["category_id"] for entry in objects})
    assert crowds == 4


def test_crowds_are_drawn_when_asked_for(samples: Path) -> None:
    root, count = str(samples / "coco"), 0
    plain, crowds = (read_all(COCO(root=root, crowds=crowds), splits=("val",)) for crowds in (False, True))
    api = oracle(samples, "instances_val2017")
    for key, example in crowds.examples.items():
        of_many = api.loadAnns(api.getAnnIds(example.meta["image_id"], iscrowd=True))
        assert example.meta["objects"] == len(api.getAnnIds(example.meta["image_id"]))
        covered = crowds.pixels[key]["instances"][0].any(axis=2)
        assert all(covered[api.annToMask(entry) > 0].all() for entry in of_many)
        assert all(isinstance(entry["segmentation"]["counts"], list) for entry in of_many)  # uncompressed
        count += len(of_many)
    assert count > 0
    assert len(crowds.examples) >= len(plain.examples)


def test_boxes_are_drawn_in_the_colours_of_their_categories(samples: Path) -> None:
    found = read_all(COCO(root=str(samples / "coco"), annotations=("boxes",)), splits=("val",))
    api = oracle(samples, "instances_val2017")
    for key, pixels in found.pixels.items():
        objects = api.loadAnns(api.getAnnIds(found.examples[key].meta["image_id"], iscrowd=False))
        corners = np.array([[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in objects)])
        numbers = [entry["category_id"] for entry in objects]
        shape = pixels["image"][0].shape[:2]
        np.testing.assert_array_equal(pixels["boxes"][0], draw_boxes(shape, corners, numbers, palettes.coco_panoptic()))
        edge = draw_boxes(shape, corners[:1], numbers[:1], palettes.coco_panoptic())
        assert edge.any(axis=2).sum() > 0


def test_the_joints_of_a_single_person_can_be_read_from_the_picture(samples: Path) -> None:
    found = read_all(COCO(root=str(samples / "coco"), annotations=("pose",)))
    assert sorted(found.examples) == [f"val2017/{number:012d}" for number in (785, 40083, 196141, 197388)]
    assert "30 photos of train2017, since there is no annotations/person_keypoints_train2017.json" in found.note
    api = oracle(samples, "person_keypoints_val2017")
    people = api.loadAnns(api.getAnnIds(785))
    joints = np.array(people[0]["keypoints"]).reshape(17, 3)
    read_back = read_joints(found.pixels["val2017/000000000785"]["pose"][0], COCO_17)
    shown = read_back[:, 2] > 0
    assert shown[5:].all()  # of the face, discs cover each other
    np.testing.assert_allclose(read_back[5:, :2], joints[5:, :2], atol=1.5)
    for example in found.examples.values():
        persons = api.loadAnns(api.getAnnIds(example.meta["image_id"]))
        assert example.meta["persons"] == sum(person["num_keypoints"] > 0 for person in persons)


def test_panoptic_maps_keep_every_segment_and_its_category(samples: Path) -> None:
    root = samples / "coco" / "annotations"
    found = read_all(COCO(root=str(samples / "coco"), annotations=("panoptic",)))
    assert len(found.examples) == 2
    for annotation in json.loads((root / "panoptic_val2017.json").read_bytes())["annotations"]:
        rgb = np.array(Image.open(root / "panoptic_val2017" / annotation["file_name"]).convert("RGB")).astype(int)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        painted = found.pixels[f"val2017/{annotation['image_id']:012d}"]["panoptic"][0]
        classes = read_classes(painted, palettes.coco_panoptic())
        for segment in annotation["segments_info"]:
            inside = ids == segment["id"]
            assert inside.sum() == segment["area"]
            assert (classes[inside] == segment["category_id"]).all()
            assert len(np.unique(painted[inside], axis=0)) == 1
        assert len(np.unique(painted.reshape(-1, 3), axis=0)) == len(np.unique(ids))
        assert not painted[ids == 0].any()


def test_semantic_maps_hold_ids_less_one(samples: Path) -> None:
    found = read_all(COCO(root=str(samples / "coco"), annotations=("semantic",)))
    assert (len(found.examples), set(found.rejects.values())) == (16, {"missing-semantic"})
    for key, pixels in found.pixels.items():
        stored = np.array(Image.open(samples / "coco" / "stuffthingmaps" / f"{key}.png")).astype(int)
        painted = pixels["semantic"][0]
        np.testing.assert_array_equal(read(painted, palettes.coco_stuff()), np.where(stored == 255, 0, stored + 1))


def test_several_annotations_are_one_row_with_captions(samples: Path) -> None:
    dataset = COCO(root=str(samples / "coco"), annotations=("boxes", "instances"))
    found = read_all(dataset, splits=("val",))
    assert list(dataset.roles) == ["image", "boxes", "instances"]
    assert list(found.pixels["val2017/000000012748"]) == ["image", "boxes", "instances"]
    assert found.examples["val2017/000000012748"].meta["captions"][0] == "A man and child next to a horse."
    with pytest.raises(UserError, match="left out 4 images without objects"):  # the sample's files share no image
        read_all(COCO(root=str(samples / "coco"), annotations=("instances", "pose")))


SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]
Coco = dict[str, list[dict[str, Any]]]


def write_coco(root: Path, change: Callable[[Coco], None] = lambda coco: None, split: str = "train") -> Path:
    """Writes three photos with one square each, in COCO's layout."""
    coco: Coco = {
        "images": [
            {"id": number, "file_name": f"{number:012d}.jpg", "height": 40, "width": 48} for number in (1, 2, 3)
        ],
        "annotations": [
            {"id": 7 + number, "image_id": number, "category_id": 90, "iscrowd": 0, "area": 400.0,
             "bbox": [10, 10, 20, 20], "segmentation": [SQUARE], "keypoints": [12, 13, 2] + 16 * [0, 0, 0]}
            for number in (3, 1, 2)
        ],
    }  # fmt: skip
    (root / "annotations").mkdir(parents=True)
    (root / f"{split}2017").mkdir()
    for number in (1, 2, 3):
        (root / f"{split}2017" / f"{number:012d}.jpg").write_bytes(picture_bytes(number, format="JPEG"))
    change(coco)
    for name in ("instances", "person_keypoints"):
        (root / "annotations" / f"{name}_{split}2017.json").write_text(json.dumps(coco, indent=1))
    return root


def only(key: int) -> str:
    """The row's key of an image of the written training split."""
    return f"train2017/{key:012d}"


def set_segmentation(value: object) -> Callable[[Coco], None]:
    """Changes the mask of image 1."""
    return lambda coco: coco["annotations"][1].update(segmentation=value)


@pytest.mark.parametrize(
    ("change", "annotations", "rejects"),
    [
        (lambda coco: coco["images"].append({"id": 4, "file_name": "4.jpg", "height": 9, "width": 9}), "instances", {}),
        (lambda coco: coco["annotations"].append({**coco["annotations"][0], "image_id": 4}), "instances", {}),
        (lambda coco: coco["images"].append(coco["images"][0]), "instances", {only(1): "duplicate-key"}),
        (lambda coco: coco["images"][0].update(file_name="no.jpg"), "instances", {"train2017/no": "missing-image"}),
        (lambda coco: coco["images"][0].update(height=41), "instances", {only(1): "sizes-differ"}),
        (lambda coco: coco["images"][0].update(height=41), "pose", {only(1): "sizes-differ"}),
        (set_segmentation([SQUARE[:4]]), "instances", {only(1): "bad-polygon"}),
        (set_segmentation({"size": [39, 48], "counts": [0, 1872]}), "instances", {only(1): "mask-size"}),
        (set_segmentation({"size": [40, 48], "counts": [0, 1]}), "instances", {only(1): "bad-mask"}),
        (lambda coco: coco["annotations"][1].pop("segmentation"), "instances", {only(1): "bad-annotation"}),
        (lambda coco: coco["annotations"][1].update(category_id=91), "boxes", {only(1): "unknown-label"}),
        (lambda coco: coco["annotations"][1].update(category_id=[1]), "boxes", {only(1): "bad-annotation"}),
        (lambda coco: coco["annotations"][1].update(bbox=8 * [1]), "boxes", {only(1): "bad-annotation"}),
        (lambda coco: coco["annotations"][1].update(bbox=[1, 2, 3]), "boxes", {only(1): "bad-annotation"}),
        (lambda coco: coco["annotations"][1].update(keypoints=[1, 1, 2]), "pose", {only(1): "bad-annotation"}),
    ],
)
def test_each_fault_rejects_its_image_alone(
    tmp_path: Path, change: Callable[[Coco], None], annotations: str, rejects: dict[str, str]
) -> None:
    found = read_all(COCO(root=str(write_coco(tmp_path, change)), annotations=(annotations,)))
    assert found.rejects == rejects
    assert {only(2), only(3)} < {*found.examples, *rejects}
    assert len(found.items) == len(found.examples) + len(found.rejects)


def test_an_image_without_what_is_asked_for_is_left_out_with_a_count(tmp_path: Path) -> None:
    def hide(coco: Coco) -> None:
        coco["annotations"][0]["keypoints"][2] = 0
        coco["annotations"][1]["iscrowd"] = 1

    root = str(write_coco(tmp_path, hide))
    pose = read_all(COCO(root=root, annotations=("pose",)))
    assert (list(pose.examples), pose.note) == ([only(1), only(2)], "left out: 1 images without annotated joints")
    objects = read_all(COCO(root=root))
    assert (list(objects.examples), objects.note) == ([only(2), only(3)], "left out: 1 images without objects")


def test_the_release_of_2014_has_its_own_names(tmp_path: Path) -> None:
    def rename(coco: Coco) -> None:
        for image in coco["images"]:
            image["file_name"] = f"COCO_val2014_{image['id']:012d}.jpg"

    root = write_coco(tmp_path, rename, split="val")
    for path in (root / "val2017").iterdir():
        path.rename(path.with_name(f"COCO_val2014_{path.name}"))
    (root / "val2017").rename(root / "val2014")
    for path in (root / "annotations").iterdir():
        path.rename(path.with_name(path.name.replace("2017", "2014")))
    found = read_all(COCO(root=str(root), annotations=("pose",), year="2014"))
    assert list(found.examples) == [f"val2014/COCO_val2014_{number:012d}" for number in (1, 2, 3)]


def test_a_panoptic_map_with_a_foreign_segment_or_none_is_rejected(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    coco = json.loads((root / "annotations" / "instances_train2017.json").read_bytes())
    coco["annotations"] = [
        {"image_id": number, "file_name": f"{number:012d}.png", "segments_info": [{"id": 300, "category_id": 1}]}
        for number in (1, 2, 3)
    ]
    (root / "annotations" / "panoptic_train2017.json").write_text(json.dumps(coco))
    (root / "panoptic_train2017").mkdir()  # beside annotations/
    for number, value in ((1, 300), (2, 301)):
        rgb = np.full((40, 48, 3), [value % 256, value // 256, 0], np.uint8)
        Image.fromarray(rgb).save(root / "panoptic_train2017" / f"{number:012d}.png")
    found = read_all(COCO(root=str(root), annotations=("panoptic",)))
    assert found.rejects == {only(2): "unknown-label", only(3): "missing-panoptic"}
    assert found.pixels[only(1)]["panoptic"][0][0, 0].tolist() == list(palettes.coco_panoptic()[1])


def test_a_semantic_map_without_its_photo_or_with_a_foreign_class_is_rejected(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    (root / "stuffthingmaps" / "train2017").mkdir(parents=True)
    for number, value in ((1, 181), (2, 182), (9, 0)):
        Image.fromarray(np.full((40, 48), value, np.uint8)).save(
            root / "stuffthingmaps" / "train2017" / f"{number:012d}.png"
        )
    found = read_all(COCO(root=str(root), annotations=("semantic",)))
    assert list(found.examples) == [only(1)]
    assert found.rejects == {only(2): "unknown-label", only(3): "missing-semantic", only(9): "missing-image"}


def test_annotations_that_change_after_the_listing_are_noticed(tmp_path: Path) -> None:
    dataset = COCO(root=str(write_coco(tmp_path)))
    items = {item.key: item for item in dataset.items("train", Counter())}
    path = tmp_path / "annotations" / "instances_train2017.json"
    path.write_bytes(b" " + path.read_bytes())
    reasons = [one.reason for item in items.values() for one in dataset.examples(replace(item, split="train"))]  # type: ignore[union-attr]
    assert reasons == ["annotations-changed"] * 3


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"images": []}', '{"images": [], "annotations": [{"id": 1', '{"images": [{}], "annotations": []}',
     '{"images": [], "annotations": 3}', '{"images": [], "annotations": [{} {}]}'],
)  # fmt: skip
def test_a_file_that_is_not_coco_says_so(tmp_path: Path, text: str) -> None:
    write_coco(tmp_path)
    (tmp_path / "annotations" / "instances_train2017.json").write_text(text)
    with pytest.raises(UserError, match=r"annotations/instances_train2017\.json is n"):
        read_all(COCO(root=str(tmp_path)))


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="unknown annotation of COCO 'instance': did you mean 'instances'"):
        COCO(root="/", annotations=("instance",))
    with pytest.raises(UserError, match="--annotations names none"):
        COCO(root="/", annotations=())


def test_the_command_makes_rows_and_views_of_three_annotations(tmp_path: Path, tiny: str) -> None:
    root = write_coco(tmp_path / "coco", lambda coco: coco["annotations"][1].update(bbox=[]))
    out = tmp_path / "corpus" / "coco"
    command = ["coco", "--root", str(root), "--annotations", "instances,boxes,pose", "--year", "2017", "--crowds"]
    limits = ["--out", str(out), "--tokenizer", tiny, "--max-reject-fraction", "0.5"]
    assert CliRunner().invoke(tokenize, [*command, *limits], catch_exceptions=False).exit_code == 0
    facts = load_facts(str(out))
    assert list(facts.schema.roles) == ["image", "instances", "boxes", "pose"]
    assert [shard.rejects for shard in facts.shards] == [{"bad-annotation": 1}]
    manifest = tmp_path / "manifest.toml"
    manifest.write_text('version = 1\n[datasets]\nd = { path = "corpus/coco", views = 2 }\n')
    assert CliRunner().invoke(tokenize, ["--views-from", str(manifest)], catch_exceptions=False).exit_code == 0
    facts = load_facts(str(out))
    rows = [row for shard in facts.shards for row in read_rows(f"{out}/{shard.file}", facts.schema)]
    assert sorted((row.key, row.view) for row in rows) == [(only(number), view) for number in (2, 3) for view in (0, 1)]
    assert all(row.meta["objects"] == row.meta["persons"] == 1 for row in rows)


ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
)


@given(st.lists(ANYTHING), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_entries_are_found_where_they_stand(tmp_path_factory: Any, values: list[Any], indent: Any, ascii: bool) -> None:
    path = tmp_path_factory.mktemp("json") / "file.json"
    whole = {"info": {"wanted": [1]}, "wanted": values, "other": [{"wanted": 2}]}
    path.write_text(json.dumps(whole, indent=indent, ensure_ascii=ascii), encoding="utf-8", errors="surrogatepass")
    found = list(entries(str(path), ("wanted",)))
    assert [entry for _, entry, _ in found] == values
    assert read_entries(str(path), [span for _, _, span in found]) == values
