"""What all sources with named columns share: which column each role is, what names a row, what goes into its meta."""

import datetime
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from manifests.legend import Legend
from pipelines.render.depth import draw_depth
from pipelines.render.labels import draw_labels
from pipelines.render.legends import any_labels
from pipelines.sources.base import Encoded, Example, Reject
from pipelines.sources.dataset import Dataset, RoleKind, option
from pipelines.sources.selection import cell
from tokenizer.listing import readable
from visent.errors import UserError, unknown

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "val"),
    "test": "test",
}
_SPLIT = re.compile(rf"(?<![a-z0-9])({'|'.join(_SPLITS)})(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Table(Dataset):
    """Rows with named columns, of which some hold encoded pictures."""

    root: str
    columns: tuple[str, ...] = option((), "ROLE=COLUMN of pictures, the input first; else image is the one there is.")
    depth: tuple[str, ...] = option((), "Roles of depth maps (16 bit); 'depth' is one.")
    depth_is: Literal["disparity", "distance"] = option("disparity", "Larger depth values are nearer or farther.")
    labels: tuple[str, ...] = option((), "Roles of class ids, painted with the palette of VOC.")
    key_column: str | None = option(None, "Column that names a row, alone in the whole dataset; else its place does.")
    meta: tuple[str, ...] = option((), "Columns to keep in meta; NAME=COLUMN renames.")

    small_items: ClassVar[bool] = False

    def __post_init__(self) -> None:
        named(self.meta, "--meta")
        for role in (*self.depth, *self.labels):
            if role not in self.roles and role != "depth":
                raise unknown("role", role, self.roles)

    @property
    def roles(self) -> Mapping[str, RoleKind]:
        """The roles of --columns, or `image` alone."""
        return dict.fromkeys(named(self.columns, "--columns") or ("image",), "still")

    @property
    def legends(self) -> Mapping[str, Legend]:
        """Of the roles of --labels."""
        return dict.fromkeys(self.labels, any_labels())

    def example(self, key: str, source: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> Example | Reject:
        """Makes an example of a row; `columns` says which column each role is.

        A row without a picture is a reject of stage "read", reason "missing-<role>".
        """
        if self.key_column is not None:
            name = plain(cell(row, self.key_column))
            if name in (None, ""):
                detail = f"column {self.key_column} is empty"
                return Reject(key=key, source=source, stage="read", reason="no-key", detail=detail)
            key = readable(str(int(name) if isinstance(name, float) and name.is_integer() else name))
        media = {}
        for role, column in columns.items():
            data = picture_bytes(row.get(column))
            if data is None:
                return Reject(key=key, source=source, stage="read", reason=f"missing-{role}")
            media[role] = self._make(role)(data)
        return Example(key=key, source=source, media=media, meta=meta_of(row, self.meta))

    def _make(self, role: str) -> Callable[[bytes], Encoded]:
        if role in ("depth", *self.depth):
            return partial(_encoded, partial(draw_depth, depth_is=self.depth_is), False)
        return partial(_encoded, draw_labels, True) if role in self.labels else _photo


def _encoded(decode: Callable[[bytes], Any], exact: bool, data: bytes) -> Encoded:
    return Encoded(data=data, decode=decode, exact=exact)


def _photo(data: bytes) -> Encoded:
    return Encoded(data=data)


def named(given: Sequence[str], option: str) -> dict[str, str]:
    """Reads NAME=COLUMN pairs; a bare column is its own name.

    Raises: `UserError` for an empty or a doubled name.
    """
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, column = text.partition("=")
        if not name or (equals and not column) or name in pairs:
            raise UserError(f"{option}: {text!r} is no new NAME=COLUMN")
        pairs[name] = column or name
    return pairs


def meta_of(row: Mapping[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """Returns the columns for a row's meta by the names that --meta gives them; those without a value are left away."""
    values = {name: plain(cell(row, column)) for name, column in named(given, "--meta").items()}
    return {name: value for name, value in values.items() if value is not None}


def chosen_columns(given: Sequence[str], pictures: Sequence[str], there: Sequence[str], where: str) -> dict[str, str]:
    """Returns the column of each role: as `given`, else role `image` is "image" or the only one of `pictures`.

    Raises: `UserError` when a column is not among those `there`, or no single one can be meant.
    """
    roles = named(given, "--columns")
    for column in roles.values():
        if column not in there:
            raise unknown(f"column of {where}", column, there)
    if roles:
        return roles
    found = [name for name in pictures if name == "image"] or list(pictures)
    if len(found) != 1:
        which = f"holds several columns of pictures ({', '.join(found)})" if found else "has no column of pictures"
        raise UserError(f"{where} {which} among {', '.join(there) or 'none'}; name it as --columns image=COLUMN")
    return {"image": found[0]}


def split_of(path: str) -> str:
    """Returns the split that a path names last: data/validation-00000-of-00002 is of val; else train."""
    found = _SPLIT.findall(path)
    return _SPLITS[found[-1].lower()] if found else "train"


def picture_bytes(value: Any) -> bytes | None:
    """Returns the bytes of a cell: bytes, or {"bytes": ..., "path": ...} as Hugging Face `datasets` stores pictures."""
    if isinstance(value, Mapping):
        value = value.get("bytes")
    return value if isinstance(value, bytes) and value else None


def plain(value: Any) -> Any:
    """Turns a cell into a JSON value; None for what has none."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
