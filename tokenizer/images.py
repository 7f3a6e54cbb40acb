"""Bytes to pixels: decoding by content, one reason for each unusable file, and the presets that make a square."""

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from visent.errors import unknown

MAX_PIXELS = 100_000_000  # a decompression bomb is refused by its header; the largest cameras stay below
MAX_SCANS = 100  # of a JPEG; a progressive one has about 10, and a kilobyte can ask for an hour with thousands
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS decides
Image.init()  # all of Pillow's formats; `open` with a list of them loads none by itself
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_SIGNS_OF_A_CUT = ("truncated", "incomplete", "too short")
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


class ImageError(ValueError):
    """A picture that cannot be used; `reason` is a short stable code that rejects are counted by.

    Reasons: empty, not-an-image, truncated, damaged, too-large, animated, unsupported-mode, not-labels.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes a still picture to 8-bit RGB, upright.

    The format is found by content, never by name. The EXIF rotation is applied. Grey, palette and CMYK become RGB,
    16-bit grey is scaled to 8 bit, transparent parts are laid over white. Colour profiles are not applied. Of a
    camera's multi-picture JPEG (MPO) the first picture is the photo; other files of several frames are refused. The
    array may be read only, as no copy is made of what Pillow gives.

    Raises:
        ImageError: the file gives no correct picture; `reason` says why.
    """
    image = open_still(data, max_pixels)
    try:
        return np.asarray(_to_rgb(upright(image)))
    except ImageError:
        raise
    except Exception as error:  # Pillow's converters raise many types on damaged palettes and tables
        raise ImageError("damaged", str(error)) from error


def decode_labels(data: bytes, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]:
    """Decodes a label map: palette indices, 8-bit or 16-bit grey values, unchanged, upright.

    Raises:
        ImageError: the file is no image (see `decode_image`) or holds colours instead of labels.
    """
    image = open_still(data, max_pixels)
    if image.mode not in ("1", "L", "P", *_SIXTEEN_BIT):
        raise ImageError("not-labels", f"mode {image.mode}, expected one channel of labels (palette, 8 or 16 bit grey)")
    values = np.array(upright(image))
    return values.astype(np.uint16 if image.mode in _SIXTEEN_BIT else np.uint8)


def open_still(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens and fully loads one still picture.

    Raises:
        ImageError: every failure.
    """
    if not data:
        raise ImageError("empty", "the file has no bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError("not-an-image", f"not one of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError("too-large", str(error)) from error
    except Exception as error:  # a parser's error on a broken header may be of any type
        raise ImageError("damaged", str(error)) from error
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS:
        raise ImageError("damaged", f"over {MAX_SCANS} scans, each over the whole picture")
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError("too-large", f"{width} x {height} pixels, more than {max_pixels}")
    try:
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
        if not animated:
            image.load()
    except Exception as error:  # as above; only the text of Pillow's error tells that a file was cut
        cut = isinstance(error, EOFError) or any(word in str(error) for word in _SIGNS_OF_A_CUT)
        raise ImageError("truncated" if cut else "damaged", str(error)) from error
    if animated:
        raise ImageError("animated", f"a {image.format} file of several frames; a still picture is expected")
    return image


def upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF rotation; the format stays known."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return image  # `exif_transpose` would copy it
    turned = ImageOps.exif_transpose(image)
    assert turned is not None  # only in_place=True returns None
    turned.format = image.format
    return turned


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT or (image.mode == "I" and image.format == "PPM"):
        values = np.asarray(image).astype(np.uint32)  # 0..65535; 65535 / 255 = 257
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError("unsupported-mode", f"mode {image.mode} has no known range of brightness")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


@dataclass(frozen=True)
class Preset:
    """How a picture becomes the square that a tokenizer reads."""

    name: str
    resize: Literal["crop", "squash"]
    about: str


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "crop": Preset("crop", "crop", "short side to size, bilinear, antialias, centre crop (open-muse, LVM-Lite)"),
        "squash": Preset("squash", "squash", "both sides to size, bilinear, antialias (LVM)"),
    }
)


def prepare(
    image: UInt8[np.ndarray, "h w 3"], preset: str, size: int, *, nearest: bool = False
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Turns a picture into the `size` x `size` square of a preset; `nearest` keeps the colours of masks exact.

    Raises:
        UserError: there is no such preset.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    height, width = image.shape[:2]
    box = (0.0, 0.0, float(width), float(height))
    if PRESETS[preset].resize == "crop":
        box = _centre_box(width, height, size)
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    return np.array(Image.fromarray(image).resize((size, size), method, box=box))


def _centre_box(width: int, height: int, size: int) -> tuple[float, float, float, float]:
    """Returns the part of the picture that resizing the short side to `size` and cropping the centre would keep.

    The rounding is torchvision's: the long side is cut to whole pixels, the margin rounded. Resizing this box alone
    gives the same pixels and never builds the long strip that a very narrow picture would become.
    """
    short = min(width, height)
    scaled = [size * side // short for side in (width, height)]
    left, top = (round((side - size) / 2) for side in scaled)
    x, y = width / scaled[0], height / scaled[1]
    return left * x, top * y, (left + size) * x, (top + size) * y
