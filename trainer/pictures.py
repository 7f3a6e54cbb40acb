"""Strips that show a prompt, what was generated, and the truth, side by side, and sheets of many strips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from manifests import files

GAP = 4  # pixels between images
GROUP_GAP = 20  # between prompt, generated and truth
LABEL = 18  # height of a line of text
MOST_IN_ROW = 8  # images; with more, the truth goes below
THUMBNAIL = 128  # pixels at most of an image on a sheet
SHEET_WIDTH = 2240  # 16 thumbnails; only a longer strip makes a sheet wider
_PAPER, _INK = (255, 255, 255), (40, 40, 40)

Images = UInt8[np.ndarray, "_ s s 3"]


def strip(
    prompt: Images, generated: Images, truth: Images | None, labels: Sequence[str] = (), title: str = "",
    ceiling: Images | None = None,
) -> Image.Image:  # fmt: skip
    """Draws the groups that are not empty, each with a heading; `labels` name the images of prompt and generated.

    All in one row where they fit, else the truth in a second row, each image of it under the generated one, and the
    `ceiling`, the truth through the tokenizer, in a third.
    """
    groups = [("prompt", prompt), ("generated", generated)]
    rows = [[group for group in groups if len(group[1])]]
    known = [(name, images) for name, images in (("truth", truth), ("ceiling", ceiling)) if images is not None]
    others = [group for group in known if len(group[1])]
    if len(prompt) + (1 + len(others)) * len(generated) <= MOST_IN_ROW:
        rows[0] += others
    else:
        rows += [[group] for group in others]
    size = generated.shape[1]
    width = max(*(_width(row, size) for row in rows), int(_font().getlength(title)) + 2 * GAP)
    height = LABEL + len(rows) * (2 * LABEL + size + GAP)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 3), title, _INK, _font())
    for number, row in enumerate(rows):
        left = GAP + (max(_width(r, size) for r in rows) - _width(row, size))  # a second row ends where the first does
        _draw_row(sheet, draw, row, left, LABEL + number * (2 * LABEL + size + GAP), labels, len(prompt))
    return sheet


def thumbnails(images: Images) -> UInt8[np.ndarray, "_ small small 3"]:
    """Returns images at most `THUMBNAIL` pixels wide, by whole pixels' averages."""
    by = -(-images.shape[1] // THUMBNAIL)
    small = [np.asarray(Image.fromarray(image).reduce(by)) for image in images]
    return np.stack(small) if small else images[:, ::by, ::by]


def sheet(strips: Sequence[Image.Image], title: str) -> Image.Image:
    """Lays strips out in reading order, as many in a row as fit."""
    width = max(SHEET_WIDTH, *(strip.width for strip in strips))
    places, left, top, bottom = [], 0, 2 * LABEL, 2 * LABEL
    for strip in strips:
        if left + strip.width > width:
            left, top = 0, bottom
        places.append((left, top))
        left, bottom = left + strip.width + GROUP_GAP, max(bottom, top + strip.height + GROUP_GAP)
    used = max(x + strip.width for (x, _), strip in zip(places, strips, strict=True))
    made = Image.new("RGB", (max(used, int(_font(bold=True).getlength(title)) + 2 * GAP), bottom), _PAPER)
    ImageDraw.Draw(made).text((GAP, GAP), title, _INK, _font(bold=True))
    for place, strip in zip(places, strips, strict=True):
        made.paste(strip, place)
    return made


def grid(columns: Sequence[tuple[str, Images]], title: str) -> Image.Image:
    """Draws a row for each sample and a column for each list of images, which are thumbnails, under its name."""
    small = [thumbnails(images) for _, images in columns]
    size = small[0].shape[1]
    widths = [max(size, int(_font().getlength(name))) + GAP for name, _ in columns]
    made = Image.new("RGB", (sum(widths) + GAP, 3 * LABEL + max(map(len, small)) * (size + GAP)), _PAPER)
    draw, left = ImageDraw.Draw(made), GAP
    draw.text((GAP, GAP), title, _INK, _font(bold=True))
    for (name, _), images, width in zip(columns, small, widths, strict=True):
        draw.text((left, 2 * LABEL - GAP), name, _INK, _font())
        for number, image in enumerate(images):
            made.paste(Image.fromarray(image), (left, 3 * LABEL + number * (size + GAP)))
        left += width
    return made


def _width(row: list[tuple[str, Images]], size: int) -> int:
    return sum(_group_width(*group, size) for group in row) + GROUP_GAP * (len(row) - 1) + GAP


def _group_width(name: str, images: Images, size: int) -> int:
    """Returns the width of images side by side, or of their heading where that is longer."""
    return max(len(images) * (size + GAP), int(_font(bold=True).getlength(name)) + GAP)


def _draw_row(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    row: list[tuple[str, Images]],
    left: int,
    top: int,
    labels: Sequence[str],
    prompt_images: int,
) -> None:
    for name, images in row:
        draw.text((left, top), name, _INK, _font(bold=True))
        first = 0 if name == "prompt" else prompt_images
        for i, image in enumerate(images):
            at = left + i * (image.shape[0] + GAP)
            if first + i < len(labels):
                draw.text((at, top + LABEL - 2), labels[first + i], _INK, _font())
            sheet.paste(Image.fromarray(np.asarray(image)), (at, top + 2 * LABEL - 2))
        left += _group_width(name, images, images.shape[1]) + GROUP_GAP


def _font(*, bold: bool = False) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(14 if bold else 12)


def save(picture: Image.Image, path: str | Path) -> None:
    """Writes a PNG, never half of one.

    Raises:
        UserError: it cannot be written.
    """
    with files.writing(path) as temporary:
        picture.save(temporary, format="PNG")
