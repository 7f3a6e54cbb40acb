"""Makes the README's pictures from a finished demo: `python docs/pictures.py demo-output` (needs chromium)."""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
STRIPS = ("edge/edge-000.png", "colorization/colorization-000.png", "inpainting/inpainting-000.png",
          "depth/depth-000.png", "clips/clips-000.png")  # fmt: skip
WIDTH = 1000  # pixels
REPORT_HEIGHT = 4200  # pixels of the report that are photographed


def stack(generated: Path) -> Image.Image:
    """Returns one generated strip of each task, one below the other."""
    strips = [Image.open(generated / name).convert("RGB") for name in STRIPS]
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def photograph(report: Path) -> Image.Image:
    """Returns the top of the report as a browser shows it, in two columns."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--no-first-run",
             f"--user-data-dir={folder}/profile", f"--window-size=1200,{REPORT_HEIGHT}", f"--screenshot={shot}",
             report.resolve().as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip
        page = Image.open(shot).convert("RGB")
    half = page.height // 2
    sheet = Image.new("RGB", (2 * page.width, half), "white")
    sheet.paste(page.crop((0, 0, page.width, half)), (0, 0))
    sheet.paste(page.crop((0, half, page.width, 2 * half)), (page.width, 0))
    return sheet


def save(picture: Image.Image, name: str) -> None:
    """Writes a picture at the README's width, in few colours."""
    height = round(picture.height * WIDTH / picture.width)
    small = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    small.quantize(192).save(HERE / name, optimize=True)
    print(HERE / name)


if __name__ == "__main__":
    demo = Path(sys.argv[1])
    save(stack(demo / "generated"), "demo.png")
    save(photograph(demo / "report.html"), "report.png")
