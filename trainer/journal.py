"""Files of one JSON value per line that a resumed run continues without doubled or missing lines."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Journal:
    """Appends lines, each with a `step`; every line is on disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, line: Mapping[str, Any]) -> None:
        """Appends one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """Returns all whole lines; one cut short by a kill is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def forget_after(self, step: int) -> None:
        """Removes the lines of steps later than `step`: a resumed run writes them again."""
        kept = [line for line in self.read() if line["step"] <= step]
        if not self.path.exists():
            return
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(self.path)
