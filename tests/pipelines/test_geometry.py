"""Views: image and annotation always share one geometry (law 3)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.augment import geometry
from pipelines.examples import Look, Squares, squares
from pipelines.geometry import Geometry, cut, cut_scaled, scaled_whole
from pipelines.render.labels import draw_labels
from pipelines.sources.base import Encoded, Example, Reject
from tokenizer.images import PRESETS, prepare

SHAPES = st.tuples(st.integers(20, 300), st.integers(20, 300))
PRESET = st.sampled_from(sorted(PRESETS))


def coordinates(height: int, width: int) -> np.ndarray:
    """A picture whose red is x and whose green is y, in 0..255 of the side."""
    x = (np.arange(width) + 0.5) / width * 255
    y = (np.arange(height) + 0.5) / height * 255
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.rint(x)[None, :], np.rint(y)[:, None]
    return picture


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


@given(SHAPES, PRESET)
def test_the_original_view_is_what_the_preset_prepares(shape: tuple[int, int], preset: str) -> None:
    image = noise(shape)
    shown = geometry("d", "k", 0, shape, preset, 32)
    assert np.array_equal(cut(image, shown), prepare(image, preset, 32))
    assert np.array_equal(cut(image, shown, nearest=True), prepare(image, preset, 32, nearest=True))


@given(SHAPES, PRESET, st.integers(1, 200))
def test_a_view_lies_inside_the_picture_and_shows_at_least_half_of_the_largest_crop(
    shape: tuple[int, int], preset: str, view: int
) -> None:
    shown = geometry("d", "k", view, shape, preset, 32)
    left, top, right, bottom = shown.box(shape[1], shape[0])
    assert 0 <= left < right <= shape[1] + 1e-9
    assert 0 <= top < bottom <= shape[0] + 1e-9
    side = shown.size / min(shown.width, shown.height)
    assert 0.69 <= side <= 1.0


@given(SHAPES, PRESET, st.integers(0, 50), st.integers(1, 3))
def test_roles_of_other_sizes_show_the_same_place(shape: tuple[int, int], preset: str, view: int, factor: int) -> None:
    shown = geometry("d", "k", view, shape, preset, 32)
    image = cut(coordinates(*shape), shown).astype(int)
    annotation = cut(coordinates(shape[0] * factor, shape[1] * factor), shown).astype(int)
    step = 255 / min(shape)  # what one pixel of the smaller picture covers
    assert np.abs(image - annotation).max() <= step + 2


@given(SHAPES, PRESET, st.integers(0, 50))
def test_what_annotators_draw_on_shows_the_same_place(shape: tuple[int, int], preset: str, view: int) -> None:
    shown = geometry("d", "k", view, shape, preset, 32)
    whole = coordinates(*shape)
    image, drawn = cut(whole, shown).astype(int), cut_scaled(scaled_whole(whole, shown), shown).astype(int)
    assert np.abs(image - drawn).max() <= 255 / min(shape) + 2


@given(st.text(max_size=5), st.text(max_size=5), st.integers(0, 9))
def test_a_view_is_a_function_of_dataset_key_and_number(dataset: str, key: str, view: int) -> None:
    first = geometry(dataset, key, view, (60, 80), "crop", 32)
    assert first == geometry(dataset, key, view, (60, 80), "crop", 32)
    if view:
        assert first != geometry(dataset, key + "x", view, (60, 80), "crop", 32) or view > 5


def test_views_differ_and_about_half_are_mirrored() -> None:
    shown = [geometry("d", "k", view, (200, 300), "crop", 64) for view in range(1, 101)]
    assert len(set(shown)) > 95
    assert 35 <= sum(one.flip for one in shown) <= 65


def test_a_flip_mirrors_left_and_right() -> None:
    plain = Geometry(width=32, height=32, left=0, top=0, size=32)
    mirrored = Geometry(width=32, height=32, left=0, top=0, size=32, flip=True)
    image = noise((32, 32))
    assert np.array_equal(cut(image, mirrored), image[:, ::-1])
    assert np.array_equal(cut_scaled(image, mirrored), image[:, ::-1])
    assert np.array_equal(cut(image, plain), image)


def look(**options: object) -> Look:
    return Look(**{"dataset": "d", "roles": ("image",), "annotate": (), "preset": "crop", "size": 32} | options)


def made(media: dict[str, object], chosen: Look, view: int = 3) -> Squares | Reject:
    result = squares(Example(key="k", source="s", media=media), chosen, [view])
    return result if isinstance(result, Reject) else result[0]


def test_all_frames_of_a_clip_have_one_geometry() -> None:
    result = made({"frames": [coordinates(60, 90)] * 5}, look(roles=("frames",), annotate=("gray",)))
    assert isinstance(result, Squares)
    frames = result.pictures["frames"]
    assert frames.shape == (5, 32, 32, 3)
    assert all(np.array_equal(frames[0], frame) for frame in frames)
    assert result.pictures["gray"].shape == frames.shape


def test_labels_keep_their_colours_in_every_view() -> None:
    import io

    from PIL import Image

    ids = np.repeat(np.repeat(np.array([[0, 1], [7, 255]], np.uint8), 40, 0), 40, 1)
    buffer = io.BytesIO()
    Image.fromarray(ids).save(buffer, "PNG")
    media = {"image": coordinates(80, 80), "mask": Encoded(data=buffer.getvalue(), decode=draw_labels, exact=True)}
    result = made(media, look(roles=("image", "mask")))
    assert isinstance(result, Squares)
    colours = {tuple(pixel) for pixel in result.pictures["mask"].reshape(-1, 3).tolist()}
    assert colours <= {(0, 0, 0), (128, 0, 0), (128, 128, 128), (224, 224, 192)}
    assert len(colours) > 1


def test_halves_of_another_shape_are_rejected() -> None:
    result = made({"image": noise((40, 60)), "depth": noise((40, 40))}, look(roles=("image", "depth")))
    assert isinstance(result, Reject)
    assert (result.stage, result.reason) == ("align", "sizes-differ")


def test_halves_of_another_size_in_the_same_shape_are_fine() -> None:
    assert isinstance(
        made({"image": noise((81, 120)), "depth": noise((40, 60))}, look(roles=("image", "depth"))), Squares
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1)])
def test_the_smallest_pictures_become_squares(shape: tuple[int, int]) -> None:
    for view in (0, 1):
        result = made({"image": noise(shape)}, look(annotate=("edge", "gray", "holes")), view)
        assert isinstance(result, Squares)
        assert {pictures.shape for pictures in result.pictures.values()} == {(1, 32, 32, 3)}


def test_a_strip_is_rejected() -> None:
    result = made({"image": noise((2, 41))}, look())
    assert isinstance(result, Reject)
    assert (result.stage, result.reason) == ("align", "too-narrow")


def test_several_views_from_one_decoding_equal_views_made_alone() -> None:
    example = Example(key="k", source="s", media={"image": noise((50, 70))})
    chosen = look(annotate=("edge", "holes"))
    together = squares(example, chosen, [0, 1, 2])
    assert not isinstance(together, Reject)
    for view, result in enumerate(together):
        alone = squares(example, chosen, [view])
        assert not isinstance(alone, Reject)
        assert result.meta == alone[0].meta
        assert all(np.array_equal(result.pictures[role], alone[0].pictures[role]) for role in result.pictures)


def test_the_row_remembers_size_crop_and_flip() -> None:
    original = made({"image": noise((50, 70))}, look(), 0)
    later = made({"image": noise((50, 70))}, look(), 1)
    assert isinstance(original, Squares)
    assert isinstance(later, Squares)
    assert original.meta == {"source": "s", "size": [70, 50]}
    assert set(later.meta) == {"source", "size", "crop", "flip"}
