"""Reads damaged files one after the other, as a worker or a command would, and says what became of each.

Started by `fuzz.py`: a JSON line in for each file, a JSON line out. It watches itself: what is opened outside of the
folder, what a pickle names, whether a process or a connection is started.
"""

import functools
import gc
import json
import os
import re
import resource
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any

from benchmarks.faults.mutate import CANARY, mutated
from benchmarks.faults.readers import READERS, Target, load_targets
from visent.errors import UserError

MOST_ADDRESSES = 24 << 30  # bytes of address space: a lying header cannot take the machine along
MOST_MEMORY = 1 << 30  # that one file may add to what the process holds
FORBIDDEN = {"pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "socket.connect", "socket.getaddrinfo"}


class Watch:
    """Notes what must not happen while a file is read."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.fsdecode(arguments[0])
            if path.endswith(CANARY) or path.endswith("/passwd"):
                self.seen.append(f"opened {path}")
        elif event in FORBIDDEN:
            self.seen.append(f"{event} {str(arguments)[:100]}")


def main() -> None:
    """Serves until the input ends; the first line is the folder of targets."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    broken: list[str] = []
    threading.excepthook = lambda found: broken.append("".join(traceback.format_exception(found.exc_value)))
    work = Path(sys.stdin.readline().strip())
    targets = load_targets(work)
    others = [Path(path).read_bytes() for target in targets.values() for path in _paths(target)[:2]]
    others = [data for data in others if len(data) < 200_000]
    watch = Watch()
    for target in targets.values():  # imports and caches before the first measurement
        _result(target, watch, broken)
    caches = [
        one
        for one in gc.get_objects()
        if isinstance(one, functools._lru_cache_wrapper) and "pipelines" in one.__module__
    ]
    out.write(json.dumps({"ready": len(targets)}) + "\n")
    out.flush()
    for line in sys.stdin:
        order = json.loads(line)
        for cache in caches:  # else the whole file of before would be read
            cache.cache_clear()
        out.write(json.dumps(trial(targets[order["target"]], order["seed"], others, watch, broken)) + "\n")
        out.flush()


def trial(target: Target, seed: str, others: list[bytes], watch: Watch, broken: list[str]) -> dict[str, Any]:
    """Damages one file of a target, has it read, and puts it back."""
    paths = _paths(target)
    path = Path(paths[int.from_bytes(seed.encode()[-3:]) % len(paths)])
    whole = path.read_bytes()
    data, way = mutated(whole, seed, others)
    try:
        path.unlink()  # what reads the old one still has it mapped
        path.write_bytes(data)
        result = _result(target, watch, broken)
    finally:
        path.unlink()
        path.write_bytes(whole)
    return {**result, "file": str(path.relative_to(target.folder)), "way": way}


def _paths(target: Target) -> list[str]:
    return [str(Path(target.folder, name)) for name in target.files]


def _result(target: Target, watch: Watch, broken: list[str]) -> dict[str, Any]:
    watch.seen.clear()
    broken.clear()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _memory("VmRSS")
    watch.on = True
    try:
        outcome, detail = READERS[target.reader](target), ""
    except UserError as error:
        outcome, detail = "refused", str(error)
        if not detail or "\n" in detail.strip():
            outcome, detail = "traceback", f"an error of several lines: {detail!r}"
    except Exception:
        outcome, detail = "traceback", traceback.format_exc()
    finally:
        watch.on = False
    added = _memory("VmHWM") - before
    if broken:
        outcome, detail = "traceback", broken[0]
    if watch.seen:
        outcome, detail = "escaped", watch.seen[0]
    if added > MOST_MEMORY:
        outcome, detail = "memory", f"{added >> 20} MiB more than before; {outcome}: {detail}"
    return {"outcome": outcome, "detail": detail[-3000:], "mib": added >> 20}


def _memory(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    main()
