"""A worker process of Beam's local runner (`python -m pipelines.runners.worker`): it keeps to its cores."""

import json
import os
import signal
import sys

from pipelines.runners.crew import enlist, leave
from pipelines.runners.logs import keep_quiet


def share_of_cores(cores: list[int], worker: int, workers: int) -> list[int]:
    """Returns the cores of one of several workers, so that their XLA threads do not fight for the same ones.

    With more workers than cores, each may use all of them.
    """
    return cores if workers > len(cores) else cores[worker % workers :: workers]


def _keep_to_own_cores() -> None:
    """Binds this process; XLA starts as many threads as it finds cores here."""
    options = json.loads(os.environ.get("PIPELINE_OPTIONS", "{}"))
    workers = int(options.get("beam:option:direct_num_workers:v1", 1))
    number = "".join(char for char in os.environ.get("WORKER_ID", "") if char.isdigit())
    if number and workers > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share_of_cores(sorted(os.sched_getaffinity(0)), int(number), workers))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches all at once: no traceback of each
    enlist()  # first: from here on its death is noticed
    keep_quiet()
    _keep_to_own_cores()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)  # type: ignore[no-untyped-call]
    leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is written; Python's tear-down takes a second, and Beam waits for one worker after another
