"""Decoding by content, one reason for each unusable file, and the squares of the presets."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tokenizer.images import PRESETS, ImageError, decode_image, decode_labels, prepare
from visent.errors import UserError

RNG = np.random.default_rng(0)
SMOOTH = np.array(Image.fromarray(RNG.integers(0, 256, (5, 7, 3), np.uint8)).resize((56, 40)))
FORMATS = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "PPM": {},
    "JPEG2000": {},
    "AVIF": {},
}


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


FILES = {kind: encoded(Image.fromarray(SMOOTH), kind, **options) for kind, options in FORMATS.items()}


def reason(data: bytes, **options: int) -> str:
    with pytest.raises(ImageError) as error:
        decode_image(data, **options)
    return error.value.reason


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_decodes_to_its_pixels_by_content(kind: str) -> None:
    decoded = decode_image(FILES[kind])
    assert decoded.shape == SMOOTH.shape
    assert np.abs(decoded.astype(int) - SMOOTH).mean() < (12 if kind in ("GIF", "JPEG", "AVIF") else 1)


def test_a_png_named_jpg_decodes(samples: Path) -> None:
    mislabelled = [p for p in (samples / "youtube_vos").rglob("*.jpg") if p.read_bytes()[:4] == b"\x89PNG"]
    assert len(mislabelled) >= 30
    assert decode_image(mislabelled[0].read_bytes()).shape == (180, 320, 3)


def test_no_bytes_are_empty() -> None:
    assert reason(b"") == "empty"


@pytest.mark.parametrize("data", [b"<html>404</html>", b"\x00" * 1000, b"RIFF", bytes(range(256))])
def test_other_bytes_are_no_image(data: bytes) -> None:
    assert reason(data) == "not-an-image"


@pytest.mark.parametrize("kind", FORMATS)
def test_half_a_file_is_refused(kind: str) -> None:
    assert reason(FILES[kind][: len(FILES[kind]) // 2]) in ("truncated", "damaged", "not-an-image")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_cut_in_the_pixels_is_called_truncated(kind: str) -> None:
    assert reason(FILES[kind][: len(FILES[kind]) * 3 // 4]) == "truncated"


@given(st.sampled_from(sorted(FORMATS)), st.floats(0, 1, exclude_max=True))
def test_a_cut_file_never_gives_another_picture(kind: str, part: float) -> None:
    """Wherever a file is cut, it is refused or, when only its end mark is gone, gives all its pixels."""
    try:
        decoded = decode_image(FILES[kind][: int(len(FILES[kind]) * part)])
    except ImageError:
        return
    np.testing.assert_array_equal(decoded, decode_image(FILES[kind]))


@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_damage_raises_nothing_but_image_errors(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        assert decode_image(bytes(damaged), max_pixels=1_000_000).ndim == 3


def test_cmyk_becomes_rgb() -> None:
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[..., 0] = 255  # full cyan
    decoded = decode_image(encoded(Image.fromarray(ink, "CMYK"), "TIFF"))
    assert decoded[0, 0].tolist() == [0, 255, 255]
    jpeg = decode_image(encoded(Image.fromarray(ink, "CMYK"), "JPEG", quality=100))
    assert np.abs(jpeg[4, 4].astype(int) - [0, 255, 255]).max() < 8


def test_grey_becomes_three_equal_channels() -> None:
    grey = SMOOTH[..., 0]
    decoded = decode_image(encoded(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(decoded, np.repeat(grey[..., None], 3, -1))


def test_palette_becomes_its_colours() -> None:
    indexed = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    decoded = decode_image(encoded(indexed, "PNG"))
    assert decoded.tolist() == [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(mode: str) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (0, 0, 2, 4))
    image = clear.convert(mode) if mode != "P" else clear.quantize()
    decoded = decode_image(encoded(image, "PNG"))
    assert decoded[0, :, 0].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    decoded = decode_image(encoded(Image.fromarray(values), kind))
    assert decoded[0, :, 0].tolist() == [0, 1, 128, 255]


def test_numbers_without_a_range_are_refused() -> None:
    assert reason(encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")) == "unsupported-mode"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_files_of_several_frames_are_refused_as_animated(kind: str) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (0, 90, 180)]
    assert reason(encoded(frames[0], kind, save_all=True, append_images=frames[1:])) == "animated"


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Writes a PNG that Pillow itself would not write; each row begins with its filter byte."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_a_bomb_is_refused_by_its_header() -> None:
    """15,000 x 15,000 black pixels fit in 30 kB; nothing of them is unpacked."""
    bomb = png(15_000, 15_000, 1, 0, bytes(15_000 * (1 + 15_000 // 8)))
    assert len(bomb) < 40_000
    assert reason(bomb) == "too-large"


def test_sixteen_bit_colours_keep_their_high_byte() -> None:
    assert decode_image(png(1, 1, 16, 2, bytes([0, 10, 99, 20, 99, 30, 99]))).tolist() == [[[10, 20, 30]]]


def test_of_a_cameras_multi_picture_jpeg_the_first_is_the_photo() -> None:
    preview = Image.new("RGB", (8, 8), "red")
    decoded = decode_image(encoded(Image.fromarray(SMOOTH), "MPO", save_all=True, append_images=[preview], quality=95))
    np.testing.assert_array_equal(decoded, decode_image(FILES["JPEG"]))


def test_the_limit_counts_pixels() -> None:
    assert reason(FILES["PNG"], max_pixels=40 * 56 - 1) == "too-large"
    assert decode_image(FILES["PNG"], max_pixels=40 * 56).shape == (40, 56, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = {
        1: SMOOTH,
        2: SMOOTH[:, ::-1],
        3: SMOOTH[::-1, ::-1],
        4: SMOOTH[::-1],
        5: SMOOTH.transpose(1, 0, 2),
        6: SMOOTH.transpose(1, 0, 2)[:, ::-1],
        7: SMOOTH.transpose(1, 0, 2)[::-1, ::-1],
        8: SMOOTH.transpose(1, 0, 2)[::-1],
    }[orientation]
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(SMOOTH), "PNG", exif=exif)), upright)


def test_labels_keep_palette_indices_and_sixteen_bits() -> None:
    indexed = Image.fromarray(np.array([[0, 200], [7, 200]], np.uint8), "P")
    indexed.putpalette([1, 2, 3] * 256)
    assert decode_labels(encoded(indexed, "PNG")).tolist() == [[0, 200], [7, 200]]
    wide = np.array([[0, 1, 40_000, 65_535]], np.uint16)
    labels = decode_labels(encoded(Image.fromarray(wide), "PNG"))
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, wide)


def test_colours_are_no_labels() -> None:
    with pytest.raises(ImageError) as error:
        decode_labels(FILES["PNG"])
    assert error.value.reason == "not-labels"


@given(st.integers(1, 700), st.integers(1, 700))
def test_crop_is_the_short_side_resized_and_the_centre_cut(width: int, height: int) -> None:
    """The oracle does it in two steps, as torchvision's Resize and CenterCrop do."""
    image = RNG.integers(0, 256, (height, width, 3), np.uint8)
    size, short = 64, min(width, height)
    scaled = (size * width // short, size * height // short)
    if max(scaled) > 20_000:
        return
    left, top = (round((side - size) / 2) for side in scaled)
    whole = Image.fromarray(image).resize(scaled, Image.Resampling.BILINEAR)
    expected = np.array(whole.crop((left, top, left + size, top + size))).astype(int)
    assert np.abs(prepare(image, "crop", size) - expected).max() <= 1


def test_squash_keeps_the_sides_that_crop_cuts_off() -> None:
    image = np.zeros((100, 400, 3), np.uint8)
    image[:, 300:] = 255
    assert prepare(image, "crop", 64).max() == 0
    assert prepare(image, "squash", 64)[0, [0, 40, 55, 63], 0].tolist() == [0, 0, 255, 255]


def test_nearest_makes_no_new_colours() -> None:
    image = RNG.choice(np.array([0, 90, 255], np.uint8), (77, 130, 3))
    assert set(np.unique(prepare(image, "crop", 64, nearest=True))) <= {0, 90, 255}


@pytest.mark.parametrize("preset", PRESETS)
def test_one_pixel_fills_the_square(preset: str) -> None:
    image = decode_image(encoded(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"))
    np.testing.assert_array_equal(prepare(image, preset, 256), np.full((256, 256, 3), (9, 8, 7), np.uint8))


def test_a_very_narrow_picture_builds_no_giant() -> None:
    """Resizing the whole of it would take 256 x 16,000,000 pixels."""
    strip = np.zeros((1, 62_500, 3), np.uint8)
    assert prepare(strip, "crop", 256).shape == (256, 256, 3)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'squash'"):
        prepare(SMOOTH, "squsah", 64)
