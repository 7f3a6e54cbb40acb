"""Contact sheets of round trips: what went in above what came out."""

import heapq
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from tokenizer.listing import ImageFile, name_hash, readable
from tokenizer.output import whole

GAP, CAPTION = 4, 14  # pixels


class Sheet:
    """Collects the round trips of a sample: those whose file name has the lowest hash, whatever the set's order."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[tuple[int, int, Sequence[np.ndarray], str]] = []  # a heap, the highest hash first
        self._added = 0

    def add(self, file: ImageFile, stack: Sequence[UInt8[np.ndarray, "s s 3"]], caption: str) -> None:
        """Offers a stack of pictures, with its caption, to the sample."""
        self._added += 1
        item = (-name_hash(file), self._added, stack, f"{readable(file.name)}  {caption}")
        if len(self._kept) < self._count:
            heapq.heappush(self._kept, item)
        else:
            heapq.heappushpop(self._kept, item)

    def save(self, path: Path) -> None:
        """Writes the sheet as PNG.

        Raises:
            UserError: it cannot be written.
        """
        kept = sorted(self._kept, key=lambda item: item[1])
        sheet = draw_stacks([stack for _, _, stack, _ in kept], [caption for *_, caption in kept])
        with whole(path) as temporary:
            sheet.save(temporary, "PNG")


def draw_stacks(
    stacks: Sequence[Sequence[UInt8[np.ndarray, "s s 3"]]], captions: Sequence[str], columns: int = 8
) -> Image.Image:
    """Draws stacks of pictures of one size, each stack from top to bottom with its caption below."""
    side, depth = stacks[0][0].shape[0], len(stacks[0])
    columns = max(1, min(columns, len(stacks)))
    height = depth * side + CAPTION + GAP
    sheet = Image.new("RGB", (columns * (side + GAP), -(-len(stacks) // columns) * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for i, (stack, caption) in enumerate(zip(stacks, captions, strict=True)):
        x, y = i % columns * (side + GAP), i // columns * height
        for row, picture in enumerate(stack):
            sheet.paste(Image.fromarray(picture), (x, y + row * side))
        pen.text((x + 2, y + depth * side + 1), _fitted(caption, side - 4, font), fill="black", font=font)
    return sheet


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Cuts the front of a text that is too long: names differ at their end."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text
