"""Writes one HTML page out of headings, pictures and tables; nothing in it points outside its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-top: 1px solid #ddd; padding-top: 1rem; }
img { max-width: 100%; image-rendering: auto; } figure { margin: 1rem 0; } figcaption { color: #555; }
table { border-collapse: collapse; } th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: left; }
pre { overflow-x: auto; background: #f6f6f6; padding: 1rem; font-size: 13px; line-height: 1.25; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
"""


@dataclass
class Page:
    """A page under construction: pictures and tables are added in reading order."""

    title: str
    parts: list[str] = field(default_factory=list)

    def heading(self, text: str, lead: str = "") -> None:
        """Starts a section; `lead` is the sentence under its heading."""
        self.parts.append(f"<h2>{escape(text)}</h2>")
        if lead:
            self.text(lead)

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        self.parts.append(f"<p>{escape(text)}</p>")

    def picture(self, file: str, caption: str) -> None:
        """Adds a picture; `file` is relative to the page."""
        alt = escape(caption, quote=True)
        source = escape(file, quote=True)
        self.parts.append(
            f'<figure><img src="{source}" alt="{alt}"><figcaption>{escape(caption)}</figcaption></figure>'
        )

    def link(self, file: str, text: str) -> None:
        """Adds a link to a file; `file` is relative to the page."""
        self.parts.append(f'<p><a href="{escape(file, quote=True)}">{escape(text)}</a></p>')

    def output(self, text: str) -> None:
        """Adds what a command printed, as it stands."""
        self.parts.append(f"<pre>{escape(text)}</pre>")

    def table(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Adds a table; the first row's keys are its columns, and numbers are set to the right."""
        if not rows:
            self.text("Nothing to list.")
            return
        head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
        body = "".join("<tr>" + "".join(_cell(row.get(name, "")) for name in rows[0]) + "</tr>" for row in rows)
        self.parts.append(f"<table><tr>{head}</tr>{body}</table>")

    def write(self, path: Path) -> Path:
        """Writes the page and returns its path."""
        title = escape(self.title)
        path.write_text(
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n" + "\n".join(self.parts) + "\n</body></html>\n",
            encoding="utf-8",
        )
        return path


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{escape(str(value))}</td>"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
    return f'<td class="number">{text}</td>'
