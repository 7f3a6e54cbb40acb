"""Makes the README's pictures from a finished demo: `python docs/pictures.py demo-output` (needs chromium)."""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

HERE = Path(__file__).parent
TASKS = ("clips", "edge", "depth", "colorization", "inpainting")
WIDTH = 1100  # pixels
COLUMNS = 3  # in which the report is laid out, to show all of it at once


def sentences(demo: Path) -> Image.Image:
    """Returns two visual sentences of each task, a task on each line."""
    sheets = []
    with tempfile.TemporaryDirectory() as folder:
        for task in TASKS:
            for seed in (1, 2):
                sheet = Path(folder) / f"{task}-{seed}.png"
                subprocess.run(
                    [sys.executable, "-m", "visent", "show", str(demo / "manifest.toml"), "--stage", "sequences",
                     "--task", task, "--count", "1", "--seed", str(seed), "--out", str(sheet)],
                    check=True, capture_output=True,
                )  # fmt: skip
                picture = Image.open(sheet).convert("RGB")
                sheets.append(picture.crop((0, 22, picture.width, picture.height)))  # without the sheet's title
    width, height = max(s.width for s in sheets), sheets[0].height
    table = Image.new("RGB", (2 * width, len(TASKS) * height), "white")
    for number, sheet in enumerate(sheets):
        table.paste(sheet, (number % 2 * width, number // 2 * height))
    return table


def photograph(report: Path) -> Image.Image:
    """Returns the whole report as a browser shows it, in columns."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--no-first-run",
             f"--user-data-dir={folder}/profile", "--window-size=1200,16000", f"--screenshot={shot}",
             report.resolve().as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip
        page = Image.open(shot).convert("RGB")
    _, _, _, end = ImageChops.difference(page, Image.new("RGB", page.size, "white")).getbbox() or (0, 0, 0, page.height)
    height = -(-end // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * page.width, height), "white")
    for column in range(COLUMNS):
        sheet.paste(page.crop((0, column * height, page.width, (column + 1) * height)), (column * page.width, 0))
    return sheet


def save(picture: Image.Image, name: str) -> None:
    """Writes a picture at the README's width."""
    height = round(picture.height * WIDTH / picture.width)
    small = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    small.save(HERE / name, quality=88, optimize=True)
    print(HERE / name)


if __name__ == "__main__":
    demo = Path(sys.argv[1])
    save(sentences(demo), "demo.jpg")
    save(photograph(demo / "report.html"), "report.jpg")
