"""The colours that stand for classes in a role's pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from visent.errors import UserError

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Legend:
    """Class ids and their colours, in the order of the ids; `ignored` ids count in no figure."""

    ids: tuple[int, ...]
    colours: tuple[Colour, ...]
    names: tuple[str, ...] = ()  # may be unknown
    ignored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.ids or len(self.ids) != len(self.colours) or (self.names and len(self.names) != len(self.ids)):
            raise UserError(
                f"a legend of {len(self.ids)} ids, {len(self.colours)} colours and {len(self.names)} names: expected "
                "a colour for each of at least one id, and names for all or none"
            )
        if list(self.ids) != sorted(set(self.ids)):
            raise UserError(f"the ids of a legend are not in order or come twice: {self.ids[:8]}")
        if any(not 0 <= value <= 255 for colour in self.colours for value in colour):
            raise UserError("a colour of a legend has a value outside 0..255")

    @property
    def palette(self) -> UInt8[np.ndarray, "k 3"]:
        """The colours, one row for each id."""
        return np.array(self.colours, np.uint8)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {"ids": list(self.ids), "colours": [list(colour) for colour in self.colours], "names": list(self.names),
                "ignored": list(self.ignored)}  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Legend":
        """Reads `to_json`'s form.

        Raises:
            UserError: it is none.
        """
        try:
            return cls(
                ids=_numbers(value["ids"]), colours=tuple(_colour(colour) for colour in value["colours"]),
                names=tuple(map(str, value["names"])), ignored=_numbers(value["ignored"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"this is no legend of colours ({error!r}): make the pixels again") from error


def _numbers(values: Sequence[Any]) -> tuple[int, ...]:
    if odd := [value for value in values if type(value) is not int]:
        raise ValueError(f"{odd[0]!r} is no whole number")
    return tuple(values)


def _colour(values: Sequence[Any]) -> Colour:
    red, green, blue = _numbers(values)
    return red, green, blue
