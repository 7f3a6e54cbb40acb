"""The whole demo, with a few training steps: its report is complete, and a second run does nothing again."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SHORT = ["--train", "stages.images.steps=10", "--train", "stages.sequences.steps=10"]


def _demo(out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "visent", "demo", "--out", str(out), *SHORT]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_demo_writes_a_report_that_stands_alone_and_does_nothing_twice(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    first = _demo(out)
    assert first.returncode == 0, first.stderr[-2000:]
    report = out / "report.html"
    assert str(report) in first.stdout
    sources = re.findall(r'src="([^"]+)"', report.read_text())
    assert len(sources) >= 15
    assert all((out / source).is_file() for source in sources)
    for shown in ("rocket_cut_short", "truncated", "animated", "perplexity", "images/s"):
        assert shown in report.read_text(), shown

    shards = {p: p.stat().st_mtime_ns for p in out.glob("corpus/*/*.parquet")}
    before = (out / "before.png").read_bytes()
    assert before != (out / "after.png").read_bytes(), "the balance changed nothing"
    assert report.read_text().count("photos/rocket_cut_short.jpg") == 1, "a file is listed once, however many views"
    record = json.loads((out / "steps.json").read_text())
    second = _demo(out)
    assert second.returncode == 0, second.stderr[-2000:]
    assert {p: p.stat().st_mtime_ns for p in out.glob("corpus/*/*.parquet")} == shards
    assert json.loads((out / "steps.json").read_text()) == record
    assert (out / "before.png").read_bytes() == before, "the state before balancing is shown, also by a second run"
