"""`visent evaluate` on a run over a small corpus, in this process or as one of its own, and what it leaves."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from visent.cli import visent
from visent.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
ALONE = {"SLURM_STEP_NUM_TASKS": "1", "OMPI_COMM_WORLD_SIZE": "1"}  # whatever runs the tests


@dataclass(frozen=True)
class Bench:
    """Where everything lies, and what `visent evaluate` makes of it."""

    tokenizer: Path
    corpus: Path
    run: Path
    images: Path  # cards of networks
    clips: Path

    @property
    def networks(self) -> list[str]:
        """Options that give all of them."""
        return [f"--network=images={self.images}", f"--network=clips={self.clips}", f"--network=actions={self.clips}"]

    def arguments(self, *arguments: Any, protocol: str | None = "tasks") -> list[str]:
        """Returns the command line after `visent`."""
        more = [] if protocol is None else ["--protocol", protocol, "--tokenizer", str(self.tokenizer)]
        return ["evaluate", str(self.run), *more, *map(str, arguments)]

    def call(self, *arguments: Any, protocol: str | None = "tasks") -> str:
        """Evaluates in this process; returns what is printed."""
        result = CliRunner().invoke(visent, self.arguments(*arguments, protocol=protocol))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    def refused(self, *arguments: Any, protocol: str | None = "tasks") -> str:
        """Evaluates what cannot be; returns the error, which must be one line."""
        with pytest.raises((UserError, click.ClickException)) as caught:
            visent.main(self.arguments(*arguments, protocol=protocol), prog_name="visent", standalone_mode=False)
        error = caught.value
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        assert message, "an error without words"
        assert "\n" not in message
        return message

    def start(self, *arguments: Any, protocol: str = "tasks", env: dict[str, str] | None = None, **how: Any) -> Any:
        """Starts it as a process of its own."""
        command = [sys.executable, "-m", "visent", *self.arguments(*arguments, protocol=protocol)]
        return subprocess.Popen(command, cwd=ROOT, env=os.environ | ALONE | (env or {}), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)  # fmt: skip


def found(out: Path) -> dict[str, Any]:
    """Returns evaluation.json without what differs from one time to the next: seconds."""
    evaluation = json.loads((out / "evaluation.json").read_text())
    return without(evaluation, "seconds")


def without(value: Any, name: str) -> Any:
    """Returns JSON values without the fields of a name."""
    if isinstance(value, dict):
        return {key: without(each, name) for key, each in value.items() if key != name}
    return [without(each, name) for each in value] if isinstance(value, list) else value


def figures(evaluation: dict[str, Any], part: str) -> dict[str, Any]:
    """Returns the figures of a part by name."""
    (row,) = [row for row in evaluation["rows"] if row["part"]["name"] == part]
    return {figure["name"]: figure for figure in row["figures"]}
