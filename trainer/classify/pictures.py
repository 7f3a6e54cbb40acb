"""Pictures sorted into folders by class, as batches of pixels and class numbers: a pure function of (seed, step)."""

import functools
import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64, UInt8
from PIL import Image

from manifests.order import key_of
from tokenizer import images
from trainer.classify.config import ClassifyConfig
from visent.errors import UserError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VAL_LIST = "val.txt"  # ImageNet's: a line for each picture of a flat val/, its name and the number of its class
_RATIOS = (3 / 4, 4 / 3)  # of a random crop's sides
_TRIES = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """One split: files below `root`, and the class of each."""

    root: Path
    names: tuple[str, ...]
    labels: Int32[np.ndarray, " n"]
    classes: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """Which files there are, of which classes; not what they hold."""
        lines = "".join(f"{name}\0{label}\n" for name, label in zip(self.names, self.labels.tolist(), strict=True))
        return hashlib.sha256("\0".join((*self.classes, lines)).encode()).hexdigest()

    def numbers(self, step: int, batch: int, seed: int) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
        """Returns which pictures a step reads, and the epoch of each: in an epoch every one once, in a drawn order."""
        at = np.arange(step * batch, (step + 1) * batch)
        epochs = at // len(self.names)
        found = np.empty(batch, np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            found[here] = _order(len(self.names), seed, epoch)[at[here] % len(self.names)]
        return found, epochs

    def middles(
        self, numbers: Iterable[int], config: ClassifyConfig, pool: ThreadPoolExecutor
    ) -> UInt8[np.ndarray, "b s s 3"]:
        """Returns the middle square of pictures.

        Raises:
            UserError: a file is no usable picture.
        """
        made = pool.map(
            lambda n: images.prepare(_decode(self.root / self.names[n]), "crop", config.image_size), numbers
        )
        return np.stack(list(made))

    def crops(
        self, numbers: Iterable[int], epochs: Iterable[int], config: ClassifyConfig, pool: ThreadPoolExecutor, seed: int
    ) -> UInt8[np.ndarray, "b s s 3"]:
        """Returns random crops, drawn by name, epoch and seed.

        Raises:
            UserError: a file is no usable picture.
        """

        def crop(number: int, epoch: int) -> UInt8[np.ndarray, "s s 3"]:
            name = self.names[number]
            return random_crop(_decode(self.root / name), config, np.random.default_rng(key_of(name, seed, epoch)))

        return np.stack(list(pool.map(crop, numbers, epochs)))


def pool_of(config: ClassifyConfig) -> ThreadPoolExecutor:
    """Returns the threads that decode pictures."""
    return ThreadPoolExecutor(config.reading_threads or os.cpu_count() or 1, thread_name_prefix="pictures")


def find(root: Path, split: str, classes: tuple[str, ...] | None = None) -> Pictures:
    """Lists `root/split/<class>/<picture>`; of `val` also a flat folder with `val.txt` beside it.

    `classes` are those of the training split, in the order of their numbers; None takes the folders' names, sorted.

    Raises:
        UserError: there is no such folder, it has no pictures, or a class that training lacks.
    """
    folder = root / split
    if not folder.is_dir():
        raise UserError(f"{folder} is missing: expected pictures in {folder}/<class>/")
    found = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if not found and classes and (root / VAL_LIST).is_file():
        return _listed(root, classes)
    names = classes or tuple(found)
    if extra := sorted(set(found) - set(names)):
        raise UserError(f"{folder / extra[0]} is a class that {root / 'train'} lacks: use the same folders in both")
    files, labels = [], []
    for label, name in enumerate(names):
        here = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in ENDINGS)
        files += [path.relative_to(root).as_posix() for path in here]
        labels += [label] * len(here)
    if not files:
        raise UserError(f"{folder} has no pictures: expected <class>/<picture> in it, ending in {', '.join(ENDINGS)}")
    return Pictures(root=root, names=tuple(files), labels=np.array(labels, np.int32), classes=names)


def _listed(root: Path, classes: tuple[str, ...]) -> Pictures:
    """Reads ImageNet's list, of numbers of the classes in their sorted order; pictures that are absent are left out."""
    pairs = [line.split() for line in (root / VAL_LIST).read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(pair) != 2 or not pair[1].isdigit() for pair in pairs):
        raise UserError(f"{root / VAL_LIST}: expected lines of a picture's name and the number of its class")
    there = [(f"val/{name}", int(label)) for name, label in pairs if (root / "val" / name).is_file()]
    wrong = [label for _, label in there if label >= len(classes)]
    if wrong or not there:
        raise UserError(
            f"{root / VAL_LIST} has "
            + (f"class {wrong[0]}" if wrong else "no picture of val/")
            + f": expected numbers below {len(classes)}, the classes of {root / 'train'}, of pictures in {root / 'val'}"
        )
    names, labels = zip(*there, strict=True)
    return Pictures(root=root, names=names, labels=np.array(labels, np.int32), classes=classes)


@functools.lru_cache(2)
def _order(count: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    return np.random.default_rng(key_of("classify", seed, epoch)).permutation(count)


def _decode(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    try:
        return images.decode_image(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except images.ImageError as error:
        raise UserError(f"{path} is no usable picture ({error}): remove it, and begin again") from error


def random_crop(
    pixels: UInt8[np.ndarray, "h w 3"], config: ClassifyConfig, random: np.random.Generator
) -> UInt8[np.ndarray, "s s 3"]:
    """Returns a random part, resized to a square and mirrored half of the time (Szegedy et al. 2015, section 6)."""
    height, width = pixels.shape[:2]
    box: tuple[float, float, float, float] = (0, 0, width, height)
    for _ in range(_TRIES):
        area = height * width * random.uniform(config.smallest_crop, 1)
        ratio = float(np.exp(random.uniform(*np.log(_RATIOS))))
        w, h = (area * ratio) ** 0.5, (area / ratio) ** 0.5
        if w <= width and h <= height:
            left, top = random.uniform(0, width - w), random.uniform(0, height - h)
            box = (left, top, left + w, top + h)
            break
    size = (config.image_size, config.image_size)
    made = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=box))
    return made[:, ::-1] if random.random() < 0.5 else made
