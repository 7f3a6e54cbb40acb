"""What the views of an example may be, and the geometry of each: DeLVM's augmentation, one for all roles."""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pipelines.geometry import Geometry
from pipelines.seeds import generator
from tokenizer.images import PRESETS
from visent.errors import UserError, unknown

LARGEST_ASPECT = 20  # a strip longer than this would be mostly outside of any view, and huge when scaled
DEFAULT = "crop,hflip"


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may differ between a view and the original; at most one of `crop_area`, `window` and `six_crops` places it.

    Without any of these a view shows what the original does, or the largest square inside it that stays full when
    turned. All draws are uniform.
    """

    crop_area: tuple[float, float] | None = None  # of the largest square; random resized crop (DeLVM)
    window: int | None = None  # side in pixels of a random square of the picture, which is then scaled
    six_crops: int | None = None  # side in pixels: views 1 to 6 are DeLVM's SixCrop of SA-1B
    flip: float = 0.0  # probability of mirroring left and right
    vflip: float = 0.0  # and top and bottom
    turn: bool = False  # by a number of quarters
    rotate: float = 0.0  # by an angle of up to so many degrees either way

    def __post_init__(self) -> None:
        placing = [self.crop_area is not None, self.window is not None, self.six_crops is not None]
        if sum(placing) > 1:
            raise UserError("--augment takes one of crop, resize-crop and six-crops; each says where a view lies")
        if self.crop_area and not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise UserError(f"--augment crop={self.crop_area[0]:g}; expected the smallest area, above 0 and at most 1")
        if not 0 <= self.rotate <= 180:
            raise UserError(f"--augment rotate={self.rotate:g}; expected degrees up to 180")
        if any(side is not None and side < 1 for side in (self.window, self.six_crops)):
            raise UserError("--augment resize-crop and six-crops take the side of a square in pixels, 1 or more")
        if self.six_crops and self.rotate:
            raise UserError("--augment six-crops,rotate: a turned square leaves the corner where its crop belongs; "
                            "use turn for quarter turns, or resize-crop")  # fmt: skip

    @property
    def most_views(self) -> int | None:
        """How many views there can be, the original included; None when there is no end of them."""
        return 7 if self.six_crops else None

    def check_views(self, views: int) -> None:
        """Refuses more views than there can be.

        Raises: `UserError`.
        """
        if self.most_views is not None and views > self.most_views:
            raise UserError(
                f"{views} views are wanted, but six-crops gives the original and six crops of it: "
                f"set views to {self.most_views} or less, or tokenize again with another --augment"
            )

    def to_json(self) -> dict[str, Any]:
        """Returns what is set, as it stands in a dataset's configuration."""
        used = {name: value for name, value in asdict(self).items() if value}
        return {**used, **({"crop_area": list(self.crop_area)} if self.crop_area else {}), "version": 1}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Augmentation":
        """Reads what `to_json` wrote."""
        fields = {name: setting for name, setting in value.items() if name != "version"}
        return cls(**{**fields, **({"crop_area": tuple(value["crop_area"])} if "crop_area" in value else {})})


# name -> (its number when none is given, what it sets)
_NAMES: Mapping[str, tuple[int | float | None, Callable[[Any], dict[str, Any]]]] = {
    "crop": (0.5, lambda smallest: {"crop_area": (smallest, 1.0)}),
    "resize-crop": (400, lambda side: {"window": side}),  # DeLVM's RandomCrop(400)
    "six-crops": (800, lambda side: {"six_crops": side}),
    "hflip": (None, lambda _: {"flip": 0.5}),
    "vflip": (None, lambda _: {"vflip": 0.5}),
    "turn": (None, lambda _: {"turn": True}),
    "rotate": (180.0, lambda degrees: {"rotate": degrees}),
}


def parse(text: str) -> Augmentation:
    """Reads the names of --augment, some with a number: `crop=0.3,hflip,rotate=15`.

    Raises:
        UserError: no such name, or a number that is none.
    """
    fields: dict[str, Any] = {}
    for part in (part.strip() for part in text.split(",") if part.strip()):
        name, equals, number = part.partition("=")
        if name not in _NAMES:
            raise unknown("augmentation", name, _NAMES)
        value, sets = _NAMES[name]
        if equals:
            value = _number(part, number, value)
        fields |= sets(value)
    if not fields:
        raise UserError(f"--augment names nothing; give some of {', '.join(_NAMES)}")
    return Augmentation(**fields)


def _number(part: str, number: str, default: int | float | None) -> int | float:
    """Reads a number of the kind of the default: whole or not.

    Raises: `UserError` when it is none, or the name takes none.
    """
    with contextlib.suppress(ValueError):
        if default is not None and math.isfinite(value := type(default)(number)):
            return value
    name = part.partition("=")[0]
    raise UserError(f"--augment {part}: expected {name}{'' if default is None else f'={default:g}'}")


STANDARD = parse(DEFAULT)


def geometry(
    dataset: str,
    key: str,
    view: int,
    shape: tuple[int, int],
    preset: str,
    size: int,
    augmentation: Augmentation = STANDARD,
) -> Geometry:
    """Returns the geometry of a view of a picture of `shape` (height, width).

    View 0 is what `tokenizer.images.prepare` shows. A later view is a pure function of dataset, key and view.

    Raises:
        UserError: a view that the augmentation does not have.
    """
    squash = PRESETS[preset].resize == "squash"
    if view == 0:
        return _middle(shape, size, size, squash)
    augmentation.check_views(view + 1)
    random = generator(dataset, key, view)
    limit = augmentation.rotate
    angle = round(float(random.uniform(-limit, limit)), 2) if limit else 0.0
    shown = _placed(augmentation, random, view, shape, size, squash, angle)
    return replace(
        shown,
        angle=angle,
        flip=bool(augmentation.flip and random.random() < augmentation.flip),
        vflip=bool(augmentation.vflip and random.random() < augmentation.vflip),
        turn=int(random.integers(4)) if augmentation.turn else 0,
    )


def _placed(
    augmentation: Augmentation,
    random: np.random.Generator,
    view: int,
    shape: tuple[int, int],
    size: int,
    squash: bool,
    angle: float,
) -> Geometry:
    """Returns where a view lies. A square that is turned needs `around` times its side to stay inside the picture."""
    height, width = shape
    around = abs(math.cos(math.radians(angle))) + abs(math.sin(math.radians(angle)))
    if augmentation.window:
        side = min(augmentation.window, min(shape) / around)
        left, top = (_start(random, length, side, side * around) for length in (width, height))
        return _of_square(shape, left, top, side, size)
    if augmentation.six_crops:
        side = min(augmentation.six_crops, *shape)
        left, top = six_crops(width, height, side)[view - 1]
        return _of_square(shape, left, top, side, size)
    needed = size + 2 * math.ceil(size * (around - 1) / 2)  # of the short side, so that whole pixels are its middle
    if not augmentation.crop_area:
        return _middle(shape, max(size, needed), size, squash)
    short_side = max(round(size / random.uniform(*augmentation.crop_area) ** 0.5), needed)
    scaled = _scaled(shape, short_side, squash)
    left, top = (_start(random, length, size, size * around) for length in scaled)
    return Geometry(width=scaled[0], height=scaled[1], left=left, top=top, size=size)


def six_crops(width: int, height: int, side: int) -> list[tuple[int, int]]:
    """Returns left and top of DeLVM's SixCrop: the corners, and the middles of the long sides, in its order."""
    right, bottom = width - side, height - side
    if width >= height:
        middle = round(right / 2)
        return [(0, 0), (right, 0), (middle, 0), (0, bottom), (right, bottom), (middle, bottom)]
    middle = round(bottom / 2)
    return [(0, 0), (right, 0), (0, middle), (right, middle), (0, bottom), (right, bottom)]


def _scaled(shape: tuple[int, int], short_side: int, squash: bool) -> tuple[int, int]:
    height, width = shape
    short = min(shape)
    return (short_side, short_side) if squash else (short_side * width // short, short_side * height // short)


def _middle(shape: tuple[int, int], short_side: int, size: int, squash: bool) -> Geometry:
    width, height = _scaled(shape, short_side, squash)
    left, top = (round((side - size) / 2) for side in (width, height))
    return Geometry(width=width, height=height, left=left, top=top, size=size)


def _of_square(shape: tuple[int, int], left: int | float, top: int | float, side: int | float, size: int) -> Geometry:
    """Returns the geometry that shows a square given in pixels of the picture."""
    scale = size / side
    return Geometry(width=shape[1] * scale, height=shape[0] * scale, left=left * scale, top=top * scale, size=size)


def _start(random: np.random.Generator, length: int, side: int | float, reach: int | float) -> int | float:
    """Draws where a square of `side` begins on a length, so that `reach` about its middle fits; whole where it can."""
    first, last = math.ceil((reach - side) / 2), math.floor(length - (reach + side) / 2)
    return int(random.integers(first, last, endpoint=True)) if first <= last else (length - side) / 2
