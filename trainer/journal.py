"""Files of one JSON value per line that a resumed run continues without doubled or missing lines."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manifests import files
from visent.errors import UserError

UPLOAD_SECONDS = 60.0  # an object store cannot append: the whole journal is written again, at most so often


class Journal:
    """Appends lines, each with a `step`.

    In a folder every line is in the file when `write` returns. At a URL the object is written once a minute and by
    `flush`, which a run calls before each checkpoint, so that no line of a step that is not repeated can be lost.
    Of several hosts one writes (`writes`), the others only read.
    """

    def __init__(self, path: str | Path, *, writes: bool = True) -> None:
        self.path, self._writes = str(path), writes
        self._waiting: list[str] | None = None  # at a URL: every line; None until it was read
        self._uploaded, self._at = 0, time.monotonic()

    def write(self, line: Mapping[str, Any]) -> None:
        """Appends one line.

        Raises:
            UserError: the file cannot be written.
        """
        if not self._writes:
            return
        text = json.dumps(line) + "\n"
        if not files.is_url(self.path):
            try:
                with Path(self.path).open("a", encoding="utf-8") as file:
                    file.write(text)
            except OSError as error:
                raise files.cannot_write(self.path, error) from error
            return
        self._remote().append(text)
        if time.monotonic() - self._at > UPLOAD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Uploads what a URL lacks.

        Raises:
            UserError: it cannot be written.
        """
        if self._waiting is not None and len(self._waiting) != self._uploaded:
            files.write_bytes(self.path, "".join(self._waiting).encode())
            self._uploaded, self._at = len(self._waiting), time.monotonic()

    def read(self) -> list[dict[str, Any]]:
        """Returns all whole lines; one cut short by a kill is left out.

        Raises:
            UserError: a line is damaged.
        """
        lines = self._remote() if files.is_url(self.path) else self._stored()
        return [self._value(number, line) for number, line in enumerate(lines, 1)]

    def _value(self, number: int, line: str) -> dict[str, Any]:
        try:
            value = json.loads(line)
            return {**value, "step": int(value["step"])}
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self.path}, line {number}, is damaged ({error}): remove that line, or the file, and run the same "
                "command again"
            ) from error

    def forget_after(self, step: int) -> None:
        """Removes the lines of steps later than `step`: a resumed run writes them again."""
        if not self._writes:
            return
        kept = [json.dumps(line) + "\n" for line in self.read() if line["step"] <= step]
        if files.exists(self.path):
            files.write_bytes(self.path, "".join(kept).encode())
        if files.is_url(self.path):
            self._waiting, self._uploaded = kept, len(kept)

    def _remote(self) -> list[str]:
        if self._waiting is None:
            self._waiting = self._stored()
            self._uploaded = len(self._waiting)
        return self._waiting

    def _stored(self) -> list[str]:
        try:
            lines = files.read_bytes(self.path).decode().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [line for line in lines if line.endswith("\n")]
