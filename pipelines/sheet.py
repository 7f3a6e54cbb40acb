"""Contact sheets: lines of captioned pictures in one PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from manifests import files

TILE = 128  # pixels on each side of a picture
GAP = 4
TEXT = 14  # pixels of a line of text
PER_LINE = 16  # pictures before a line wraps
INK, PAPER = "#202020", "white"


@dataclass(frozen=True, kw_only=True)
class Line:
    """Pictures that belong together, each with a label below it."""

    caption: str
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]]
    labels: Sequence[str]


def draw(title: str, lines: Sequence[Line], path: str) -> str:
    """Writes the sheet and returns its path.

    Raises: `UserError` when the target cannot be written.
    """
    font = ImageFont.load_default(size=11)
    across = min(max((len(line.pictures) for line in lines), default=1), PER_LINE)
    heights = [_height(line) for line in lines]
    width = max(GAP + across * (TILE + GAP), 480)
    sheet = Image.new("RGB", (width, sum(heights) + TEXT + 3 * GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, GAP), title, fill=INK, font=ImageFont.load_default(size=13))
    top = TEXT + 3 * GAP
    for line, height in zip(lines, heights, strict=True):
        _line(sheet, pen, line, top, font)
        top += height
    files.make_folder(files.parent(path))
    with files.writing(path) as temporary:
        sheet.save(temporary, "PNG")
    return path


def _height(line: Line) -> int:
    rows = -(-len(line.pictures) // PER_LINE)
    return TEXT + rows * (TILE + TEXT + GAP) + 2 * GAP


def _line(sheet: Image.Image, pen: ImageDraw.ImageDraw, line: Line, top: int, font: Any) -> None:
    pen.text((GAP, top), line.caption, fill=INK, font=font)
    for n, (picture, label) in enumerate(zip(line.pictures, line.labels, strict=True)):
        x = GAP + n % PER_LINE * (TILE + GAP)
        y = top + TEXT + GAP + n // PER_LINE * (TILE + TEXT + GAP)
        sheet.paste(Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.BILINEAR), (x, y))
        pen.text((x, y + TILE), label, fill=INK, font=font)
