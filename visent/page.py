"""A page of HTML that needs no other file: text, tables, pictures and plots. Every text in it is escaped."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import UInt8
from PIL import Image

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c1f23; background: #fff; }
h1 { margin-bottom: .25rem; } h2 { margin-top: 2.5rem; border-top: 1px solid #d8dce2; padding-top: 1rem; }
p.lead, figcaption, .label { color: #59626e; } p { max-width: 52rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; }
.tile { border: 1px solid #d8dce2; border-radius: .5rem; padding: .5rem 1rem; min-width: 8rem; }
.tile b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .2rem .75rem; border-bottom: 1px solid #e3e6ea; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1rem 0; } .sheet { display: flex; flex-wrap: wrap; gap: 1rem; }
.row { border: 1px solid #d8dce2; border-radius: .5rem; padding: .5rem; }
.row .strip { display: flex; gap: 4px; flex-wrap: wrap; } .row img { width: 128px; display: block; margin-bottom: 2px; }
.row .key { max-width: 30rem; overflow-wrap: anywhere; } .label { font-size: 12px; }
figure img { max-width: 100%; }
svg { max-width: 100%; height: auto; background: #fff; border-radius: .5rem; }
pre { overflow-x: auto; background: #f4f5f7; padding: 1rem; font-size: 13px; color: #1c1f23; }
@media (prefers-color-scheme: dark) { body { color: #e4e7eb; background: #16181c; }
  h2, .tile, .row, th, td { border-color: #3a4048; } p.lead, figcaption, .label { color: #9aa4b1; } }
"""


class Page:
    """A page under construction: its parts stand in the order in which they are added."""

    def __init__(self, title: str, lead: str) -> None:
        self._title = escape(title)
        self._parts = [f"<h1>{self._title}</h1><p class='lead'>{escape(lead)}</p>"]

    def heading(self, text: str, lead: str = "") -> None:
        """Starts a section; `lead` is the sentence under its heading."""
        self._parts.append(f"<h2>{escape(text)}</h2>" + (f"<p class='lead'>{escape(lead)}</p>" if lead else ""))

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def tiles(self, values: Sequence[tuple[str, str]]) -> None:
        """Adds (name, value) pairs, the values in large letters."""
        inside = "".join(f"<div class='tile'>{escape(name)}<b>{escape(value)}</b></div>" for name, value in values)
        self._parts.append(f"<div class='tiles'>{inside}</div>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> None:
        """Adds a table; columns from `numbers_from` on are set to the right."""
        top = "".join(f"<th>{escape(name)}</th>" for name in head)
        body = "".join("<tr>" + "".join(_cell(text, at >= numbers_from) for at, text in enumerate(row)) + "</tr>"
                       for row in rows)  # fmt: skip
        self._parts.append(f"<div class='scroll'><table><tr>{top}</tr>{body}</table></div>")

    def plot(self, svg: str, caption: str) -> None:
        """Adds a drawing as SVG, which is taken as it is."""
        self._parts.append(f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>")

    def picture(self, png: bytes, caption: str) -> None:
        """Adds a picture as it is, a PNG."""
        where = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        alt = escape(caption, quote=True)
        self._parts.append(
            f"<figure class='scroll'><img alt='{alt}' src='{where}'><figcaption>{escape(caption)}</figcaption></figure>"
        )

    def sheet(self, cards: Sequence[tuple[str, Sequence[tuple[str, Sequence[UInt8[np.ndarray, "h w 3"]]]]]]) -> None:
        """Adds cards of (caption, columns); a column is a label and the pictures above it."""
        inside = "".join(
            f"<div class='row'><div class='strip'>{''.join(_column(*column) for column in columns)}</div>"
            f"<div class='key'>{escape(caption)}</div></div>"
            for caption, columns in cards
        )
        self._parts.append(f"<div class='sheet'>{inside}</div>")

    def details(self, summary: str, text: str) -> None:
        """Adds a text that is folded away."""
        self._parts.append(f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>")

    def html(self) -> str:
        """Returns the whole page."""
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{self._title}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>'
            + "\n".join(self._parts)
            + "\n</body></html>\n"
        )


def _cell(text: str, number: bool) -> str:
    return f"<td class='number'>{escape(text)}</td>" if number else f"<td>{escape(text)}</td>"


def _column(label: str, pictures: Sequence[UInt8[np.ndarray, "h w 3"]]) -> str:
    inside = "".join(f"<img alt='{escape(label, quote=True)}' src='{_data(picture)}'>" for picture in pictures)
    return f"<div>{inside}<span class='label'>{escape(label)}</span></div>"


def _data(picture: UInt8[np.ndarray, "h w 3"]) -> str:
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}"
