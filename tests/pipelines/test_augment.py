"""Augmentations: what a view may be, what its row remembers, and that this is enough to make it again by hand."""

import hashlib
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from made_media import write_pictures
from PIL import Image, ImageOps

from manifests.dataset import load_facts
from manifests.schema import Row
from manifests.shards import read_rows
from pipelines.augment import STANDARD, Augmentation, geometry, parse, six_crops
from pipelines.cli import tokenize as command
from pipelines.examples import Look, Squares, squares
from pipelines.geometry import cut, cut_scaled, scaled_whole
from pipelines.job import Job
from pipelines.render.labels import paint
from pipelines.sources.base import Encoded, Example
from pipelines.sources.folder import FolderSource
from pipelines.tokenize import tokenize, tokenize_views
from tokenizer.images import PRESETS
from tokenizer.labels import voc_palette
from visent.errors import UserError

NAMES = ["crop,hflip", "crop=0.08,hflip,vflip", "hflip,vflip", "turn", "rotate", "crop,rotate=15,turn,hflip,vflip",
         "resize-crop=40,hflip", "resize-crop=40,rotate,vflip", "six-crops=40,hflip,vflip,turn"]  # fmt: skip
AUGMENTATION = st.sampled_from(NAMES)
SHAPES = st.tuples(st.integers(20, 200), st.integers(20, 200))
PRESET = st.sampled_from(sorted(PRESETS))
VIEWS = st.integers(1, 6)
SIZE = 32


def coordinates(height: int, width: int) -> np.ndarray:
    """A picture whose red is x and whose green is y, in 0..255 of the side, and whose blue is full."""
    picture = np.full((height, width, 3), 255, np.uint8)
    picture[..., 0] = np.rint((np.arange(width) + 0.5) / width * 255)[None, :]
    picture[..., 1] = np.rint((np.arange(height) + 0.5) / height * 255)[:, None]
    return picture


def noise(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def places(meta: Mapping[str, Any], width: int, height: int) -> np.ndarray:
    """Where in the picture each pixel of a view lies, from the row's meta alone: x and y in 0..255 of the side."""
    left, top, right, bottom = meta["crop"]
    steps = (np.arange(SIZE) + 0.5) / SIZE - 0.5
    x, y = np.meshgrid(steps, steps)
    for _ in range(meta.get("turn", 0)):  # a quarter counter-clockwise shows at the top what was at the right
        x, y = -y, x
    y = -y if meta.get("vflip") else y
    x = -x if meta["flip"] else x
    angle = math.radians(meta.get("rotate", 0.0))
    x, y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
    return np.stack([((left + right) / 2 + x * (right - left)) / width * 255,
                     ((top + bottom) / 2 + y * (bottom - top)) / height * 255], axis=-1)  # fmt: skip


@given(SHAPES, PRESET, VIEWS, AUGMENTATION, st.integers(1, 3))
def test_image_labels_and_drawings_show_the_place_that_the_meta_tells(
    shape: tuple[int, int], preset: str, view: int, names: str, factor: int
) -> None:
    height, width = shape
    shown = geometry("d", "k", view, shape, preset, SIZE, parse(names))
    expected = places(shown.meta(width, height), width, height)
    image = coordinates(height, width)
    step = 255 / min(shape)
    labels = cut(coordinates(height * factor, width * factor), shown, nearest=True)
    drawn = cut_scaled(scaled_whole(image, shown), shown)
    for square, tolerance in ((cut(image, shown), step + 2), (labels, step + 2), (drawn, step + 3)):
        assert np.abs(square[..., :2] - expected).max() <= tolerance
        assert square[..., 2].min() == 255, "a corner is empty"


@given(st.tuples(st.integers(1, 400), st.integers(1, 400)), PRESET, VIEWS, AUGMENTATION)
def test_a_view_lies_inside_the_picture_and_no_corner_is_empty(
    shape: tuple[int, int], preset: str, view: int, names: str
) -> None:
    if max(shape) > 20 * min(shape):
        return
    shown = geometry("d", "k", view, shape, preset, SIZE, parse(names))
    white = np.full((*shape, 3), 255, np.uint8)
    for square in (cut(white, shown), cut(white, shown, nearest=True), cut_scaled(scaled_whole(white, shown), shown)):
        assert square.min() == 255
    at = places(shown.meta(shape[1], shape[0]), shape[1], shape[0])
    assert at.min() >= -1e-3
    assert at.max() <= 255 + 1e-3


@given(SHAPES, PRESET, VIEWS, st.sampled_from(NAMES))
def test_views_are_replayed_pixel_by_pixel_from_their_meta(
    shape: tuple[int, int], preset: str, view: int, names: str
) -> None:
    image = noise(shape)
    shown = geometry("d", "k", view, shape, preset, SIZE, parse(names))
    meta = shown.meta(shape[1], shape[0])
    if meta.get("rotate") and "resize-crop" in names:
        return  # its square lies between pixels once it is scaled; the places above check it
    assert np.array_equal(cut(image, shown), by_hand(Image.fromarray(image), meta))
    if not meta.get("rotate"):
        assert np.array_equal(
            cut(image, shown, nearest=True), by_hand(Image.fromarray(image), meta, Image.Resampling.NEAREST)
        )


def by_hand(picture: Image.Image, meta: Mapping[str, Any], method: Any = Image.Resampling.BILINEAR) -> np.ndarray:
    """Makes a view with Pillow's own operations, from the picture and the row's meta."""
    left, top, right, bottom = meta["crop"]
    if meta.get("rotate"):
        x, y = SIZE / (right - left), SIZE / (bottom - top)
        whole = picture.resize((round(picture.width * x), round(picture.height * y)), method)
        corner = (round(left * x), round(top * y))
        middle = (corner[0] + SIZE / 2, corner[1] + SIZE / 2)
        turned = whole.rotate(meta["rotate"], method, center=middle)
        square = turned.crop((*corner, corner[0] + SIZE, corner[1] + SIZE))
    else:
        square = picture.resize((SIZE, SIZE), method, box=(left, top, right, bottom))
    square = ImageOps.mirror(square) if meta["flip"] else square
    square = ImageOps.flip(square) if meta.get("vflip") else square
    return np.asarray(square.rotate(90 * meta.get("turn", 0)))


@pytest.mark.parametrize(
    ("view", "shape", "preset", "expected", "sha256"),
    [
        (0, (200, 300), "crop", (96, 64, 16, 0, False), "d19c1a15e254"),
        (1, (200, 300), "crop", (118, 79, 54, 13, True), "5d5a3ce1bad8"),
        (2, (201, 299), "crop", (102, 69, 19, 5, True), "6e4add10bb97"),
        (7, (333, 120), "squash", (83, 83, 3, 7, True), "80d87cbdce39"),
    ],
)
def test_the_views_of_datasets_made_so_far_stay_what_they_are(
    view: int, shape: tuple[int, int], preset: str, expected: tuple[Any, ...], sha256: str
) -> None:
    shown = geometry("d", "k", view, shape, preset, 64)
    assert (shown.width, shown.height, shown.left, shown.top, shown.flip) == expected
    assert hashlib.sha256(cut(noise(shape), shown).tobytes()).hexdigest()[:12] == sha256
    assert STANDARD.to_json() == {"crop_area": [0.5, 1.0], "flip": 0.5, "version": 1}


def test_six_crops_are_corners_and_middles_of_the_long_sides_in_the_order_of_delvm() -> None:
    assert six_crops(2250, 1500, 800) == [(0, 0), (1450, 0), (725, 0), (0, 700), (1450, 700), (725, 700)]
    assert six_crops(1500, 2250, 800) == [(0, 0), (700, 0), (0, 725), (700, 725), (0, 1450), (700, 1450)]
    setting = parse("six-crops")
    boxes = [geometry("d", "k", view, (1500, 2250), "crop", 256, setting).meta(2250, 1500) for view in range(1, 7)]
    assert boxes[3] == {"crop": [0.0, 700.0, 800.0, 1500.0], "flip": False}
    assert len({tuple(box["crop"]) for box in boxes}) == 6
    small = geometry("d", "k", 5, (500, 700), "crop", 256, setting).meta(700, 500)
    assert small["crop"] == [200.0, 0.0, 700.0, 500.0]


def test_a_resize_crop_is_a_square_of_whole_pixels_anywhere() -> None:
    setting = parse("resize-crop")
    boxes = [
        geometry("d", "k", view, (600, 900), "squash", 256, setting).meta(900, 600)["crop"] for view in range(1, 99)
    ]
    for left, top, right, bottom in boxes:
        assert (right - left, bottom - top) == (400, 400)
        assert (left % 1, top % 1) == (0, 0)
    assert min(box[0] for box in boxes) < 50
    assert max(box[2] for box in boxes) > 850


def test_draws_are_spread_evenly() -> None:
    setting = parse("turn,rotate=20,vflip")
    shown = [geometry("d", "k", view, (90, 90), "crop", SIZE, setting) for view in range(1, 201)]
    assert 70 <= sum(one.vflip for one in shown) <= 130
    assert all(30 <= sum(one.turn == turn for one in shown) <= 70 for turn in range(4))
    assert min(one.angle for one in shown) < -18
    assert max(one.angle for one in shown) > 18
    assert max(abs(one.angle) for one in shown) <= 20
    assert not any(one.flip for one in shown)


@given(st.sampled_from(NAMES))
def test_a_setting_is_read_back_from_its_record(names: str) -> None:
    import json

    assert Augmentation.from_json(json.loads(json.dumps(parse(names).to_json()))) == parse(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("crp", "augmentation 'crp': did you mean 'crop'"),
        ("", "names nothing; give some of crop, resize-crop"),
        ("crop,six-crops", "one of crop, resize-crop and six-crops"),
        ("six-crops,rotate", "use turn for quarter turns"),
        ("crop=big", "--augment crop=big: expected crop=0.5"),
        ("resize-crop=40.5", "--augment resize-crop=40.5: expected resize-crop=400"),
        ("rotate=nan", "--augment rotate=nan: expected rotate=180"),
        ("hflip=0.3", "--augment hflip=0.3: expected hflip"),
        ("crop=0", "above 0 and at most 1"),
        ("rotate=200", "rotate=200; expected degrees up to 180"),
        ("rotate=-3", "rotate=-3; expected degrees"),
        ("resize-crop=0", "side of a square in pixels, 1 or more"),
    ],
)
def test_a_setting_that_is_none_is_refused(names: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(names)
    assert message in str(refused.value)


@pytest.mark.parametrize("names", NAMES)
def test_all_roles_frames_and_annotations_share_one_geometry(names: str) -> None:
    ids = np.random.default_rng(1).integers(0, 21, (80, 120), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(paint(ids, voc_palette())).save(buffer, "PNG")
    place = coordinates(80, 120)
    media = {"frames": [place, place], "mask": [Encoded(data=buffer.getvalue(), exact=True)] * 2}
    look = Look(dataset="d", roles=("frames", "mask"), annotate=(), preset="crop", size=SIZE, augment=parse(names))
    made = squares(Example(key="k", source="s", media=media), look, [1, 2])
    assert isinstance(made, list)
    for one in made:
        assert isinstance(one, Squares)
        frames, masks = one.pictures["frames"], one.pictures["mask"]
        assert np.array_equal(frames[0], frames[1])
        assert np.array_equal(masks[0], masks[1])
        colours = {tuple(colour) for colour in masks.reshape(-1, 3).tolist()}
        assert colours <= {tuple(colour) for colour in voc_palette()[:21].tolist()}
        assert np.abs(frames[0][..., :2] - places(one.meta, 120, 80)).max() <= 255 / 80 + 2


def rows(folder: str) -> list[Row]:
    facts = load_facts(folder)
    return [row for shard in facts.shards for row in read_rows(f"{folder}/{shard.file}", facts.schema)]


@pytest.mark.parametrize("names", ["crop,hflip", "resize-crop=60,hflip,vflip,turn", "crop,rotate=30"])
def test_a_row_of_a_view_equals_tokenizing_the_crop_by_hand(names: str, tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 3)
    source = FolderSource(paths=(str(tmp_path / "in"),), items_per_unit=8)
    out = str(tmp_path / "corpus" / "d")
    tokenize(Job(out=out, name="d", tokenizer=tiny, source=source, augment=parse(names)))
    tokenize_views(out, 3)
    views = {(row.key, row.view): row for row in rows(out) if row.view}
    assert len(views) == 6
    cuts = tmp_path / "cuts"
    for (key, view), row in views.items():
        picture = Image.open(next(path for path in (tmp_path / "in").rglob("*") if path.stem == Path(key).name))
        (cuts / key).mkdir(parents=True, exist_ok=True)
        Image.fromarray(by_hand(picture.convert("RGB"), row.meta)).save(cuts / key / f"{view}.png")
    again = str(tmp_path / "corpus" / "cuts")
    tokenize(Job(out=again, name="cuts", tokenizer=tiny, source=FolderSource(paths=(str(cuts),), items_per_unit=8)))
    for row in rows(again):
        key, view = row.key.rsplit("/", 1)
        assert np.array_equal(row.codes["image"], views[key, int(view)].codes["image"])


def test_the_setting_is_recorded_and_views_follow_it(tmp_path: Path, tiny: str) -> None:
    write_pictures(tmp_path / "in", 2)
    out = tmp_path / "corpus" / "d"
    arguments = ["folder", str(tmp_path / "in"), "--out", str(out), "--tokenizer", tiny, "--augment"]
    done = CliRunner().invoke(command, [*arguments, "six-crops=30,vflip"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert load_facts(str(out)).config["augment"] == {"six_crops": 30, "vflip": 0.5, "version": 1}
    manifest = tmp_path / "manifest.toml"
    manifest.write_text('version = 1\n[datasets]\nd = { path = "corpus/d", views = 7 }\n')
    assert CliRunner().invoke(command, ["--views-from", str(manifest)], catch_exceptions=False).exit_code == 0
    made = [row for row in rows(str(out)) if row.view]
    assert len(made) == 12
    assert all(row.meta["crop"][2] - row.meta["crop"][0] == 30 for row in made)
    manifest.write_text('version = 1\n[datasets]\nd = { path = "corpus/d", views = 8 }\n')
    with pytest.raises(UserError, match="8 views are wanted, but six-crops gives the original and six crops of it"):
        CliRunner().invoke(command, ["--views-from", str(manifest)], catch_exceptions=False)
    with pytest.raises(UserError, match="begun with another configuration:\n  --augment six_crops: was 30"):
        CliRunner().invoke(command, [*arguments, "crop"], catch_exceptions=False)
