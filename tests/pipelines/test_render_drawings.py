"""Skeletons, boxes, edges and depth: drawn and read back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipelines.render.boxes import draw_boxes, line_width, read_boxes, whole_pixels
from pipelines.render.depth import depth_to_rgb, read_depth
from pipelines.render.edges import draw_edges, read_edges
from pipelines.render.keypoints import RADIUS, draw_people, read_joints
from pipelines.render.palettes import coco_panoptic
from pipelines.render.skeletons import COCO_17, MPII_16, Skeleton
from tokenizer.images import ImageError


def scattered(seed: int, skeleton: Skeleton, shape: tuple[int, int]) -> np.ndarray:
    """A person whose joints lie on whole pixels and cover neither each other nor a middle joint; some are not seen."""
    random = np.random.default_rng(seed)
    apart = 2 * min(shape) * RADIUS + 2
    while True:
        points = random.integers(0, shape[::-1], (len(skeleton.joints), 2))
        named = dict(zip(skeleton.joints, points, strict=True))
        middles = [(named[one] + named[other]) / 2 for one, other, _ in skeleton.middles.values()]
        everything = np.array([*points, *middles])
        distance = np.hypot(*(everything[:, None] - everything).T) + 1e9 * np.eye(len(everything))
        if distance.min() > apart:
            seen = random.random((len(points), 1)) < 0.8
            return np.concatenate([points, np.ones_like(seen)], axis=1) * seen


@given(
    st.integers(0, 2**32), st.sampled_from([COCO_17, MPII_16]), st.tuples(st.integers(90, 200), st.integers(90, 200))
)
def test_joints_come_back_from_a_skeleton(seed: int, skeleton: Skeleton, shape: tuple[int, int]) -> None:
    person = scattered(seed, skeleton, shape).astype(float)
    np.testing.assert_array_equal(read_joints(draw_people(shape, [person], skeleton), skeleton), person)


def test_joints_between_pixels_come_back_to_a_pixel() -> None:
    person = scattered(1, COCO_17, (300, 300)).astype(float)
    seen = person[:, 2] > 0
    person[seen, :2] += np.random.default_rng(0).uniform(-0.4, 0.4, (int(seen.sum()), 2))
    person = np.clip(person, 0, 299)
    read = read_joints(draw_people((300, 300), [person], COCO_17), COCO_17)
    np.testing.assert_allclose(read, person, atol=1)


@pytest.mark.parametrize("skeleton", [COCO_17, MPII_16])
def test_skeletons_name_their_joints_and_differ_in_all_colours(skeleton: Skeleton) -> None:
    assert len(set(skeleton.colours.values())) == len(skeleton.colours)
    assert {name for start, end, _ in skeleton.limbs for name in (start, end)} == set(skeleton.colours)


def test_a_limb_needs_both_ends_and_a_joint_a_place_in_the_picture() -> None:
    person = np.zeros((17, 3))
    person[5] = 20, 50, 2  # left shoulder
    person[7] = 80, 50, 1  # left elbow, annotated but hidden
    person[9] = 80, 100, 2  # left wrist, below the picture
    picture = draw_people((100, 100), [person], COCO_17)
    assert picture[50, 50].tolist() == [102, 153, 0]  # 0.6 of the upper arm's colour
    assert picture[50, 80].tolist() == [0, 255, 0]
    assert not picture[56:].any()
    person[7, 2] = 0
    assert not draw_people((100, 100), [person], COCO_17)[:, 30:].any()
    assert not draw_people((100, 100), [], COCO_17).any()


@given(st.data())
def test_boxes_come_back_from_outlines_that_do_not_touch(data: st.DataObject) -> None:
    shape, step = (96, 120), 24
    assert line_width(shape) == 2
    boxes, classes = [], []
    for top in range(0, shape[0], step):  # at most one box in each cell, a pixel away from the next
        for left in range(0, shape[1], step):
            if data.draw(st.booleans()):
                width, height = data.draw(st.tuples(st.integers(1, step - 1), st.integers(1, step - 1)))
                boxes.append([left, top, left + width, top + height])
                classes.append(data.draw(st.sampled_from([1, 3, 90])))
    picture = draw_boxes(shape, np.array(boxes, np.float64).reshape(-1, 4), classes, coco_panoptic())
    expected = sorted((number, tuple(box)) for number, box in zip(classes, boxes, strict=True))
    assert read_boxes(picture, {number: coco_panoptic()[number] for number in (1, 3, 90)}) == expected


def test_small_boxes_stay_visible_inside_large_ones() -> None:
    boxes = np.array([[40.2, 40.4, 44.6, 44.9], [10.0, 10.0, 90.0, 200.0], [60.0, 60.0, 60.0, 60.0]])
    colours = {1: (255, 0, 0), 2: (0, 255, 0), 3: (0, 0, 255)}
    picture = draw_boxes((100, 100), boxes, [1, 2, 3], colours)
    assert read_boxes(picture, colours) == [
        (1, (40, 40, 45, 45)), (2, (10, 10, 90, 100)), (3, (60, 60, 61, 61))
    ]  # fmt: skip
    assert whole_pixels(np.array([-5.0, 99.9, -1.0, 130.0]), (100, 100)) == (0, 99, 1, 100)


@pytest.mark.parametrize(
    ("box", "number", "reason"),
    [([0, 0, 4, 4], 5, "unknown-label"), ([4, 0, 0, 4], 1, "bad-box"), ([0, 0, np.nan, 4], 1, "bad-box")],
)
def test_boxes_that_cannot_be_drawn_have_a_reason(box: list[float], number: int, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        draw_boxes((9, 9), np.array([box], np.float64), [number], {1: (255, 0, 0)})
    assert caught.value.reason == reason


@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 8), st.integers(1, 8))))
def test_the_agreement_of_annotators_comes_back(drawings: np.ndarray) -> None:
    agreed = drawings.mean(axis=0)
    picture = draw_edges(list(drawings))
    np.testing.assert_allclose(read_edges(picture, annotators=len(drawings)), agreed)
    np.testing.assert_allclose(read_edges(picture), agreed, atol=0.5 / 255)


def test_edges_without_a_drawing_or_of_two_sizes_are_refused() -> None:
    with pytest.raises(ImageError, match="no-edges"):
        draw_edges([])
    with pytest.raises(ImageError, match="sizes-differ"):
        draw_edges([np.zeros((2, 3)), np.zeros((3, 2))])


@given(st.integers(0, 2**32))
def test_relative_depth_comes_back_to_half_a_step(seed: int) -> None:
    random = np.random.default_rng(seed)
    disparity = random.uniform(1, 9, (20, 30)).astype(np.float32)
    disparity[random.random((20, 30)) < 0.2] = 0
    known = disparity > 0
    near = read_depth(depth_to_rgb(disparity, "disparity"))
    assert np.isnan(near[~known]).all()
    low, high = np.percentile(disparity[known], [1, 99])
    np.testing.assert_allclose(near[known], np.clip((disparity[known] - low) / (high - low), 0, 1), atol=0.501 / 254)
