"""The papers' figures, as a file of rows with their sources; users add their own."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from manifests import files
from trainer.protocols.catalog import PROTOCOLS
from trainer.protocols.part import FigureName, Part
from trainer.protocols.results import PaperRow, PaperTokens
from visent.errors import UserError, said, unknown

OURS = Path(__file__).with_name("papers.toml")
NOT_AT_HAND = "not at hand"
MISSING = "the paper's table was not at hand; add it with --papers FILE.toml"
_FIELDS = ("paper", "protocol", "part", "model", "figure", "value", "source")


def load(extra: Sequence[str | Path] = ()) -> tuple[PaperRow, ...]:
    """Returns the rows of `papers.toml` and of other files; figures take the place of rows that have none.

    Raises:
        UserError: a file cannot be read, or a row of it is none.
    """
    added = [row for path in extra for row in read(path)]
    known = {_place(row) for row in added if row.value is not None}
    return (*(row for row in read(OURS) if row.value is not None or _place(row) not in known), *added)


def read(path: str | Path) -> list[PaperRow]:
    """Reads the rows of one file.

    Raises:
        UserError: it is missing or no TOML, or a row lacks a field, names an unknown figure, or has no source.
    """
    try:
        data = tomllib.loads(files.read_bytes(path).decode())
    except FileNotFoundError:
        raise UserError(f"{path} is not there: expected a file of the papers' rows, see docs/evaluation.md") from None
    except ValueError as error:
        raise UserError(f"{path} is not TOML ({said(error)})") from error
    rows = data.get("rows")
    if not isinstance(rows, list) or set(data) - {"rows", "tokens"}:
        raise UserError(f"{path} has {', '.join(data) or 'nothing'}: expected [[rows]] with {', '.join(_FIELDS)}")
    return [_row(row, f"{path}, row {number}") for number, row in enumerate(rows, 1)]


def tokens(protocol: str) -> tuple[PaperTokens, ...]:
    """Returns the published losses, accuracies and perplexities of a protocol's paper, of `papers.toml` alone."""
    rows = tomllib.loads(OURS.read_text(encoding="utf-8"))["tokens"]
    return tuple(PaperTokens(**row) for row in rows if row["protocol"] == protocol)


def rows_of(rows: Sequence[PaperRow], protocol: str, part: Part) -> tuple[PaperRow, ...]:
    """Returns the rows that stand beside a part of a protocol."""
    return tuple(row for row in rows if row.protocol == protocol and row.part == (part.paper or part.name))


def _row(data: Any, where: str) -> PaperRow:
    if not isinstance(data, Mapping):
        raise UserError(f"{where} is {data!r}: expected a table of {', '.join(_FIELDS)}")
    for name in data:
        if name not in _FIELDS:
            raise unknown(f"field in {where}:", name, _FIELDS)
    missing = [name for name in ("paper", "protocol", "part", "figure", "value") if name not in data]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}: expected {', '.join(_FIELDS)}")
    texts = {name: data[name] for name in _FIELDS if name in data and name != "value"}
    wrong = [name for name, text in texts.items() if not isinstance(text, str)]
    if wrong:
        raise UserError(f"{where}: {wrong[0]} is {data[wrong[0]]!r}, expected text")
    if data["figure"] not in get_args(FigureName):
        raise unknown(f"figure in {where}:", data["figure"], get_args(FigureName))
    if data["protocol"] not in PROTOCOLS:
        raise unknown(f"protocol in {where}:", data["protocol"], PROTOCOLS)
    _check_part(data["protocol"], data["part"], where)
    return PaperRow(**texts, value=_value(data, where))


def _check_part(protocol: str, part: str, where: str) -> None:
    make = PROTOCOLS[protocol].make
    known = [each.paper or each.name for each in make().parts] if make else []
    if known and part not in known:
        raise unknown(f"part in {where}:", part, known)


def _value(data: Mapping[str, Any], where: str) -> float | None:
    value = data["value"]
    if value == NOT_AT_HAND:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where}: value is {value!r}, expected a number as printed, or {NOT_AT_HAND!r}")
    if not data.get("source"):
        raise UserError(f"{where} has a value and no source: say where it was read, page and table")
    return float(value)


def _place(row: PaperRow) -> tuple[str, str, str, str]:
    return row.paper, row.protocol, row.part, row.figure
