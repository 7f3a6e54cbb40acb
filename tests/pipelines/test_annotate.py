"""Annotators and renderings: what they draw."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.annotate import edge, gray, holes
from pipelines.annotate.annotators import DRAWN, checked_annotators, drawing
from pipelines.render.depth import decode_depth, depth_to_rgb
from pipelines.render.labels import paint
from pipelines.seeds import generator
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


WHITE = np.full((96, 130, 3), 255, np.uint8)


def black_of(key: str, shape: tuple[int, int]) -> np.ndarray:
    return (holes.draw(np.full((*shape, 3), 255, np.uint8), key) == 0).all(axis=2)


@given(st.text(max_size=8), st.integers(16, 120), st.integers(16, 120))
def test_holes_depend_on_the_key_and_lie_at_the_same_place_at_every_size(key: str, height: int, width: int) -> None:
    small, large = black_of(key, (height, width)), black_of(key, (3 * height, 3 * width))
    assert (large[1::3, 1::3] == small).mean() > 0.85  # edges of holes round to whole pixels


def test_holes_are_lvms_one_square_of_10_to_50_percent_or_patches_of_an_eighth() -> None:
    """Of 600 square pictures about 0.3 have one square; of the patches half are black on the whole, 0 to 64."""
    shares, sides = [], []
    for number in range(600):
        black = black_of(str(number), (256, 256))
        patches = black.reshape(8, 32, 8, 32).transpose(0, 2, 1, 3).reshape(64, -1)
        if (patches.all(axis=1) | ~patches.any(axis=1)).all():
            shares.append(black.mean())
        else:
            rows, columns = np.flatnonzero(black.any(axis=1)), np.flatnonzero(black.any(axis=0))
            assert black.sum() == len(rows) * len(columns)  # one full rectangle
            assert abs(len(rows) - len(columns)) <= 1
            sides.append(len(rows))
    assert 140 <= len(sides) <= 220
    assert 25 <= min(sides) < 32
    assert 120 < max(sides) <= 128
    assert 0.45 < np.mean(shares) < 0.55
    assert min(shares) < 0.05
    assert max(shares) > 0.95


@pytest.mark.parametrize("shape", [(64, 64), (64, 85), (64, 96), (200, 64), (64, 1280)])
def test_a_square_hole_lies_in_each_square_part_of_a_picture(shape: tuple[int, int]) -> None:
    squares = [key for key in map(str, range(100)) if _has_square(key)]
    assert squares
    for key in squares[:10]:
        parts = np.array_split(black_of(key, shape), max(round(max(shape) / 64), 1), axis=int(shape[1] >= shape[0]))
        assert all(part.any() and not part.all() for part in parts)


def _has_square(key: str) -> bool:
    return bool(generator("holes", key).random() < holes.SQUARE_PROBABILITY)


def photo(seed: int = 0, shape: tuple[int, int] = (90, 120)) -> np.ndarray:
    """A smooth picture of middle brightness."""
    small = np.random.default_rng(seed).integers(60, 180, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("name", DRAWN)
def test_an_annotator_is_a_pure_function_of_picture_and_key_and_keeps_size(name: str) -> None:
    draw, image = drawing(name), photo()
    before = image.copy()
    drawn = draw(image, "k")
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn, draw(image.copy(), "k"))
    assert np.array_equal(image, before)
    assert draw(image[:1, :1], "k").shape == (1, 1, 3)


@pytest.mark.parametrize("name", ["holes", "rain", "noise"])
def test_what_is_random_is_another_for_another_key(name: str) -> None:
    assert not np.array_equal(drawing(name)(photo(), "3"), drawing(name)(photo(), "4"))


@pytest.mark.parametrize("name", ["holes", "bottom"])
def test_holes_only_blacken(name: str) -> None:
    image = np.random.default_rng(0).integers(1, 256, (50, 50, 3), np.uint8)
    drawn = drawing(name)(image, "k")
    assert ((drawn == image) | (drawn == 0)).all()


def test_the_bottom_half_is_black() -> None:
    drawn = drawing("bottom")(WHITE, "k")
    assert (drawn[:48] == 255).all()
    assert not drawn[48:].any()


@pytest.mark.parametrize("name", ["rain", "noise"])
def test_frames_of_a_clip_have_other_drops_and_grains(name: str) -> None:
    one, other = photo(0).astype(int), photo(1).astype(int)
    draw = drawing(name)
    assert not np.array_equal(draw(photo(0), "k") - one, draw(photo(1), "k") - other)


def test_rain_adds_slanted_light_streaks() -> None:
    image = np.full((200, 200, 3), 90, np.uint8)
    for key in map(str, range(10)):
        drawn = drawing("rain")(image, key).astype(float)
        assert (drawn >= 90).all()
        assert 0.02 < (drawn > 110).any(axis=2).mean() < 0.95
        grey = drawn[..., 0]
        assert np.abs(np.diff(grey, axis=0)).mean() < np.abs(np.diff(grey, axis=1)).mean()  # upright rather than lying


def test_noise_is_stronger_in_bright_linear_light_and_has_no_bias() -> None:
    """Its variance in linear light is shot * light + read, whatever the key drew."""
    for key in map(str, range(6)):
        spread = {}
        for level in (40, 120, 220):
            drawn = drawing("noise")(np.full((200, 200, 3), level, np.uint8), key) / 255
            light = np.where(drawn <= 0.04045, drawn / 12.92, ((drawn + 0.055) / 1.055) ** 2.4)
            true = ((level / 255 + 0.055) / 1.055) ** 2.4
            spread[level] = float(np.var(light))
            if true**2 > 16 * spread[level] and (1 - true) ** 2 > 16 * spread[level]:  # nothing clipped
                assert abs(light.mean() - true) < 0.01
        assert 0 < spread[40] < spread[120]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("egde",), "did you mean 'edge'"),
        (("edge", "edge"), "twice"),
        (("edge",), "twice"),
        (("depth=a.toml", "depth=b.toml"), "twice"),
        (("depth=model.onnx",), "expected ROLE=FILE.toml"),
        (("a-b=model.toml",), "expected ROLE=FILE.toml"),
    ],
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
