"""Where a benchmark ran: every stored result says so itself."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
LIBRARIES = ("apache-beam", "array-record", "flax", "jax", "numpy", "pillow", "pyarrow")


def describe() -> dict[str, Any]:
    """Returns processor, cores, memory in GiB, Python and library versions."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    kib = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(kib / 2**20, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def save(name: str, results: dict[str, Any]) -> Path:
    """Writes `results/<name>-<date>.json` with the machine's description, and returns its path."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    path = RESULTS / f"{name}-{date}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"date": date, "machine": describe(), "results": results}, indent=2) + "\n")
    print(f"written: {path}")
    return path


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
