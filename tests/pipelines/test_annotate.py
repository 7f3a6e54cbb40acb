"""Annotators and renderings: what they draw."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.annotate import edge, gray, holes
from pipelines.annotate.annotators import checked_annotators
from pipelines.render.depth import decode_depth, depth_to_rgb
from pipelines.render.labels import paint
from tokenizer.images import ImageError
from tokenizer.labels import voc_palette
from visent.errors import UserError


def test_edges_are_white_lines_where_the_picture_steps() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 200
    drawn = edge.draw(image, "k")
    assert set(np.unique(drawn)) == {0, 255}
    assert set(np.flatnonzero(drawn[20, :, 0])) <= {28, 29, 30, 31}
    assert not edge.draw(np.full((40, 60, 3), 90, np.uint8), "k").any()


def test_gray_keeps_brightness_and_drops_colour() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    drawn = gray.draw(image, "k")
    assert (drawn[..., 0] == drawn[..., 1]).all()
    assert (drawn[..., 0] == drawn[..., 2]).all()
    assert np.abs(drawn[..., 0] - image @ np.array([0.299, 0.587, 0.114])).max() <= 1


@given(st.text(max_size=8), st.integers(16, 120), st.integers(16, 120))
def test_holes_depend_on_the_key_and_lie_at_the_same_place_at_every_size(key: str, height: int, width: int) -> None:
    small = holes.draw(np.full((height, width, 3), 255, np.uint8), key)
    large = holes.draw(np.full((3 * height, 3 * width, 3), 255, np.uint8), key)
    assert set(np.unique(small)) == {0, 255}
    middle = large[1::3, 1::3]
    assert (middle == small).mean() > 0.85  # edges of holes round to whole pixels
    assert 0.08 < (small == 0).mean() < 0.6


@given(st.text(max_size=8), st.integers(64, 200))
def test_the_centre_square_always_shows_a_hole_and_what_is_around_it(key: str, width: int) -> None:
    drawn = holes.draw(np.full((64, width, 3), 255, np.uint8), key)
    left = (width - 64) // 2
    square = drawn[:, left : left + 64]
    assert (square == 0).any()
    assert (square == 255).mean() > 0.4


def test_holes_only_blacken() -> None:
    image = np.random.default_rng(0).integers(1, 256, (50, 50, 3), np.uint8)
    drawn = holes.draw(image, "k")
    assert ((drawn == image) | (drawn == 0)).all()


@pytest.mark.parametrize(
    ("names", "message"), [(("egde",), "did you mean 'edge'"), (("edge", "edge"), "twice"), (("edge",), "twice")]
)
def test_wrong_annotators_are_one_clear_error(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked_annotators(names, ("image", "edge") if names == ("edge",) else ("image",))


def test_near_is_bright_and_unknown_is_black() -> None:
    depth = np.array([[1, 2, 4], [0, np.nan, np.inf]], np.float32)
    disparity, distance = depth_to_rgb(depth, "disparity")[..., 0], depth_to_rgb(depth, "distance")[..., 0]
    assert disparity[0, 0] < disparity[0, 1] < disparity[0, 2]
    assert distance[0, 0] > distance[0, 1] > distance[0, 2] > 0
    assert not disparity[1].any()
    assert not distance[1].any()


def test_outliers_do_not_flatten_the_rest() -> None:
    depth = np.linspace(1, 2, 10_000, dtype=np.float32).reshape(100, 100)
    depth[0, 0] = 1e6
    drawn = depth_to_rgb(depth, "disparity")[..., 0]
    assert drawn.min() == 1
    assert np.ptp(drawn[1:]) > 240


def test_a_flat_map_is_grey_and_an_empty_one_refused() -> None:
    assert set(np.unique(depth_to_rgb(np.full((4, 4), 7, np.float32), "distance"))) == {128}
    with pytest.raises(ImageError, match="no-depth"):
        depth_to_rgb(np.zeros((4, 4), np.float32), "disparity")


def saved(values: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "png":
        Image.fromarray(values.astype(np.uint16)).save(buffer, "PNG")
    elif kind == "npy":
        np.save(buffer, values)
    else:
        np.savez(buffer, **{kind: values})
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "npy", "depth", "arr_0"])
def test_depth_files_of_every_kind_give_the_same_values(kind: str) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4) * 1000
    assert np.array_equal(decode_depth(saved(values, kind)), values)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY cut", b"PK\x03\x04 cut", saved(np.zeros((2, 3, 4)), "npy"), saved(np.array("x"), "npy")],
)
def test_what_is_no_depth_map_is_refused_with_a_reason(content: bytes) -> None:
    with pytest.raises(ImageError) as failure:
        decode_depth(content)
    assert failure.value.reason


def test_a_cut_array_is_refused() -> None:
    whole = saved(np.zeros((50, 50), np.float32), "npy")
    with pytest.raises(ImageError, match="truncated"):
        decode_depth(whole[: len(whole) // 2])


def test_labels_are_painted_with_the_palette_of_voc() -> None:
    """The first colours as the VOC development kit lists them; 255 is the border."""
    painted = paint(np.array([[0, 1, 2, 3, 15, 20, 255]], np.uint8), voc_palette())[0].tolist()
    assert painted == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192]
    ]  # fmt: skip
