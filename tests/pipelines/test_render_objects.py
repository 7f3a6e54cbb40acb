"""Objects in colours from the key: masks, run lengths and id maps, drawn and read back; pycocotools as the oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as cocoapi

from pipelines.render import instances, masks
from tokenizer.images import ImageError

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)


@given(hnp.arrays(bool, SHAPES))
def test_run_lengths_agree_with_pycocotools(mask: np.ndarray) -> None:
    rle = cocoapi.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = masks.runs_of_rle(rle, mask.shape)
    np.testing.assert_array_equal(masks.mask_of_runs(runs, mask.shape), mask)
    np.testing.assert_array_equal(runs, masks.runs_of_mask(mask))
    assert masks.area(runs) == cocoapi.area(rle) == mask.sum()
    uncompressed = {"size": list(mask.shape), "counts": runs.tolist()}
    np.testing.assert_array_equal(masks.runs_of_segmentation(uncompressed, mask.shape), runs)


def test_large_run_lengths_agree_with_pycocotools() -> None:
    random = np.random.default_rng(0)
    mask = np.repeat(random.random((60, 40)) < 0.3, 40, axis=0)
    text = cocoapi.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    np.testing.assert_array_equal(
        masks.mask_of_runs(masks.runs_of_rle({"size": [2400, 40], "counts": text}, (2400, 40)), (2400, 40)), mask
    )


@given(st.lists(st.lists(st.floats(-3, 34, width=32), min_size=6, max_size=14).filter(lambda p: len(p) % 2 == 0),
                min_size=1, max_size=3))  # fmt: skip
def test_polygons_are_filled_as_pycocotools_fills_them(polygons: list[list[float]]) -> None:
    expected = cocoapi.decode(cocoapi.merge(cocoapi.frPyObjects(polygons, 20, 30))) > 0
    found = masks.mask_of_runs(masks.runs_of_polygons(polygons, (20, 30)), (20, 30))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ({"size": [4, 5], "counts": [0, 20]}, "mask-size"),
        ({"size": None, "counts": [0, 25]}, "mask-size"),
        ({"size": [5, 5], "counts": [0, 24]}, "bad-mask"),
        ({"size": [5, 5], "counts": [30, -5]}, "bad-mask"),
        ({"size": [5, 5], "counts": [2**62, 2**62, 2**62, 2**62 + 25]}, "bad-mask"),  # 25, if the sum overflowed
        ({"size": [5, 5], "counts": "i"}, "bad-mask"),  # ends where a digit must follow
        ({"size": [5, 5], "counts": "\u00e4"}, "bad-mask"),
        ({"size": [5, 5], "counts": "o" * 20 + "0"}, "bad-mask"),
        ({"size": [5, 5], "counts": ""}, "bad-mask"),
        ({"size": [5, 5], "counts": None}, "bad-mask"),
        ({"size": [5, 5], "counts": ["a"]}, "bad-mask"),
        ({"size": [5, 5]}, "bad-mask"),
        ([[1.0, 1.0, 3.0, 3.0]], "bad-polygon"),  # four numbers, which pycocotools takes for a box
        ([[1.0, 1.0, 3.0, 3.0, 1.0]], "bad-polygon"),
        ([[1.0, 1.0, 3.0, float("nan"), 1.0, 2.0]], "bad-polygon"),
        ([[1.0, 1.0, 3.0, 1e9, 1.0, 2.0]], "bad-polygon"),
        ([["a"] * 6], "bad-polygon"),
        ([], "bad-polygon"),
        (None, "bad-mask"),
    ],
)
def test_a_damaged_segmentation_has_a_reason(segmentation: object, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        masks.runs_of_segmentation(segmentation, (5, 5))
    assert caught.value.reason == reason


@given(st.text(max_size=6), st.integers(0, 600))
def test_colours_of_objects_differ_by_what_is_promised(key: str, count: int) -> None:
    colours = instances.instance_colours(key, count).astype(int)
    assert colours.shape == (count, 3)
    distance = ((colours[:, None] - colours) ** 2).sum(axis=2) + 10**9 * np.eye(count, dtype=int)
    if count:
        assert distance.min() >= instances.least_distance(count) ** 2
        assert (colours**2).sum(axis=1).min() >= instances.FROM_BLACK**2


def test_the_first_colours_differ_most_and_the_key_decides() -> None:
    first = instances.instance_colours("a", 10).astype(int)
    assert ((first[:, None] - first) ** 2).sum(axis=2)[~np.eye(10, dtype=bool)].min() > 80**2
    assert (first != instances.instance_colours("b", 10)).any()
    np.testing.assert_array_equal(instances.instance_colours("a", 400)[:10], first)
    assert len(np.unique(instances.instance_colours("a", 20_000), axis=0)) == 20_000
    with pytest.raises(ImageError, match="too-many-objects"):
        instances.instance_colours("a", 300_000)


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_masks_are_painted_largest_first_and_read_back(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    found = [random.random((9, 7)) < random.random() for _ in range(count)]
    painted = instances.paint_masks(found, (9, 7), "key")
    expected = np.zeros((9, 7), int)
    for rank, mask in enumerate(sorted(found, key=lambda mask: -mask.sum()), start=1):
        expected[mask] = rank
    read = instances.read_instances(painted, instances.instance_colours("key", count))
    np.testing.assert_array_equal(read, expected)
    rles = [cocoapi.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in found]
    np.testing.assert_array_equal(instances.paint_masks(rles, (9, 7), "key"), painted)


@given(hnp.arrays(np.int32, SHAPES, elements=st.sampled_from([0, 1, 2, 255, 7001])))
def test_an_id_map_comes_back_from_its_colours(ids: np.ndarray) -> None:
    order = instances.order_by_size(ids)
    np.testing.assert_array_equal(instances.read_ids(instances.paint_ids(ids, "k"), "k", order), ids)
    clip = [7001, 255, 2, 1]
    np.testing.assert_array_equal(instances.read_ids(instances.paint_ids(ids, "k", clip), "k", clip), ids)
    without = instances.paint_ids(ids, "k", void=255)
    np.testing.assert_array_equal(without.any(axis=2), (ids != 0) & (ids != 255))


def test_an_object_keeps_its_colour_in_all_frames_of_a_clip() -> None:
    first, second = (instances.paint_ids(np.array([row]), "k", [3, 1]) for row in ([1, 3, 0], [0, 0, 1]))
    assert first[0, 0].tolist() == second[0, 2].tolist()
    with pytest.raises(ImageError, match="unknown-label: object 2"):
        instances.paint_ids(np.array([[2]]), "k", [3, 1])


def test_masks_of_another_size_are_refused() -> None:
    for mask in (np.zeros((3, 4), bool), {"size": [3, 4], "counts": [12]}):
        with pytest.raises(ImageError, match="mask-size"):
            instances.paint_masks([mask], (4, 3), "k")
