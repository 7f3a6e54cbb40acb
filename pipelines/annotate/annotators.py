"""The annotators by name. To add one: write a module with `draw(image, key)` and name it here."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pipelines.annotate import edge, gray, holes
from visent.errors import UserError, unknown

Annotator = Callable[[Any, str], Any]  # (uint8[h w 3], key of the example) -> uint8[h w 3], of the same size
ANNOTATORS: Mapping[str, Annotator] = MappingProxyType({"edge": edge.draw, "gray": gray.draw, "holes": holes.draw})


def checked_annotators(names: Sequence[str], roles: Sequence[str]) -> tuple[str, ...]:
    """Returns the names as a tuple after checking that each exists, comes once and is no role of the source.

    Raises: `UserError` otherwise.
    """
    for name in names:
        if name not in ANNOTATORS:
            raise unknown("annotator", name, ANNOTATORS)
        if name in roles or list(names).count(name) > 1:
            raise UserError(f"role {name!r} would exist twice; leave it out of --annotate")
    return tuple(names)
