"""Keeps what XLA compiles, so that the same command starts sooner the next time."""

import hashlib
import os
from pathlib import Path

VARIABLE = "JAX_COMPILATION_CACHE_DIR"  # JAX's own; worker processes inherit it
FEATURES = ("model name", "flags", "Features", "CPU implementer", "CPU part")  # of x86 and of Arm


def keep_compiled(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Points JAX to a folder below VISENT_CACHE (default `~/.cache/visent`), before it is imported.

    The folder's name tells the processor: code for another one, in a home folder that several machines share, could
    stop the process. Nothing is kept where the processor does not say what it is, where the folder cannot be written,
    or where JAX_COMPILATION_CACHE_DIR is set, be it to "".
    """
    if VARIABLE in os.environ:
        return
    try:
        folder = _root() / f"jax-{_processor(cpuinfo)}"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        os.environ[VARIABLE] = str(folder)


def _root() -> Path:
    return Path(os.environ.get("VISENT_CACHE") or Path.home() / ".cache" / "visent").expanduser().absolute()


def _processor(cpuinfo: Path) -> str:
    """Returns a short hash of what the first processor can do."""
    first = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    lines = [line for line in first.splitlines() if line.startswith(FEATURES)]
    if not lines:
        raise OSError(f"{cpuinfo} names no features")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
