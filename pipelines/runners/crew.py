"""The worker processes of this machine: Beam's local runner waits for ever for one that dies, and they for it.

Each writes a file named by its process id into a folder of the job, and removes it when it ends in order. A file
without its process is a worker that was killed: for want of memory, or by a library that crashed. A worker whose
command was killed ends by itself.
"""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "VISENT_CREW"  # names the folder to the workers
COMMAND = "VISENT_COMMAND"  # the id of the process that starts them
LOOK_SECONDS = 0.5  # between two looks at it
PATIENCE = 10.0  # seconds for those that are left to end


@contextmanager
def crew() -> Iterator[str]:
    """Makes the folder, names it to the processes that are started meanwhile, and removes it.

    Beam's threads that speak with a worker die with it and print tracebacks: not meanwhile, and after a death no more.
    """
    loud = threading.excepthook
    if not os.environ.get("VISENT_TRACEBACK"):
        threading.excepthook = lambda _: None
    with tempfile.TemporaryDirectory(prefix="visent-crew-", ignore_cleanup_errors=True) as folder:
        before = {name: os.environ.get(name) for name in (VARIABLE, COMMAND)}
        os.environ.update({VARIABLE: folder, COMMAND: str(os.getpid())})
        try:
            yield folder
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
    threading.excepthook = loud


def enlist() -> None:
    """Says that this process works, and ends it soon after its command has died."""
    if folder := os.environ.get(VARIABLE):
        Path(folder, str(os.getpid())).touch()
        threading.Thread(target=_end_with, args=(int(os.environ[COMMAND]),), name="crew", daemon=True).start()


def _end_with(command: int) -> None:
    while os.getppid() == command:  # else somebody else has taken its children
        time.sleep(LOOK_SECONDS)
    os._exit(1)


def leave() -> None:
    """Says that this process ends in order."""
    if folder := os.environ.get(VARIABLE):
        Path(folder, str(os.getpid())).unlink(missing_ok=True)


def fallen(folder: str) -> list[int]:
    """Returns the ids of the workers that died."""
    return [pid for pid in _enlisted(folder) if not is_alive(pid)]


def dismiss(folder: str) -> None:
    """Ends the workers that are left; what they were making is made again."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        for pid in _enlisted(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, kind)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and any(map(is_alive, _enlisted(folder))):
            time.sleep(0.05)


def _enlisted(folder: str) -> list[int]:
    return sorted(int(name) for name in os.listdir(folder) if name.isdigit())  # noqa: PTH208


def is_alive(pid: int) -> bool:
    """Says whether a process of this machine runs, whoever started it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True
