"""What the lists of video datasets have in common: lines, tables, and the files that they name."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipelines.sources import places
from pipelines.sources.base import Item
from pipelines.sources.files import VIDEO_ENDINGS, below, files_in
from tokenizer.listing import readable
from visent.errors import UserError


def text(root: str, *paths: str) -> str:
    """Returns the text of the first of some files below `root` that is there, else "".

    Raises: `UserError` when it cannot be read as UTF-8 text.
    """
    path = first_there(root, *paths)
    if path is None:
        return ""
    try:
        return places.read(path).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {readable(path)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{readable(path)} is not UTF-8 text ({error}); fetch it again") from error


def lines(root: str, *paths: str) -> list[str]:
    """Returns the lines of such a file, without empty ones.

    Raises: `UserError` as `text`.
    """
    return [line.strip() for line in text(root, *paths).splitlines() if line.strip()]


def fields(line: str, what: str, separator: str | None = None) -> tuple[str, str]:
    """Splits a line at the last separator, white space if none is named; `what` says what it should be.

    Raises: `UserError` when there are not two parts.
    """
    parts = line.rsplit(separator, maxsplit=1)
    if len(parts) != 2:
        raise UserError(f"the line {line!r} is no {what}; fetch the file again")
    return parts[0], parts[1].strip()


def table(root: str, paths: Sequence[str], columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yields the rows of such a file, a CSV whose header must name `columns`.

    Raises: `UserError` for a header without one of them, or a row that is too short.
    """
    rows = csv_rows(io.StringIO(text(root, *paths), newline=""), paths[0])
    _, header = next(rows, (1, list(columns)))
    missing = [column for column in columns if column not in header]
    if missing:
        raise UserError(f"{paths[0]}: no column {missing[0]!r} among {', '.join(header)}; fetch the file again")
    for number, row in rows:
        if len(row) < len(header):
            raise UserError(f"{paths[0]}, line {number}: {len(row)} values for {len(header)} columns")
        yield dict(zip(header, row, strict=False))


def csv_rows(text: Iterable[str], where: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a CSV that hold something, each with the number of its line.

    Raises: `UserError` for what is none: a value longer than any name, a byte of zero.
    """
    rows = csv.reader(text)
    try:
        yield from ((rows.line_num, row) for row in rows if row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{readable(where)}, line {rows.line_num}: no CSV ({error}); fetch the file again") from error


def first_there(root: str, *paths: str) -> str | None:
    """Returns the full path of the first of some files below `root` that is there."""
    return next((below(root, path) for path in paths if places.exists(below(root, path))), None)


def videos_in(root: str, folder: str) -> dict[str, str]:
    """Maps the path below `folder`, without its ending, of each video there to its path below `root`."""
    return {os.path.splitext(os.path.relpath(path, folder))[0]: path for path in files_in(root, folder, VIDEO_ENDINGS)}  # noqa: PTH122


def video_item(key: str, path: str | None, named: str, meta: Mapping[str, Any] = {}, **data: Any) -> Item:
    """Makes the item of a video that a list names; without a `path` it is the reject "missing-video" of that name."""
    files = {"video": named if path is None else path}
    return Item(key=key, files=files, data={"meta": dict(meta), **data}, reject="" if path else "missing-video")
