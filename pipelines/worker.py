"""A worker process of Beam's local runner (`python -m pipelines.worker`), which keeps Beam's log off the screen."""

import logging
import os
import sys

if __name__ == "__main__":
    if not os.environ.get("VISENT_TRACEBACK"):
        logging.disable(logging.CRITICAL)
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)  # type: ignore[no-untyped-call]
