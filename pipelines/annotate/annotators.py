"""The annotators by name. To add one: a module of that name in this folder, and the name here."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from pipelines.sources import places
from visent.errors import UserError, unknown

Drawing = Callable[[Any, str], Any]  # (uint8[h w 3], key of the example) -> uint8[h w 3], of the same size
DRAWN = ("edge", "gray", "holes", "bottom", "rain", "noise")  # modules with `draw`, a Drawing
NETWORKS = ("hed", "pose", "person", "brighten")  # modules with `FILES` and `load`, see networks.py


def drawing(name: str) -> Drawing:
    """Returns the function of an annotator that needs no network."""
    found: Drawing = importlib.import_module(f"pipelines.annotate.{name}").draw
    return found


def role(annotator: str) -> str:
    """Returns the role that an annotator draws: of "depth=model.toml" it is "depth", of "edge" it is "edge"."""
    return annotator.partition("=")[0]


def model(annotator: str) -> str:
    """Returns the path in "depth=model.toml", and "" for an annotator that has a name of its own."""
    return annotator.partition("=")[2]


def checked_annotators(annotators: Sequence[str], roles: Sequence[str]) -> tuple[str, ...]:
    """Returns the annotators after checking that each exists, comes once and is no role of the source.

    Each is a name, or ROLE=FILE.toml for an ONNX model; the file's path becomes absolute, a URL stays.

    Raises: `UserError` otherwise.
    """
    drawn = [role(annotator) for annotator in annotators]
    for annotator, name in zip(annotators, drawn, strict=True):
        if "=" in annotator and not (name.isidentifier() and model(annotator).endswith(".toml")):
            raise UserError(
                f"annotator {annotator!r}: expected ROLE=FILE.toml, where the TOML file stands beside the ONNX model"
            )
        if "=" not in annotator and name not in (*DRAWN, *NETWORKS):
            raise unknown("annotator", name, (*DRAWN, *NETWORKS, "ROLE=FILE.toml"))
        if name in roles or drawn.count(name) > 1:
            raise UserError(f"role {name!r} would exist twice; leave it out of --annotate")
    return tuple(f"{role(a)}={places.absolute(model(a))}" if "=" in a else a for a in annotators)
