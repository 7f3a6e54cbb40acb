"""Which colours stand for which classes in maps that are painted here, as figures such as mIoU read them."""

from collections.abc import Container, Mapping, Sequence

from jaxtyping import UInt8
from numpy import ndarray

from manifests.legend import Colour, Legend
from pipelines.render.palettes import voc


def legend(
    palette: UInt8[ndarray, "k 3"] | Mapping[int, Colour],
    ignored: Container[int] = (),
    names: Sequence[str] | Mapping[int, str] = (),
) -> Legend:
    """Returns the legend of a palette whose rows, or keys, are class ids; `names` are all ids'.

    Where publishers gave two classes one colour, pixels of both read as the lower id, so the other one is left out.
    """
    rows = palette.items() if isinstance(palette, Mapping) else enumerate(palette.tolist())
    by_colour: dict[Colour, int] = {}
    for number, (red, green, blue) in sorted(rows):
        by_colour.setdefault((red, green, blue), number)
    ids = tuple(by_colour.values())
    return Legend(
        ids=ids, colours=tuple(by_colour), names=tuple(names[number] for number in ids) if names else (),
        ignored=tuple(number for number in ids if number in ignored),
    )  # fmt: skip


def any_labels() -> Legend:
    """Returns the legend of maps whose classes only the user knows, painted in VOC's 256 colours."""
    return legend(voc())
