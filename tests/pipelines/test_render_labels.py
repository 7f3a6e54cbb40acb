"""Label maps and panoptic maps: drawn in published colours, read back exactly."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pipelines.render import palettes, panoptic
from pipelines.render.labels import draw_labels, paint, read
from tokenizer.images import ImageError

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)
ALL_DIFFER = (palettes.voc, palettes.painter_ade20k, palettes.cityscapes_train, palettes.coco_stuff)


def png(array: np.ndarray) -> bytes:
    """The array as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@given(st.data())
@pytest.mark.parametrize("palette", ALL_DIFFER)
def test_a_label_map_comes_back_from_its_colours(palette: object, data: st.DataObject) -> None:
    colours = palette()  # type: ignore[operator]
    labels = data.draw(hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, len(colours) - 1)))
    np.testing.assert_array_equal(read(paint(labels, colours), colours), labels)


@given(hnp.arrays(np.uint8, SHAPES, elements=st.sampled_from([*range(19), 255])))
def test_void_is_black_and_comes_back(labels: np.ndarray) -> None:
    colours = palettes.cityscapes_train()
    painted = paint(labels, colours, void=255)
    assert not painted[labels == 255].any()
    np.testing.assert_array_equal(read(painted, colours, void=255), labels)


@pytest.mark.parametrize(
    ("palette", "read_as"),
    [(palettes.ade20k, {49: 7}), (palettes.vipseg, {49: 7}), (palettes.cityscapes, {1: 0, 2: 0, 3: 0, 4: 0, 18: 17})],
)
def test_of_classes_with_one_published_colour_the_lower_is_read(palette: object, read_as: dict[int, int]) -> None:
    colours = palette()  # type: ignore[operator]
    labels = np.arange(len(colours))[None]
    found = read(paint(labels, colours), colours)[0]
    assert {int(label): int(found[label]) for label in labels[0] if found[label] != label} == read_as


def test_palettes_are_the_published_ones() -> None:
    ade, city, coco = palettes.ade20k(), palettes.cityscapes(), palettes.coco_panoptic()
    assert ade[:4].tolist() == [
        [0, 0, 0],
        [120, 120, 120],
        [180, 120, 120],
        [6, 230, 230],
    ]  # other, wall, building, sky
    assert city[7].tolist() == [128, 64, 128]  # road
    assert palettes.cityscapes_train()[[0, 13, 18]].tolist() == [[128, 64, 128], [0, 0, 142], [119, 11, 32]]
    assert (coco[1], coco[90], coco[200]) == ((220, 20, 60), (191, 162, 208), (250, 141, 255))  # person, brush, rug
    assert len(coco) == len(set(coco.values())) == 133
    # Painter, gen_color_ade20k_sem.py: class 1 is white, class 150 has the digits 4, 0, 5 of base 6
    assert palettes.painter_ade20k()[[1, 2, 150]].tolist() == [[255, 255, 255], [255, 255, 213], [87, 255, 45]]


@pytest.mark.parametrize("label", [19, 254])
def test_a_label_without_a_colour_is_refused(label: int) -> None:
    data = png(np.full((2, 2), label, np.uint8))
    with pytest.raises(ImageError, match=f"unknown-label: class id {label}, the palette has 0 to 18"):
        draw_labels(data, palettes.cityscapes_train(), void=255)


@given(st.data())
def test_a_panoptic_map_comes_back_with_classes_and_segments(data: st.DataObject) -> None:
    colours = palettes.coco_panoptic()
    numbers = data.draw(st.lists(st.integers(1, 2**24 - 1), min_size=1, max_size=6, unique=True))
    segments = {number: data.draw(st.sampled_from([1, 3, 92, 149])) for number in numbers}
    ids = data.draw(hnp.arrays(np.int64, SHAPES, elements=st.sampled_from([0, *segments])))
    painted = panoptic.paint_panoptic(ids, segments, colours, "a key")
    classes = np.vectorize({0: 0, **segments}.get)(ids)
    np.testing.assert_array_equal(panoptic.read_classes(painted, colours), classes)
    there, sizes = np.unique(ids[ids > 0], return_counts=True)
    largest_first = there[np.argsort(-sizes, kind="stable")].tolist()
    table = panoptic.segment_colours({number: segments[number] for number in largest_first}, colours, "a key")
    np.testing.assert_array_equal(panoptic.read_segments(painted, table), ids)


def test_sixty_persons_in_shades_are_sixty_and_all_persons() -> None:
    colours = palettes.coco_panoptic()
    table = panoptic.segment_colours(dict.fromkeys(range(1, 61), 1), colours, "a")
    assert table[1] == colours[1]
    assert len(set(table.values())) == 60
    assert (panoptic.read_classes(np.array([list(table.values())], np.uint8), colours) == 1).all()
    assert table != panoptic.segment_colours(dict.fromkeys(range(1, 61), 1), colours, "b")


@given(hnp.arrays(np.int64, SHAPES, elements=st.integers(0, 2**24 - 1)))
def test_segment_ids_are_read_from_colours_as_panopticapi_writes_them(ids: np.ndarray) -> None:
    written = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=2).astype(np.uint8)  # its id2rgb
    np.testing.assert_array_equal(panoptic.decode_ids(png(written)), ids)


def test_segment_ids_are_read_from_sixteen_bits() -> None:
    np.testing.assert_array_equal(panoptic.decode_ids(png(np.array([[0, 6101]], np.uint16))), [[0, 6101]])


def test_panoptic_faults_have_their_reasons() -> None:
    with pytest.raises(ImageError, match="unknown-label: segment 9 of the map"):
        panoptic.paint_panoptic(np.array([[9]]), {8: 1}, palettes.coco_panoptic(), "k")
    with pytest.raises(ImageError, match="unknown-label: class 12 of segment 8"):
        panoptic.paint_panoptic(np.array([[8]]), {8: 12}, palettes.coco_panoptic(), "k")
    with pytest.raises(ImageError, match="too-many-objects"):
        panoptic.segment_colours(dict.fromkeys(range(30_000), 1), palettes.coco_panoptic(), "k")
