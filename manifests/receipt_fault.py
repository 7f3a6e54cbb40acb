"""What the receipt of a shard may say, before it is believed: whoever copies a dataset has it from somebody."""

from collections.abc import Mapping
from typing import Any

from visent.untrusted.names import is_plain

_TEXTS = ("file", "unit", "split", "sha256", "keys_sha256", "config_digest")
_COUNTS = ("first_view", "last_view", "rows", "bytes")
_ENDINGS = (".parquet", ".arrayrecord")


def receipt_fault(value: Mapping[str, Any]) -> str:
    """Returns what is wrong with a receipt that has all its fields; "" when nothing is.

    Names must be those of files right in the dataset's folder: views are written by the name of their unit.
    """
    for name in _TEXTS:
        if type(value[name]) is not str:
            return f"{name} is {str(value[name])[:40]!r}, expected text"
    for name in ("file", "unit"):
        if not is_plain(value[name]):
            return f"{name} is no name of a file in the dataset's folder"
    if not value["file"].endswith(_ENDINGS):
        return "file is no shard"
    for name in _COUNTS:
        if type(value[name]) is not int or value[name] < 0:
            return f"{name} is {str(value[name])[:40]!r}, expected a whole number"
    rows = value["rows_per_view"]
    if type(rows) not in (list, tuple) or not _are_counts(rows):
        return "rows_per_view is no list of whole numbers"
    if len(rows) != value["last_view"] - value["first_view"] + 1 or sum(rows) != value["rows"]:
        return "rows_per_view does not fit its views and rows"
    for name in ("frames", "rejects"):
        if type(value[name]) is not dict or not _are_counts(value[name].values()):
            return f"{name} is no table of whole numbers"
    if not all(length.isdecimal() and length.isascii() and len(length) < 10 for length in value["frames"]):
        return "frames names lengths that are no whole numbers"
    made_with = value["made_with"]
    if type(made_with) is not dict or not all(type(text) is str for text in made_with.values()):
        return "made_with is no table of texts"
    return ""


def _are_counts(values: Any) -> bool:
    return all(type(value) is int and value >= 0 for value in values)
