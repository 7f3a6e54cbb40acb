"""Many different JPEG files out of a few photos, for benchmarks that need volume."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = {
    "skimage": ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png"),
    "sklearn": ("china.jpg", "flower.jpg"),
}
FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}  # inside the installed modules
SHORT, LONG = 288, 512  # range of the sides in pixels: what img2dataset leaves of web pictures


def write_pictures(folder: Path, count: int, *, per_folder: int = 1000) -> None:
    """Writes `count` JPEG files: crops of the demo's photos at random places and sizes; the same each time."""
    originals = [Image.open(path).convert("RGB") for path in photos()]
    random = np.random.default_rng(0)
    for number in range(count):
        photo = originals[number % len(originals)]
        width, height = (int(side) for side in random.integers(SHORT, LONG, 2, endpoint=True))
        scale = random.uniform(0.4, 1.0) * min(photo.width / width, photo.height / height)
        left = random.uniform(0, photo.width - width * scale)
        top = random.uniform(0, photo.height - height * scale)
        box = (left, top, left + width * scale, top + height * scale)
        picture = photo.resize((width, height), Image.Resampling.BILINEAR, box=box)
        if random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        path = folder / f"{number // per_folder:04d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=90)


def photos() -> list[Path]:
    """Returns the photos' files.

    Raises: `SystemExit` when a package that ships them is missing.
    """
    paths = []
    for module, names in PHOTOS.items():
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit(f"{module} is missing: install the [demo] extra")
        paths += [Path(next(iter(spec.submodule_search_locations))) / FOLDERS[module] / name for name in names]
    return paths
