"""Which samples of a table are wanted: conditions on its columns."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from visent.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Condition:
    """`least` <= the column's value <= `most`, or the value as text is `text`; an empty value meets nothing."""

    column: str
    least: float | None = None
    most: float | None = None
    text: str | None = None

    def holds(self, values: pa.ChunkedArray) -> Bool[np.ndarray, " n"]:
        """Says for each value whether it meets the condition: bool[n].

        Raises: `UserError` when a number is compared with a column that holds none.
        """
        try:
            if self.text is not None:
                held = pc.equal(values.cast(pa.string()), self.text)
            else:
                numbers = values.cast(pa.float64())
                held = pc.greater_equal(numbers, self.least) if self.most is None else pc.less_equal(numbers, self.most)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(f"column {self.column!r} cannot be compared as asked: {error}") from error
        return np.asarray(held.fill_null(False))


def conditions(
    at_least: Sequence[str], at_most: Sequence[str], only: Sequence[str], min_size: int
) -> tuple[Condition, ...]:
    """Reads the options COLUMN=NUMBER, COLUMN=NUMBER, COLUMN=TEXT and the shortest side in pixels.

    Raises: `UserError` for another form.
    """
    found = [Condition(column=name, least=_number(name, value)) for name, value in _pairs(at_least, "--at-least")]
    found += [Condition(column=name, most=_number(name, value)) for name, value in _pairs(at_most, "--at-most")]
    found += [Condition(column=name, text=value) for name, value in _pairs(only, "--only")]
    if min_size:
        found += [Condition(column=name, least=float(min_size)) for name in ("width", "height")]
    return tuple(found)


def mask(table: pa.Table, wanted: Sequence[Condition]) -> Bool[np.ndarray, " n"]:
    """Says for each row whether it meets all conditions: bool[n]."""
    held = np.ones(table.num_rows, bool)
    for condition in wanted:
        held &= condition.holds(table[condition.column])
    return held


def column_named(name: str, there: Collection[str]) -> str | None:
    """Finds a column by its name, or in another case: LAION's differ in it by release."""
    if name in there:
        return name
    return next((column for column in there if column.lower() == name.lower()), None)


def cell(row: Mapping[str, Any], name: str) -> Any:
    """Returns the value of a column that may be named in another case; None without it."""
    column = column_named(name, row)
    return None if column is None else row[column]


def _pairs(given: Sequence[str], option: str) -> list[tuple[str, str]]:
    pairs = []
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise UserError(f"{option} {text!r}: expected COLUMN=VALUE, as similarity=0.3")
        pairs.append((name, value))
    return pairs


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{name}={value}: {value!r} is no number") from None
