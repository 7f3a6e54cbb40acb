"""Worker processes on this machine: they end with the command that started them, and it ends when one of them dies.

Beam's local runner notices neither: a worker that was started too late waits for ever for a command that is gone, and a
command waits for ever for the results of a worker that ran out of memory.
"""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visent.errors import UserError

VARIABLE = "VISENT_LIFELINE"  # what workers hold on to: the command's process and a file that it removes at its end
SECONDS = 0.5  # between two looks
BEAMS_THREAD = "run_worker"  # of each worker, in the command's process


class Lifeline:
    """The command's end: `check` raises once a worker has died."""

    def __init__(self) -> None:
        self._died: list[str] = []

    def note(self, arguments: threading.ExceptHookArgs) -> None:
        """Takes the place of `threading.excepthook`: Beam's thread of a worker raises when that ends badly."""
        if arguments.thread is not None and arguments.thread.name == BEAMS_THREAD:
            self._died.append(str(arguments.exc_value))

    def check(self) -> None:
        """Raises: `UserError` when a worker process has died."""
        if self._died:
            raise UserError(
                f"a worker process has died ({_cause(self._died[0])}); finished shards are kept: run the same command "
                "again, with fewer workers (--direct_num_workers) if memory was short; `visent status` names the "
                "shards it was at"
            )


def _cause(text: str) -> str:
    """Reads the exit status off Beam's sentence."""
    code = int(text.rsplit(" ", 1)[-1]) if text.rsplit(" ", 1)[-1].lstrip("-").isdigit() else 0
    number = -code if code < 0 else code - 128  # the shell between us adds 128
    names = {member.value: member.name for member in signal.Signals}
    return f"killed by {names[number]}" if number in names else f"exit status {code}"


@contextmanager
def lifeline() -> Iterator[Lifeline]:
    """Keeps workers that are started inside alive until the block ends, however it ends."""
    line, before = Lifeline(), threading.excepthook
    handle, path = tempfile.mkstemp(prefix="visent-lifeline-")
    os.close(handle)
    os.environ[VARIABLE] = f"{os.getpid()}:{path}"
    threading.excepthook = line.note
    try:
        yield line
    finally:
        Path(path).unlink(missing_ok=True)
        os.environ.pop(VARIABLE, None)
        if line._died:
            _wait_for_the_others()
        threading.excepthook = before


def _wait_for_the_others() -> None:
    """Waits for the threads of workers that now end; they raise, too, and nobody is to see it."""
    for thread in threading.enumerate():
        if thread.name == BEAMS_THREAD:
            thread.join(10 * SECONDS)


def hold_on() -> None:
    """Ends this worker process soon after its lifeline is gone. Does nothing where there is none."""
    parent, _, path = os.environ.get(VARIABLE, "").partition(":")
    if not parent:
        return

    def watch() -> None:
        while os.getppid() == int(parent) and Path(path).exists():
            time.sleep(SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
